"""Panels that are tables, with a row for each label set."""

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
from settings import Settings

from grafana.panels import Panel, Thresholds, instant, steps_of
from grafana.values import PLAIN, Words, unknown, words

LEAST_WIDTH, LEAST_NAME = 50, 150
"""The least width of a column in pixels, and of one with names of machines or what to do; Grafana's default is 150."""

BLANK = " "
"""The text of a cell without a label: without it, Grafana shows the text of the empty panel there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table: a field of the result, which is a label or the value of a query, and its display."""

    field: str
    title: str
    unit: str = ""
    """The unit of a value. Labels are text, because Grafana would show the number 0x40000000 as 1073741824."""
    words: Words | None = None
    """Words for values, with colours."""
    mappings: Sequence[ValueMapping] = ()
    """Mappings for texts, without colours."""
    thresholds: Thresholds = ()
    absent: str = "?"
    """The text in a row without a value."""
    link: str = ""
    width: int = 0
    """In pixels; 0 for what the others leave: names of machines, and prose."""

    def override(self) -> DashboardFieldConfigSourceOverrides:
        """Return Grafana's override for the field, which is renamed to the title."""
        is_value = self.field.startswith("Value")
        properties = [
            DynamicConfigValue("unit", self.unit or ("none" if is_value else "string")),
            DynamicConfigValue("noValue", self.absent if is_value else BLANK),
        ]
        if self.unit == "percentunit":
            properties.append(DynamicConfigValue("decimals", 1))
        if mappings := list(self.mappings) or self._mappings():
            properties.append(DynamicConfigValue("mappings", mappings))
        if is_value:
            properties.append(DynamicConfigValue("thresholds", steps_of(self.thresholds, PLAIN)))
            properties.append(DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
        if self.link:
            properties.append(DynamicConfigValue("links", [{"title": "${__value.text}", "url": self.link}]))
            properties.append(DynamicConfigValue("custom.filterable", value=True))
        if self.words or self.unit.startswith("dateTime"):
            properties.append(DynamicConfigValue("custom.align", "left"))
        if self.width:
            properties.append(DynamicConfigValue("custom.width", self.width))
        elif self.field in {"instance", "problem"}:
            properties.append(DynamicConfigValue("custom.minWidth", LEAST_NAME))
        return DashboardFieldConfigSourceOverrides(MatcherConfig("byName", self.title), properties)

    def _mappings(self) -> list[ValueMapping]:
        if self.words:
            return words(self.words, absent=self.absent)
        return unknown(self.absent) if self.field.startswith("Value") else []


def cohort_columns(settings: Settings) -> tuple[Column, ...]:
    """Return the columns that name the cohort of a row."""
    return tuple(Column(field=label, title=label.title(), width=80) for label in settings.cohort)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Panel):
    """A table of current values.

    Each query returns at most one row for each set of the labels that it groups by. All queries of a table share the
    labels that identify its rows, so Grafana's merge joins them. A missing value stays empty.
    """

    columns: Sequence[Column]
    sort: Sequence[str]
    """Titles of the columns to sort by, the most significant first; a leading ``-`` sorts in descending order."""
    empty: str
    """The text if there is no row."""
    numbers: Sequence[str] = ()
    """Labels that are sorted as numbers, so that ``10`` comes after ``9``."""

    def query(self, name: str, expression: str) -> Dataquery:
        """Return an instant query whose result is a table."""
        return instant(name, expression, as_table=True)

    def shown(self, height: int) -> Model:  # noqa: ARG002 - it is as high as it is
        """Return a table panel with the columns in their order, under their titles, and no others."""
        order = [common.TableSortByFieldState(one.removeprefix("-"), desc=one.startswith("-")) for one in self.sort]
        options = table.Options(sort_by=order)
        fields = FieldConfig(unit="none", no_value=self.empty, custom=common.TableFieldOptions(min_width=LEAST_WIDTH))
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
