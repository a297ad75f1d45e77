"""Every rule fires for its fault, and stays silent while all is well.

`rules/` has the tests for promtool, a file for each alert and one of a mesh that is well. They are
of the rules with the thresholds that the chart has.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.monitoring import made, series
from deploy.monitoring.alerts import catalogue, plain, values
from tests.chart.release import BASE, needs_helm, outcome, render
from tests.monitoring.asked import nowhere
from tests.monitoring.programs import needs_promtool, promtool

HERE = Path(__file__).parent
FILES = {file.stem: file for file in sorted((HERE / "rules").glob("*.yaml"))}
NAMES = sorted({alert.name for alert in catalogue.ALERTS})
BOOKS = made.REPOSITORY / "docs" / "runbooks"
SECTIONS = ["What it means", "See it", "What to do", "Over when"]

ELSEWHERE = {
    "kube_horizontalpodautoscaler_status_desired_replicas",
    "kube_horizontalpodautoscaler_spec_max_replicas",
}
"""Series that rules ask for and that none of our registries has when a service starts."""


def expected(name: str) -> list[list[Any]]:
    """What is expected of an alert, wherever its own files look at it."""
    files = [yaml.safe_load(FILES[one].read_text()) for one in FILES if one.split(".")[0] == name]
    return [
        look["exp_samples"]
        for file in files
        for test in file["tests"]
        for look in test["promql_expr_test"]
        if f'alertname="{name}"' in look["expr"]
    ]


@needs_promtool
@pytest.mark.parametrize("name", FILES)
def test_rules_tell_of_faults_and_of_nothing_else(name: str) -> None:
    said = promtool("test", "rules", FILES[name])
    assert said.returncode == 0, said.stdout + said.stderr


@needs_promtool
def test_the_file_is_one_that_prometheus_takes() -> None:
    said = promtool("check", "rules", made.RULES)
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_is_seen_to_fire_and_to_be_silent(name: str) -> None:
    looks = expected(name)
    assert any(looks), "it never fires"
    assert not all(looks), "it is never silent"


@pytest.mark.parametrize("name", NAMES)
def test_every_severity_of_an_alert_is_seen(name: str) -> None:
    severities = {alert.severity for alert in catalogue.ALERTS if alert.name == name}
    text = "".join(FILES[one].read_text() for one in FILES if one.split(".")[0] == name)
    assert severities == set(re.findall(r'severity="(\w+)"[^}]*}\', value: 1', text))


def test_rules_ask_for_series_that_there_are() -> None:
    known = series.names() | ELSEWHERE
    recorded = {rule.record for rule in catalogue.RECORDED}
    for group in plain.rules(values.read())["groups"]:
        for rule in group["rules"]:
            asked = set(re.findall(r"\b(?:specfuse|kube)_[a-z_]+[a-z]\b(?!_)", rule["expr"]))
            assert asked <= known, rule
            assert set(re.findall(r"\bspecfuse:\w+:\w+", rule["expr"])) <= recorded, rule


def test_rules_ask_for_labels_and_values_that_there_are() -> None:
    for group in plain.rules(values.read())["groups"]:
        for rule in group["rules"]:
            assert list(nowhere(rule["expr"])) == [], rule


@pytest.mark.parametrize(
    ("expr", "missing"),
    [
        ('rate(specfuse_drafts_ahead_total{outcome="used"}[5m])', []),
        ('specfuse_drafts_ahead_total{namespace="a", outcome=~"used|dropped"}', []),
        (
            'specfuse_drafts_ahead_total{outcome="kept"}',
            ["specfuse_drafts_ahead never has outcome=kept"],
        ),
        ('specfuse_keys{team="a"}', ["specfuse_keys has no label team"]),
    ],
)
def test_what_no_series_has_is_found(expr: str, missing: list[str]) -> None:
    assert list(nowhere(expr)) == missing


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_has_a_runbook(name: str) -> None:
    text = (BOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert "```bash" in text
    assert f"[{name}]({name}.md)" in (BOOKS / "README.md").read_text()


def test_every_runbook_is_of_an_alert() -> None:
    assert {file.stem for file in BOOKS.glob("*.md")} == {*NAMES, "README"}


def test_runbooks_speak_of_series_and_files_that_there_are() -> None:
    known = series.names() | ELSEWHERE
    for file in BOOKS.glob("*.md"):
        text = file.read_text()
        assert set(re.findall(r"\bspecfuse_[a-z_]+[a-z]\b(?!_)", text)) <= known, file
        for target in re.findall(r"\]\(([^)#]+)", text):
            assert (BOOKS / target).exists(), f"{file.name}: {target}"


@needs_helm
def test_the_chart_has_the_same_rules_of_its_own_namespace() -> None:
    release = render(BASE, {"monitoring": {"rules": {"enabled": True}}})
    (rule,) = release.of("PrometheusRule")
    rules = [one for group in rule["spec"]["groups"] for one in group["rules"]]
    for one in rules:
        everywhere = re.sub(r',?namespace="specfuse",?', "", one["expr"])
        scalers = f"(keda-hpa-)?{rule['metadata']['name']}"
        one["expr"] = everywhere.replace("{}", "").replace(scalers, ".*")
    ours = [one for group in plain.rules(values.read())["groups"] for one in group["rules"]]
    assert rules == ours


@needs_helm
@pytest.mark.parametrize("monitor", ["podMonitor", "serviceMonitor"])
def test_where_the_chart_has_series_collected_its_rules_are_of_its_own_release(
    monitor: str,
) -> None:
    """Its monitors have series say so."""
    monitoring = {monitor: {"enabled": True}, "rules": {"enabled": True}}
    (rule,) = render(BASE, {"monitoring": monitoring}).of("PrometheusRule")
    instance = rule["metadata"]["labels"]["app.kubernetes.io/instance"]
    ours = f'namespace="specfuse",app_kubernetes_io_instance="{instance}"'
    scalers = f'horizontalpodautoscaler=~"(keda-hpa-)?{rule["metadata"]["name"]}-model-.+"'
    for group in rule["spec"]["groups"]:
        for one in group["rules"]:
            asked = re.findall(r"{([^}]*)}", one["expr"])
            assert asked
            for matchers in asked:
                assert ours in matchers or matchers == f'namespace="specfuse",{scalers}', one


@needs_helm
def test_thresholds_are_values_of_the_chart() -> None:
    chosen = {
        "thresholds": {"roundSeconds": 0.25},
        "window": "2m",
        "for": {"RoundLatencyHigh": "30s"},
        "disabled": ["MemberDown"],
        "alertLabels": {"team": "inference"},
        "runbooks": "https://books.example",
    }
    release = render(BASE, {"monitoring": {"rules": {"enabled": True, **chosen}}})
    (rule,) = release.of("PrometheusRule")
    rules = [one for group in rule["spec"]["groups"] for one in group["rules"]]
    alerts = {one["alert"]: one for one in rules if "alert" in one}
    slow = alerts["RoundLatencyHigh"]
    assert slow["expr"].endswith("> 0.25")
    assert "[2m]" in slow["expr"]
    assert slow["for"] == "30s"
    assert slow["labels"] == {"severity": "warning", "team": "inference"}
    assert slow["annotations"]["runbook_url"] == "https://books.example/RoundLatencyHigh.md"
    assert "MemberDown" not in alerts


@needs_helm
@pytest.mark.parametrize("wrong", [{"disabled": ["Nothing"]}, {"for": {"Nothing": "1m"}}])
def test_the_chart_refuses_alerts_that_there_are_not(wrong: dict[str, Any]) -> None:
    said = outcome(BASE, {"monitoring": {"rules": {"enabled": True, **wrong}}})
    assert "monitoring.rules: there is no alert Nothing to disable" in said
