"""Results of several families on one page."""

from __future__ import annotations

from typing import Any

import pytest

from specfuse.eval.outcomes import ALL_ALONE, BEST_ALONE, page, table_of
from specfuse.eval.proportions import Proportion


def row(kind: str, name: str, cell: tuple[str, int], exact: int, invents: int) -> dict[str, Any]:
    return {
        "system": {"kind": kind, "name": name},
        "kind": cell[0],
        "parts": cell[1],
        "asked": 10,
        "exact": exact,
        "invents": invents,
    }


def document(family: str, *rows: dict[str, Any]) -> dict[str, Any]:
    return {"suite": f"{family}@0", "seed": 1, "kinds": list(rows)}


ONE, TWO = ("alone", 1), ("unknown", 2)
DUNE = document(
    "dune-101",
    row("single", "oak", ONE, 9, 1),
    row("single", "oak", TWO, 0, 8),
    row("single", "elm", ONE, 2, 0),
    row("single", "elm", TWO, 6, 0),
    row("fused", "default", ONE, 10, 0),
    row("fused", "default", TWO, 5, 5),
)
HEATH = document("heath-102", row("single", "pine", ONE, 4, 4), row("fused", "default", ONE, 7, 3))


def test_rows_add_up() -> None:
    table = table_of([DUNE, HEATH], "exact")
    assert table["dune-101", "alone", "1"][BEST_ALONE] == Proportion(9, 10)
    assert table["dune-101", "alone", "1"][ALL_ALONE] == Proportion(11, 20)
    assert table["dune-101", "unknown", "2"][BEST_ALONE] == Proportion(0, 10)
    assert table["dune-101", "all", "all"]["fused: default"] == Proportion(15, 20)
    assert table["all", "alone", "all"]["fused: default"] == Proportion(17, 20)
    assert table["all", "alone", "all"][BEST_ALONE] == Proportion(13, 20)
    assert table["all", "all", "all"]["fused: default"] == Proportion(22, 30)
    assert table_of([DUNE], "invents")["all", "unknown", "all"][ALL_ALONE] == Proportion(8, 20)


def test_families_come_first_and_what_is_of_all_last() -> None:
    places = list(table_of([HEATH, DUNE], "exact"))
    assert [place[0] for place in places] == ["dune-101"] * 3 + ["heath-102"] * 2 + ["all"] * 3
    assert places[2] == ("dune-101", "all", "all")
    assert places[-1] == ("all", "all", "all")


def test_the_page_has_a_row_for_each_with_intervals() -> None:
    text = page([DUNE, HEATH])
    assert "# Families dune-101, heath-102; questions of seed 1" in text
    assert "| dune-101 | alone | 1 | 10 | 90 (60-98) | 55 (34-74) | 100 (72-100) |" in text


@pytest.mark.parametrize("wrong", [{}, {"suite": "compound", "seed": 1}, []])
def test_what_is_no_report_is_refused(wrong: Any) -> None:
    with pytest.raises((KeyError, TypeError)):
        page([wrong])
