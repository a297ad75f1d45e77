"""Every file that is made, and its text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deploy.helm.generate import helm, readme, schema, values

CHART: Final = Path(__file__).parents[1] / "specfuse"


def files(chart: Path) -> Iterator[tuple[Path, str]]:
    """The files of a chart, each to be written before the next is asked for: Helm reads the schema.

    Raises:
        Faults: a value is not documented, or its schema makes no sense.
        ValueError: README.md has no marker.
        HelmFailed: the chart refuses an example, or there is no Helm.
    """
    yield from documents(chart)
    for example in examples(chart):
        yield golden(example), helm.template(chart, [example])


def documents(chart: Path) -> Iterator[tuple[Path, str]]:
    """Those that need no Helm.

    Raises:
        Faults: a value is not documented, or its schema makes no sense.
        ValueError: README.md has no marker.
    """
    documented = values.read(chart / "values.yaml")
    text = json.dumps(schema.schema(documented), indent=2, ensure_ascii=False)
    yield chart / "values.schema.json", text + "\n"
    page = chart / "README.md"
    yield page, readme.completed(page.read_text(), documented)


def examples(chart: Path) -> list[Path]:
    """The values of each example, by name."""
    return sorted(chart.glob("examples/*/values.yaml"))


def golden(example: Path) -> Path:
    """Where it is kept what Helm makes of an example."""
    return example.with_name("golden.yaml")
