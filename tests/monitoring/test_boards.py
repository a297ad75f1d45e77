"""The dashboards keep to Grafana's schema, ask for what there is, and lead to one another."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.monitoring import made, series
from deploy.monitoring.alerts import catalogue
from tests.chart.release import BASE, needs_helm, render
from tests.monitoring import boards
from tests.monitoring.asked import nowhere
from tests.monitoring.boards import Shown, everything, filled, read
from tests.monitoring.programs import needs_promtool, promtool

ELSEWHERE = re.compile(r"kube_|DCGM_|process_|ALERTS")
PANELS = everything()
every_panel = pytest.mark.parametrize("panel", PANELS, ids=str)
every_board = pytest.mark.parametrize("board", boards.FILES)


@every_board
def test_grafanas_schema_has_all_that_is_in_the_file(board: str) -> None:
    """What its types do not know would be lost on the way through them."""
    register_default_plugins()
    through = json.loads(json.dumps(Dashboard.from_json(read(board)), cls=JSONEncoder))
    assert list(lost(read(board), through)) == []


def lost(before: Any, after: Any, at: str = "") -> Iterator[str]:
    """Where something is other than before; what is there in addition, such as defaults, is not."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from lost(value, after.get(key), f"{at}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, value in enumerate(before):
            yield from lost(value, after[number], f"{at}[{number}]")
    elif before != after:
        yield f"{at}: {before} became {after}"


@every_board
def test_panels_do_not_lie_on_each_other(board: str) -> None:
    places = [panel["gridPos"] for panel in read(board)["panels"]]
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
    assert all(place["x"] + place["w"] <= 24 for place in places)


@every_board
def test_panels_have_titles_and_numbers_of_their_own(board: str) -> None:
    panels = read(board)["panels"]
    assert max(Counter(panel["title"] for panel in panels).values()) == 1
    assert max(Counter(panel["id"] for panel in panels).values()) == 1


@every_board
def test_a_board_leads_to_the_others_and_to_the_runbooks(board: str) -> None:
    page = read(board)
    to_boards, to_runbooks = page["links"]
    assert to_boards["tags"] == ["specfuse"]
    assert to_boards["includeVars"]
    assert page["tags"] == ["specfuse"]
    assert to_runbooks["url"] == "${runbooks}/README.md"


@every_board
def test_every_variable_that_is_asked_for_can_be_chosen(board: str) -> None:
    page = read(board)
    known = {variable["name"] for variable in page["templating"]["list"]}
    asked = set(re.findall(r"\$\{?(\w+)", json.dumps(page)))
    assert asked - {"__rate_interval", "__range", "__all"} <= known
    assert {"datasource", "namespace", "ensemble"} <= known


@every_panel
def test_a_panel_asks_for_series_that_there_are(panel: Shown) -> None:
    recorded = {rule.record for rule in catalogue.RECORDED}
    for expr, _ in panel.queries:
        named = set(re.findall(r"(?<![\w:])[a-zA-Z_:\d]+[a-zA-Z\d](?=\{)", expr))
        asked = {name for name in named if not ELSEWHERE.match(name)}
        assert asked <= series.names() | recorded, expr
        assert named or "__name__" in expr


@every_panel
def test_a_panel_asks_for_labels_and_values_that_there_are(panel: Shown) -> None:
    for expr, _ in panel.queries:
        assert list(nowhere(expr)) == []


ON_NO_BOARD = {
    "specfuse_ensemble_sessions",  # of scalers
    "specfuse_member_may_sleep",  # of MemberDown
    "specfuse_member_revisions_lost",
    "specfuse_http_responses",
    "specfuse_model_server_requests_running",
    "specfuse_model_server_retries",
    "specfuse_passes",
    "specfuse_spans_lost",  # of whoever keeps traces
}


def test_what_the_services_count_is_on_a_board() -> None:
    asked = " ".join(expr for panel in PANELS for expr, _ in panel.queries)
    metrics = (*series.fuser(), *series.model(), *series.both())
    shown = {one.name for one in metrics if any(f"{name}{{" in asked for name in one.series)}
    assert {one.name for one in metrics} - shown == ON_NO_BOARD


@every_panel
def test_a_panel_that_asks_for_series_of_others_says_so(panel: Shown) -> None:
    if any(re.search(r"kube_|DCGM_", expr) for expr, _ in panel.queries):
        assert panel.needs_more


@every_panel
def test_series_have_names_by_labels_that_queries_keep(panel: Shown) -> None:
    for expr, legend in panel.queries:
        kept = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", expr))))
        assert set(re.findall(r"{{(\w+)}}", legend)) <= kept, expr
        assert legend


@every_panel
def test_a_panel_leads_to_runbooks_that_there_are(panel: Shown) -> None:
    for link in panel.links:
        name = link.removeprefix("${runbooks}/")
        assert (made.REPOSITORY / "docs" / "runbooks" / name).is_file(), link
    assert panel.description


def test_every_runbook_is_led_to() -> None:
    led_to = {link.removeprefix("${runbooks}/") for panel in PANELS for link in panel.links}
    assert led_to == {alert.runbook for alert in catalogue.ALERTS}


def test_runbooks_name_boards_and_panels_that_there_are() -> None:
    titles = {panel.title for panel in PANELS} | {"Targets"}
    rows = {row.title for board in made.BOARDS for row in board.rows}
    names = {board.title.removeprefix("SpecFuse / ") for board in made.BOARDS}
    for file in (made.REPOSITORY / "docs" / "runbooks").glob("*.md"):
        said = set(re.findall(r"(?<![*\w])\*([A-Z][^*\n]+)\*(?!\*)", file.read_text()))
        assert said <= titles | rows | names, file.name


@needs_promtool
def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    queries = [filled(expr, "1m", "1h") for panel in PANELS for expr, _ in panel.queries]
    rules = [{"record": f"query:{at}", "expr": expr} for at, expr in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    said = promtool("check", "rules", file)
    assert said.returncode == 0, said.stdout + said.stderr


@needs_helm
def test_the_chart_has_the_boards_with_its_own_runbooks_and_objective() -> None:
    rules = {"runbooks": "https://books.example", "thresholds": {"objective": 0.995}}
    labels = {"grafana_dashboard": "1"}
    release = render(BASE, {"monitoring": {"rules": rules, "dashboards": {"enabled": True}}})
    found = {
        name: json.loads(text)
        for one in release.of("ConfigMap")
        if labels.items() <= one["metadata"]["labels"].items()
        for name, text in one["data"].items()
    }
    assert found.keys() == {f"{board}.json" for board in boards.FILES}
    places = [
        (one["name"], one["query"])
        for page in found.values()
        for one in page["templating"]["list"]
        if one["name"] in ("runbooks", "objective")
    ]
    assert dict(places) == {"runbooks": "https://books.example", "objective": "0.995"}
    assert len(places) == len(found) + 1
