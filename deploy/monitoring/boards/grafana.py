"""A board in Grafana's own terms, by its SDK, whose types are Grafana's schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.monitoring.alerts.catalogue import ALERTS
from deploy.monitoring.boards.board import Board, Kind, Panel, Query, Row, Variable

RUNBOOKS: Final = "docs/runbooks"
"""Where runbooks are, unless the chart says another place."""

OBJECTIVE: Final = "0.99"
"""The part of requests that must not fail, unless the chart says another."""

_SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
_TAG: Final = "specfuse"
_WIDTH: Final = 24
_HEIGHTS: Final[Mapping[Kind, int]] = {
    "number": 5,
    "lines": 8,
    "stack": 8,
    "heatmap": 9,
    "table": 8,
}


def text(board: Board) -> str:
    """The board as a file that Grafana loads."""
    return json.dumps(_dashboard(board).build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def _dashboard(board: Board) -> dashboard.Dashboard:
    made = (
        dashboard.Dashboard(board.title)
        .uid(f"{_TAG}-{board.name}")
        .description(board.description)
        .tags([_TAG])
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("30s")
        .link(_to_other_boards())
        .link(_to_runbooks())
        .annotation(_alerts_that_fire())
        .variables(list(_variables(board)))
    )
    for number, (part, at) in enumerate(_laid_out(board), start=1):
        if isinstance(part, Row):
            made = made.with_row(dashboard.Row(part.title).id(number).grid_pos(at))
        else:
            made = made.with_panel(_panel(part).id(number).grid_pos(at))
    return made


def _laid_out(board: Board) -> Iterator[tuple[Row | Panel, models.GridPos]]:
    """Rows and panels with their places. All panels of a line are as high as the highest."""
    top = 0
    for row in board.rows:
        yield row, models.GridPos(1, _WIDTH, 0, top)
        top += 1
        for line in _in_lines(row.panels):
            height = max(_HEIGHTS[panel.kind] for panel in line)
            left = 0
            for panel in line:
                yield panel, models.GridPos(height, panel.width, left, top)
                left += panel.width
            top += height


def _in_lines(panels: Iterable[Panel]) -> list[list[Panel]]:
    """The panels from left to right, and on to the next line as soon as one is full."""
    lines: list[list[Panel]] = [[]]
    for panel in panels:
        if sum(one.width for one in lines[-1]) + panel.width > _WIDTH:
            lines.append([])
        lines[-1].append(panel)
    return lines


def _to_other_boards() -> dashboard.DashboardLink:
    """With what was chosen here."""
    link = dashboard.DashboardLink("Boards").type(models.DashboardLinkType.DASHBOARDS)
    return link.tags([_TAG]).include_vars(True).keep_time(True)  # noqa: FBT003 (the SDK's way)


def _to_runbooks() -> dashboard.DashboardLink:
    link = dashboard.DashboardLink("Runbooks").type(models.DashboardLinkType.LINK).icon("doc")
    return link.url("${runbooks}/README.md").target_blank(True)  # noqa: FBT003 (the SDK's way)


def _alerts_that_fire() -> dashboard.AnnotationQuery:
    names = "|".join(dict.fromkeys(alert.name for alert in ALERTS))
    expr = f'ALERTS{{alertstate="firing", alertname=~"{names}", namespace=~"$namespace"}}'
    made = dashboard.AnnotationQuery().name("Alerts").datasource(_SOURCE)
    return made.enable(True).icon_color("red").expr(expr)  # noqa: FBT003 (the SDK's way)


def _variables(board: Board) -> Iterator[Any]:
    yield dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    yield from map(_choice, board.variables)
    if any("$objective" in query.expr for panel in board.panels for query in panel.queries):
        yield dashboard.TextBoxVariable("objective").label("Objective").default_value(OBJECTIVE)
    yield dashboard.ConstantVariable("runbooks").label("Runbooks").value(RUNBOOKS)


def _choice(variable: Variable) -> dashboard.QueryVariable:
    """All, unless some are chosen. `All` is also of series that lack the label."""
    every = models.VariableOption(text=["All"], value=["$__all"], selected=True)
    query = f"label_values({variable.metric}, {variable.label})"
    made = dashboard.QueryVariable(variable.asked).label(variable.asked.capitalize())
    made = made.query(query).datasource(_SOURCE).current(every).all_value(".*")
    made = made.multi(True).include_all(True)  # noqa: FBT003 (the SDK's way)
    made = made.sort(models.VariableSort.ALPHABETICAL_ASC)
    return made.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)


def _panel(panel: Panel) -> Any:  # noqa: ANN401 (the SDK's builders have no type in common)
    made = _KINDS[panel.kind](panel)
    made = made.title(panel.title).description(panel.said).datasource(_SOURCE).unit(panel.unit)
    for number, query in enumerate(panel.queries):
        made = made.with_target(_target(panel, query, chr(ord("A") + number)))
    return made.links([_to_runbook(alert) for alert in panel.runbooks])


def _to_runbook(alert: str) -> dashboard.DashboardLink:
    link = dashboard.DashboardLink(f"Runbook: {alert}").type(models.DashboardLinkType.LINK)
    return link.url(f"${{runbooks}}/{alert}.md").target_blank(True)  # noqa: FBT003 (the SDK's way)


def _target(panel: Panel, query: Query, letter: str) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query.expr).ref_id(letter).legend_format(query.legend)
    made = made.datasource(_SOURCE).exemplar(panel.exemplars)
    if panel.kind == "table":
        return made.instant().format(PromQueryFormat.TABLE)
    if panel.kind == "heatmap":
        return made.range().format(PromQueryFormat.HEATMAP)
    return made.instant() if panel.kind == "number" else made.range()


def _lines(_: Panel) -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(common_models.LegendDisplayMode.LIST)
    legend = legend.placement(common_models.LegendPlacement.BOTTOM).calcs([])
    made = timeseries.Panel().legend(legend.show_legend(True))  # noqa: FBT003 (the SDK's way)
    made = made.line_width(1).show_points(common_models.VisibilityMode.NEVER)
    return made.min(0.0).fill_opacity(5)


def _stack(panel: Panel) -> timeseries.Panel:
    stacking = common.StackingConfig().mode(common_models.StackingMode.NORMAL)
    return _lines(panel).fill_opacity(40).stacking(stacking)


def _number(panel: Panel) -> stat.Panel:
    made = stat.Panel().graph_mode(common_models.BigValueGraphMode.NONE)
    made = made.text_mode(common_models.BigValueTextMode.VALUE_AND_NAME)
    if panel.words is None:
        return made.color_mode(common_models.BigValueColorMode.NONE)
    words = {
        str(value): models.ValueMappingResult(text=word, index=value)
        for value, word in enumerate(panel.words)
    }
    steps = [models.Threshold(None, "red"), models.Threshold(1.0, "green")]
    thresholds = dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
    return made.mappings([models.ValueMap(words)]).thresholds(thresholds)


def _heatmap(panel: Panel) -> heatmap.Panel:
    colour = heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME)
    axis = heatmap.YAxisConfig().unit(panel.unit).axis_placement(common_models.AxisPlacement.LEFT)
    made = heatmap.Panel().calculate(False).cell_gap(1)  # noqa: FBT003 (the SDK's way)
    return made.color(colour.scheme("Oranges").exponent(0.5).steps(64)).y_axis(axis)


def _table(panel: Panel) -> table.Panel:
    """One line for each team, and a column for each query."""
    columns = {f"Value #{chr(ord('A') + n)}": q.legend for n, q in enumerate(panel.queries)}
    renamed = {"excludeByName": {"Time": True}, "renameByName": columns}
    merged = models.DataTransformerConfig(id_val="merge", options={})
    tidied = models.DataTransformerConfig(id_val="organize", options=renamed)
    return table.Panel().with_transformation(merged).with_transformation(tidied)


_KINDS: Final[Mapping[Kind, Callable[[Panel], Any]]] = {
    "lines": _lines,
    "stack": _stack,
    "number": _number,
    "heatmap": _heatmap,
    "table": _table,
}
