"""Panels: the base class of all kinds, and Stat. board.py computes their positions."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.models import common, stat
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    FieldConfig,
    FieldConfigSource,
    GridPos,
    Threshold,
    ThresholdsConfig,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.dashboard import Panel as Model
from grafana_foundation_sdk.models.prometheus import Dataquery, PromQueryFormat, QueryEditorMode

from grafana.values import unknown

DATA_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
"""The data source of every panel: the variable ``datasource`` of each dashboard."""

Thresholds = Sequence[tuple[float, str]]
"""Pairs of a value and the colour from this value on; smaller values have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel(ABC):
    """A panel: its title, its description, and its expressions, each by the name of its query."""

    title: str
    description: str
    queries: Mapping[str, str]
    width: int = 0
    """Columns of the grid; 0 for an equal share of the columns that are left in the row."""

    @abstractmethod
    def shown(self, height: int) -> Model:
        """Return Grafana's panel with the options and fields of this kind only; the height is in cells of the grid."""

    @abstractmethod
    def query(self, name: str, expression: str) -> Dataquery:
        """Return Grafana's query for an expression."""

    def model(self, number: int, place: GridPos) -> Model:
        """Return Grafana's panel, complete, with a number and a position."""
        model = self.shown(place.h)
        model.id_val = number
        model.title = self.title
        model.description = self.description
        model.datasource = DATA_SOURCE
        model.grid_pos = place
        model.targets = [self.query(name, expression.strip()) for name, expression in self.queries.items()]
        return model


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat(Panel):
    """A number."""

    thresholds: Thresholds = ()

    def query(self, name: str, expression: str) -> Dataquery:
        """Return an instant query."""
        return instant(name, expression)

    def shown(self, height: int) -> Model:  # noqa: ARG002 - it is as high as it is
        """Return a stat panel: coloured from the first threshold on, grey if the number is unknown."""
        options = stat.Options(
            color_mode=common.BigValueColorMode.BACKGROUND,
            graph_mode=common.BigValueGraphMode.NONE,
            reduce_options=common.ReduceDataOptions(calcs=["lastNotNull"], values=False),
        )
        fields = FieldConfig(
            unit="none", mappings=unknown(), thresholds=steps_of(self.thresholds, "transparent"), no_value="?"
        )
        return Model(type_val="stat", options=options, field_config=FieldConfigSource(fields))


def instant(name: str, expression: str, *, as_table: bool = False) -> Dataquery:
    """Return an instant query."""
    return Dataquery(
        expr=expression,
        ref_id=name,
        instant=True,
        range_val=False,
        format_val=PromQueryFormat.TABLE if as_table else PromQueryFormat.TIME_SERIES,
        editor_mode=QueryEditorMode.CODE,
        datasource=DATA_SOURCE,
    )


def over_time(name: str, expression: str, legend: str) -> Dataquery:
    """Return a range query."""
    return Dataquery(
        expr=expression,
        ref_id=name,
        instant=False,
        range_val=True,
        format_val=PromQueryFormat.TIME_SERIES,
        legend_format=legend,
        editor_mode=QueryEditorMode.CODE,
        datasource=DATA_SOURCE,
    )


def steps_of(thresholds: Thresholds, below: str) -> ThresholdsConfig:
    """Return Grafana's thresholds; ``below`` is the colour of values below the first."""
    base = Threshold(value=None, color=below)
    return ThresholdsConfig(ThresholdsMode.ABSOLUTE, [base, *(Threshold(value, color) for value, color in thresholds)])
