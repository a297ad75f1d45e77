"""The rules as a template. What Helm makes of it is in tests/monitoring/test_rules.py."""

from __future__ import annotations

import re

from deploy.monitoring.alerts import chart, values


def test_every_threshold_is_asked_for_and_no_other() -> None:
    asked = set(re.findall(r"\.thresholds\.(\w+)", chart.template()))
    assert asked == set(values.read().thresholds)


def test_what_prometheus_fills_in_is_left_to_it() -> None:
    assert "{{`{{ $labels.ensemble }}`}}" in chart.template()


def test_every_alert_may_be_disabled() -> None:
    template = chart.template()
    assert template.count("- alert: ") == len(
        re.findall(r'if not \(has "\w+" \.disabled\)', template)
    )
