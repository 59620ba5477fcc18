"""Panels over time: Timeline for states, and Lines for numbers."""

from dataclasses import dataclass

from grafana_foundation_sdk.models import common, statetimeline, timeseries
from grafana_foundation_sdk.models.dashboard import FieldColor, FieldColorModeId, FieldConfig, FieldConfigSource
from grafana_foundation_sdk.models.dashboard import Panel as Model
from grafana_foundation_sdk.models.prometheus import Dataquery

from grafana.panels import Panel, over_time
from grafana.values import FAINT, Words, words

CELL, GAP = 30, 8
"""The height of a cell of Grafana's grid, and the gap below it, in pixels."""

BESIDE_ROWS = 130
"""The height of a timeline's title, axis, legend and pager, in pixels."""

ROW = 14
"""The least height of a timeline's row, in pixels: its name is 12 pixels high."""

NOTHING = "-9"
"""The value of the row that says why a timeline has no other."""


EMPTY = "Nothing is known of this time."
"""The text of a panel of numbers without a series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline(Panel):
    """States over time, with a row for each series."""

    names: str
    values: Words
    empty: str
    """The name of the only row if there is no series: without one, Grafana says that data has no time field."""

    def query(self, name: str, expression: str) -> Dataquery:
        """Return a range query that always has a series."""
        label = self.names.partition("{{")[2].partition("}}")[0]
        nothing = f'label_replace(vector({NOTHING}), "{label}", "{self.empty}", "", "")'
        return over_time(name, f"{expression.strip()}\nor on () {nothing}", self.names)

    def shown(self, height: int) -> Model:
        """Return a state timeline with a legend, and pages of as many rows as can be read."""
        options = statetimeline.Options(
            show_value=common.VisibilityMode.AUTO,
            legend=_legend(),
            tooltip=_tooltip(),
            per_page=(height * (CELL + GAP) - GAP - BESIDE_ROWS) // ROW,
        )
        fields = FieldConfig(
            unit="none",
            # Grafana's default for this kind is a gradient, and then there is no legend.
            color=FieldColor(FieldColorModeId.FIXED),
            # No mapping of missing values: they would be drawn as states before the first and after the last.
            mappings=words({**self.values, NOTHING: ("no data", FAINT)})[:1],
            custom=statetimeline.FieldConfig(),
        )
        return Model(type_val="state-timeline", options=options, field_config=FieldConfigSource(fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines(Panel):
    """Numbers over time; if there are several queries, the name of the query follows the name of each series."""

    names: str
    unit: str
    stacked: bool = False
    counts: bool = False
    """The numbers are whole, and change in steps."""

    def query(self, name: str, expression: str) -> Dataquery:
        """Return a range query."""
        return over_time(name, expression, f"{self.names} {name}" if len(self.queries) > 1 else self.names)

    def shown(self, height: int) -> Model:  # noqa: ARG002 - it is as high as it is
        """Return a time series panel whose axis starts at 0."""
        mode = common.StackingMode.NORMAL if self.stacked else common.StackingMode.NONE
        custom = common.GraphFieldConfig(
            line_width=1,
            fill_opacity=30 if self.stacked else 0,
            stacking=common.StackingConfig(mode),
            line_interpolation=common.LineInterpolation.STEP_AFTER if self.counts else None,
        )
        options = timeseries.Options(legend=_legend(), tooltip=_tooltip())
        fields = FieldConfig(
            unit=self.unit, decimals=0 if self.counts else None, min_val=0, custom=custom, no_value=EMPTY
        )
        return Model(type_val="timeseries", options=options, field_config=FieldConfigSource(fields))


def _legend() -> common.VizLegendOptions:
    return common.VizLegendOptions(common.LegendDisplayMode.LIST, common.LegendPlacement.BOTTOM, show_legend=True)


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions(common.TooltipDisplayMode.MULTI, common.SortOrder.DESCENDING)
