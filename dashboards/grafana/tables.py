"""Panels that are tables: Table, of rows, and Matrix, of cells."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.models import common, table
from grafana_foundation_sdk.models.dashboard import (
    DashboardFieldConfigSourceOverrides,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldConfig,
    FieldConfigSource,
    MatcherConfig,
    ValueMapping,
)
from grafana_foundation_sdk.models.dashboard import Panel as Model
from grafana_foundation_sdk.models.prometheus import Dataquery
from settings import COHORT

from grafana.panels import Panel, Thresholds, instant, steps_of
from grafana.values import Words, words


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table: which field of the answer it is, a label or the value of a query, and how it is shown."""

    field: str
    title: str
    unit: str = ""
    """A value's. A label is text even where it looks like a number: of 0x40000000 Grafana would make 1073741824."""
    words: Words | None = None
    """Words for values, with colours."""
    mappings: Sequence[ValueMapping] = ()
    """For texts, without."""
    thresholds: Thresholds = ()
    absent: str = "?"
    """What stands for a value that a row lacks."""
    link: str = ""
    width: int = 0

    def override(self) -> DashboardFieldConfigSourceOverrides:
        """As Grafana's override of the field that was renamed to the title."""
        is_value = self.field.startswith("Value")
        properties = [DynamicConfigValue("unit", self.unit or ("none" if is_value else "string"))]
        if is_value:
            properties.append(DynamicConfigValue("noValue", self.absent))
        if mappings := list(self.mappings) or (words(self.words, absent=self.absent) if self.words else []):
            properties.append(DynamicConfigValue("mappings", mappings))
        if self.thresholds:
            properties.append(DynamicConfigValue("thresholds", steps_of(self.thresholds)))
        if self.thresholds or self.words:
            properties.append(DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
        if self.link:
            properties.append(DynamicConfigValue("links", [{"title": "${__value.text}", "url": self.link}]))
        if self.width:
            properties.append(DynamicConfigValue("custom.width", self.width))
        return DashboardFieldConfigSourceOverrides(MatcherConfig("byName", self.title), properties)


COHORT_COLUMNS = tuple(Column(field=label, title=label.title()) for label in COHORT)
"""Which cohort a row is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Panel):
    """Rows as they are now.

    Each query yields at most one row for the labels that it groups by, and all queries of a table share the labels that
    tell its rows apart, so that to merge them is to join them: a value that a row lacks stays empty.
    """

    columns: Sequence[Column]
    sort: Sequence[str]
    """Titles of columns, the first being the first to count; with a ``-`` before it from the largest on."""
    numbers: Sequence[str] = ()
    """Labels that are numbers: ``10`` comes after ``9``."""

    def query(self, name: str, expression: str) -> Dataquery:
        """As it is now, in rows."""
        return instant(name, expression, as_table=True)

    def shown(self) -> Model:
        """Only the columns that are named, in their order, under their titles."""
        order = [common.TableSortByFieldState(one.removeprefix("-"), desc=one.startswith("-")) for one in self.sort]
        options = table.Options(sort_by=order)
        fields = FieldConfig(unit="none", custom=common.TableFieldOptions(filterable=True))
        overrides = [column.override() for column in self.columns]
        return Model(
            type_val="table",
            options=options,
            field_config=FieldConfigSource(fields, overrides),
            transformations=list(self._transformations()),
        )

    def _transformations(self) -> list[DataTransformerConfig]:
        steps = [DataTransformerConfig("merge", options={})] if len(self.queries) > 1 else []
        if self.numbers:
            conversions = [{"targetField": name, "destinationType": "number"} for name in self.numbers]
            steps.append(DataTransformerConfig("convertFieldType", options={"fields": {}, "conversions": conversions}))
        names = [column.field for column in self.columns]
        organize = {
            "includeByName": dict.fromkeys(names, True),
            "excludeByName": {},
            "indexByName": {name: place for place, name in enumerate(names)},
            "renameByName": {column.field: column.title for column in self.columns},
        }
        return [*steps, DataTransformerConfig("organize", options=organize)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix(Panel):
    """Cells as they are now: the expression yields one value for each pair of the labels of rows and columns."""

    rows: str
    columns: str
    values: Words
    link: str

    def query(self, name: str, expression: str) -> Dataquery:
        """As it is now, in rows."""
        return instant(name, expression, as_table=True)

    def shown(self) -> Model:
        """Columns by their names; a cell that has no value stays empty."""
        matrix = {"rowField": self.rows, "columnField": self.columns, "valueField": "Value", "emptyValue": "null"}
        corner = f"{self.rows}\\{self.columns}"
        cells = common.TableFieldOptions(
            align=common.FieldTextAlignment.CENTER,
            cell_options=common.TableColoredBackgroundCellOptions(mode=common.TableCellBackgroundDisplayMode.BASIC),
        )
        names = [
            DynamicConfigValue("unit", "string"),
            DynamicConfigValue("custom.width", 220),
            DynamicConfigValue("links", [{"title": "${__value.text}", "url": self.link}]),
        ]
        return Model(
            type_val="table",
            options=table.Options(sort_by=[common.TableSortByFieldState(corner, desc=False)]),
            field_config=FieldConfigSource(
                FieldConfig(unit="none", mappings=words(self.values), custom=cells),
                [DashboardFieldConfigSourceOverrides(MatcherConfig("byName", corner), names)],
            ),
            transformations=[
                DataTransformerConfig("sortBy", options={"fields": {}, "sort": [{"field": self.columns}]}),
                DataTransformerConfig("groupingToMatrix", options=matrix),
            ],
        )
