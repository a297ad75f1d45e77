"""What may be set of the rules."""

from __future__ import annotations

import pytest

from deploy.monitoring.alerts import values


def test_the_chart_has_the_defaults() -> None:
    read = values.read()
    assert read.window == "5m"
    assert read.thresholds["objective"] == 0.99


def test_what_is_laid_over_counts_key_by_key() -> None:
    read = values.read(
        {"thresholds": {"winShare": 0.8}}, {"thresholds": {"kvUsage": 0.9}, "for": {"A": "1m"}}
    )
    assert (read.thresholds["winShare"], read.thresholds["kvUsage"]) == (0.8, 0.9)
    assert read.thresholds["objective"] == 0.99
    assert read.durations == {"A": "1m"}


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ({"windw": "1m"}, "monitoring.rules: there is no windw; there are: "),
        ({"thresholds": {"x": 1}}, "monitoring.rules.thresholds: there is no x; there are: deg"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(
    override: dict[str, object], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        values.read(override)
