"""The rules as a file."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from deploy.monitoring.alerts import plain, values


def alerts(**override: object) -> dict[str, dict[str, Any]]:
    """The alerts, by name; of those that have several rules, the last."""
    groups = plain.rules(values.read(override))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def test_a_rule_has_all_that_a_person_needs() -> None:
    rule = alerts()["QuorumLost"]
    assert rule["expr"] == (
        "max by (namespace, app_kubernetes_io_instance, ensemble) (specfuse_ensemble_ready) == 0"
    )
    assert rule["labels"] == {"severity": "critical"}
    assert rule["annotations"]["summary"].endswith("{{ $labels.ensemble }}.")
    assert rule["annotations"]["runbook_url"] == "docs/runbooks/QuorumLost.md"


def test_every_place_for_a_value_is_filled() -> None:
    text = plain.text(values.read())
    assert "${" not in text
    assert "{}" not in text
    assert yaml.safe_load(text) == plain.rules(values.read())


def test_values_reach_the_rules() -> None:
    found = alerts(
        window="30s",
        thresholds={"degradedShare": 0.5},
        alertLabels={"team": "x"},
        disabled=["QuorumLost"],
        **{"for": {"EnsembleDegraded": "1s"}},
    )
    rule = found["EnsembleDegraded"]
    assert "[30s]" in rule["expr"]
    assert rule["expr"].endswith("> 0.5")
    assert (rule["for"], rule["labels"]["team"]) == ("1s", "x")
    assert "QuorumLost" not in found


@pytest.mark.parametrize("key", ["for", "disabled"])
def test_an_alert_that_there_is_not_is_refused(key: str) -> None:
    override: dict[str, object] = {"for": {"Oops": "1s"}, "disabled": ["Oops"]}
    with pytest.raises(ValueError, match=rf"monitoring.rules.{key}: no alert Oops; there are: Q"):
        alerts(**{key: override[key]})
