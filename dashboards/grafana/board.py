"""A dashboard: its variables, annotations and links, and the position of each panel."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    AnnotationContainer,
    AnnotationQuery,
    Dashboard,
    DashboardCursorSync,
    DashboardDashboardTemplating,
    DashboardDashboardTime,
    DashboardLink,
    DashboardLinkType,
    GridPos,
    RowPanel,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
    VariableType,
)
from grafana_foundation_sdk.models.dashboard import Panel as Model

from grafana.panels import DATA_SOURCE, Panel
from grafana.queries import notable

COLUMNS = 24
"""The width of Grafana's grid."""

FLEET_UID, GUEST_UID, SHARDS_UID = "kvm-fleet", "kvm-guest", "kvm-shards"
TITLES = {FLEET_UID: "KVM fleet", GUEST_UID: "KVM guest", SHARDS_UID: "KVM shards"}

THIS_GUEST = (
    f"/d/{GUEST_UID}?${{__url_time_range}}&${{datasource:queryparam}}&${{job:queryparam}}&var-instance=${{__value.raw}}"
)
"""The URL of the dashboard *KVM guest* for the machine that a cell names."""


class Annotation(AnnotationQuery):
    """Marks the times at which a query's value is above 0.

    The model of Grafana has no title for annotations, because titles belong to the data source for Prometheus.
    """

    def __init__(
        self, name: str, expression: str, color: str, title: str, *, is_time: bool = False, shown: bool = True
    ) -> None:
        """``title`` may contain labels. With ``is_time``, the values are the times to mark, in milliseconds.

        One that is not ``shown`` can be switched on at the top of the dashboard.
        """
        super().__init__(name=name, datasource=DATA_SOURCE, enable=shown, icon_color=color, expr=expression.strip())
        self._title = title
        self._is_time = is_time

    def to_json(self) -> dict[str, object]:
        """Return JSON for Grafana's data source for Prometheus: see processAnnotationResponse in its datasource.ts."""
        return {**super().to_json(), "titleFormat": self._title, "useValueForTime": self._is_time}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels of the same height that fill the width of the dashboard."""

    height: int
    panels: Sequence[Panel]

    def widths(self) -> Sequence[int]:
        """Return the width of each panel in columns. Panels without a width share the remaining columns equally.

        Raises ValueError if the panels do not fill the row.
        """
        rest = [panel for panel in self.panels if not panel.width]
        left = COLUMNS - sum(panel.width for panel in self.panels)
        if left != (left // len(rest) * len(rest) if rest else 0):
            raise ValueError(
                f"{self.panels[0].title!r} and those beside it do not make {COLUMNS} columns; change a width"
            )
        return [panel.width or left // len(rest) for panel in self.panels]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Rows that are folded under a heading: they query nothing until they are unfolded."""

    title: str
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A dashboard: what is wrong comes first, then sections."""

    uid: str
    description: str
    first: Sequence[Row]
    sections: Sequence[Section]
    annotations: Sequence[Annotation]
    variables: Sequence[VariableModel]

    def text(self) -> str:
        """Return the dashboard as classic JSON."""
        other = GUEST_UID if self.uid == FLEET_UID else FLEET_UID
        dashboard = Dashboard(
            uid=self.uid,
            title=TITLES[self.uid],
            description=self.description,
            tags=["kvm", "kvm-exporter"],
            editable=False,
            graph_tooltip=DashboardCursorSync.CROSSHAIR,
            time=DashboardDashboardTime("now-24h", "now"),
            refresh="1m",
            panels=list(placed(self.first, self.sections)),
            templating=DashboardDashboardTemplating(list(self.variables)),
            annotations=AnnotationContainer(list(self.annotations)),
            links=[
                DashboardLink(
                    title=TITLES[other],
                    type_val=DashboardLinkType.LINK,
                    icon="dashboard",
                    tooltip=f"{TITLES[other]}, with the same machines and time",
                    url=f"/d/{other}",
                    include_vars=True,
                    keep_time=True,
                )
            ],
        )
        return json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def placed(first: Sequence[Row], sections: Sequence[Section]) -> Iterator[Model | RowPanel]:
    """Yield every heading and panel with its position, from the top left to the bottom right.

    The panels of a section are inside its heading, and the next heading is placed as if they were not there.
    """
    numbers = count(1)
    y = 0
    yield from _models(first, y, numbers)
    y += sum(row.height for row in first)
    for section in sections:
        place = GridPos(h=1, w=COLUMNS, x=0, y=y)
        number = next(numbers)
        y += 1
        panels = list(_models(section.rows, y, numbers))
        yield RowPanel(title=section.title, id_val=number, grid_pos=place, collapsed=True, panels=panels)


def _models(rows: Sequence[Row], y: int, numbers: Iterator[int]) -> Iterator[Model]:
    for row in rows:
        x = 0
        for panel, width in zip(row.panels, row.widths(), strict=True):
            yield panel.model(next(numbers), GridPos(h=row.height, w=width, x=x, y=y))
            x += width
        y += row.height


def data_source() -> VariableModel:
    """Return the variable that selects a Prometheus."""
    source = variable(
        VariableType.DATASOURCE, "datasource", "Data source", "The Prometheus that scrapes the exporters."
    )
    source.query = "prometheus"
    source.refresh = VariableRefresh.ON_DASHBOARD_LOAD
    return source


def jobs(series: str) -> VariableModel:
    """Return the variable that selects jobs, out of those that a series has."""
    return choice("job", "The scrape jobs of exporters.", f"label_values({series}, job)")


def of_machines(most_machines: int) -> Sequence[VariableModel]:
    """Return the variables of a dashboard that shows at most so many machines individually.

    They are the data source, job, instance, and machine, which holds those that are shown.
    """
    instance = choice("instance", "Their machines.", 'label_values(kvm_exporter_sample_success{job=~"$job"}, instance)')
    description = (
        f"At most {most_machines} of the selected instances, which panels show individually, those with the worst "
        "problems first. To look for a machine, select it as an instance."
    )
    machine = choice("machine", description, f"query_result({one_line(notable(most_machines))})")
    machine.label = f"Shown (at most {most_machines})"
    machine.regex = '/instance="([^"]+)"/'
    machine.sort = VariableSort.DISABLED
    machine.all_value = None
    return data_source(), jobs("kvm_exporter_sample_success"), instance, machine


def choice(name: str, description: str, query: str) -> VariableModel:
    """Return a variable that selects some or all values of a label."""
    model = variable(VariableType.QUERY, name, name.title(), description)
    model.datasource = DATA_SOURCE
    model.query = query
    model.refresh = VariableRefresh.ON_TIME_RANGE_CHANGED
    model.sort = VariableSort.NATURAL_ASC
    model.multi = True
    model.include_all = True
    model.all_value = ".+"
    model.current = VariableOption(selected=True, text=["All"], value=["$__all"])
    return model


def variable(kind: VariableType, name: str, label: str, description: str) -> VariableModel:
    """Return a variable without the model's defaults for interval variables."""
    return VariableModel(kind, name, label=label, description=description, auto=None, auto_min=None, auto_count=None)


def one_line(expression: str) -> str:
    """Return the expression on one line: Grafana parses a variable's query with a pattern for a single line."""
    return " ".join(expression.split())
