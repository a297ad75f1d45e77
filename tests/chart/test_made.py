"""What is made from the chart's values is what they make: `make chart` writes it."""

from __future__ import annotations

import pytest

from deploy.helm.generate import made
from tests.chart.release import EXAMPLES, needs_helm, render


def test_the_schema_and_the_readme_are_those_of_the_values() -> None:
    for path, text in made.documents(made.CHART):
        assert path.read_text() == text, f"{path.name} is not that of values.yaml: run make chart"


@needs_helm
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_golden_output_is_what_helm_makes(example: str) -> None:
    golden = made.golden(EXAMPLES[example]).read_text()
    assert golden == render(EXAMPLES[example]).text, "changed: look at it, then run make chart"
