"""Panels as values: what is asked and how the answer is shown. Only here, and in board.py, is Grafana's model known.

A panel has no place yet; board.py lays them out.
"""

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
    ValueMapping,
)
from grafana_foundation_sdk.models.dashboard import Panel as Model
from grafana_foundation_sdk.models.prometheus import Dataquery, PromQueryFormat, QueryEditorMode

from grafana.values import GOOD

DATA_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
"""Never a fixed one: the variable ``datasource`` of each dashboard."""

Thresholds = Sequence[tuple[float, str]]
"""From which value on which colour; what is smaller than all is green."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel(ABC):
    """What all kinds have: a title, what it means, and the expressions by a name for each."""

    title: str
    description: str
    queries: Mapping[str, str]
    width: int = 0
    """Columns of the grid; 0 for a share of what the others of its row leave."""

    @abstractmethod
    def shown(self) -> Model:
        """Grafana's panel, without what all kinds have."""

    @abstractmethod
    def query(self, name: str, expression: str) -> Dataquery:
        """Grafana's query."""

    def model(self, number: int, place: GridPos) -> Model:
        """Grafana's panel, at a place."""
        model = self.shown()
        model.id_val = number
        model.title = self.title
        model.description = self.description
        model.datasource = DATA_SOURCE
        model.grid_pos = place
        model.targets = [self.query(name, expression.strip()) for name, expression in self.queries.items()]
        return model


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat(Panel):
    """One number, or one word, as it is now."""

    unit: str = "none"
    mappings: Sequence[ValueMapping] = ()
    thresholds: Thresholds = ()
    names: str = ""

    def query(self, name: str, expression: str) -> Dataquery:
        """As it is now."""
        return instant(name, expression, legend=self.names)

    def shown(self) -> Model:
        """Coloured where colour says something."""
        coloured = bool(self.thresholds or self.mappings)
        color_mode = common.BigValueColorMode.BACKGROUND if coloured else common.BigValueColorMode.NONE
        options = stat.Options(
            color_mode=color_mode,
            graph_mode=common.BigValueGraphMode.NONE,
            reduce_options=common.ReduceDataOptions(calcs=["lastNotNull"], values=False),
        )
        fields = FieldConfig(
            unit=self.unit, mappings=list(self.mappings), thresholds=steps_of(self.thresholds), no_value="?"
        )
        return Model(type_val="stat", options=options, field_config=FieldConfigSource(fields))


def instant(name: str, expression: str, *, legend: str = "", as_table: bool = False) -> Dataquery:
    """Ask for what is now."""
    return Dataquery(
        expr=expression,
        ref_id=name,
        instant=True,
        range_val=False,
        format_val=PromQueryFormat.TABLE if as_table else PromQueryFormat.TIME_SERIES,
        legend_format=legend or None,
        editor_mode=QueryEditorMode.CODE,
        datasource=DATA_SOURCE,
    )


def over_time(name: str, expression: str, legend: str) -> Dataquery:
    """Ask for what was, too."""
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


def steps_of(thresholds: Thresholds) -> ThresholdsConfig:
    """As Grafana has them."""
    base = Threshold(value=None, color=GOOD)
    return ThresholdsConfig(ThresholdsMode.ABSOLUTE, [base, *(Threshold(value, color) for value, color in thresholds)])
