"""Panels over time: Timeline for states, and Lines for numbers."""

from dataclasses import dataclass

from grafana_foundation_sdk.models import common, statetimeline, timeseries
from grafana_foundation_sdk.models.dashboard import FieldConfig, FieldConfigSource
from grafana_foundation_sdk.models.dashboard import Panel as Model
from grafana_foundation_sdk.models.prometheus import Dataquery

from grafana.panels import Panel, over_time
from grafana.values import Words, words


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline(Panel):
    """States over time, with a row for each series."""

    names: str
    values: Words

    def query(self, name: str, expression: str) -> Dataquery:
        """Return a range query."""
        return over_time(name, expression, self.names)

    def shown(self) -> Model:
        """Return a state timeline that merges equal states and has pages of 40 rows."""
        options = statetimeline.Options(
            show_value=common.VisibilityMode.AUTO, legend=_legend(), tooltip=_tooltip(), per_page=40
        )
        fields = FieldConfig(unit="none", mappings=words(self.values), custom=statetimeline.FieldConfig())
        return Model(type_val="state-timeline", options=options, field_config=FieldConfigSource(fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines(Panel):
    """Numbers over time; if there are several queries, the name of the query follows the name of each series."""

    names: str
    unit: str
    stacked: bool = False

    def query(self, name: str, expression: str) -> Dataquery:
        """Return a range query."""
        return over_time(name, expression, f"{self.names} {name}" if len(self.queries) > 1 else self.names)

    def shown(self) -> Model:
        """Return a time series panel whose axis starts at 0."""
        mode = common.StackingMode.NORMAL if self.stacked else common.StackingMode.NONE
        custom = common.GraphFieldConfig(
            line_width=1, fill_opacity=30 if self.stacked else 0, stacking=common.StackingConfig(mode)
        )
        options = timeseries.Options(legend=_legend(), tooltip=_tooltip())
        fields = FieldConfig(unit=self.unit, min_val=0, custom=custom)
        return Model(type_val="timeseries", options=options, field_config=FieldConfigSource(fields))


def _legend() -> common.VizLegendOptions:
    return common.VizLegendOptions(common.LegendDisplayMode.LIST, common.LegendPlacement.BOTTOM, show_legend=True)


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions(common.TooltipDisplayMode.MULTI, common.SortOrder.DESCENDING)
