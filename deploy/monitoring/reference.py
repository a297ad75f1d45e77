"""The part of `docs/metrics.md` that lists the series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from deploy.monitoring import series
from deploy.monitoring.series import Metric

MARKER: Final = "<!-- series -->"
"""What is below this line is made from the code."""


def completed(page: str) -> str:
    """The page with what its made part should be.

    Raises:
        ValueError: the page has no marker.
    """
    head, marker, _ = page.partition(MARKER)
    if not marker:
        raise ValueError(f"docs/metrics.md has no line {MARKER}: what is below it lists the series")
    parts = [
        head + marker,
        *_section("Of a fuser", series.fuser()),
        *_section("Of a model service", series.model()),
        *_section("Of both", series.both()),
    ]
    return "\n".join(parts) + "\n"


def _section(title: str, metrics: Iterable[Metric]) -> Iterator[str]:
    yield from ("", f"## {title}", "")
    yield from ("| name | type | labels | unit | meaning |", "| --- | --- | --- | --- | --- |")
    for one in metrics:
        labels = "<br>".join(_label(one, label) for label in one.labels)
        ending = "_total" if one.kind == "counter" else ""
        yield f"| `{one.name}{ending}` | {one.kind} | {labels} | {one.unit} | {one.meaning} |"


def _label(metric: Metric, label: str) -> str:
    values = metric.values.get(label, ())
    return f"`{label}`" + (f": {', '.join(values)}" if values else "")
