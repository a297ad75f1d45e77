"""What the records come to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specfuse.eval.families import FamilySuite
from specfuse.eval.proportions import Proportion
from specfuse.eval.records import BEST_RESPONSE, Record, RoundRecord, System, SystemKind
from specfuse.eval.report import report_on, summary_of
from specfuse.eval.suites import CompoundSuite
from specfuse.eval.tables import exactly, inventing, kind_rows, main_rows, markdown, parts_rows
from specfuse.families.invention import invent

SUITE = CompoundSuite(seed=0, count=10)
ALL, ADA = System(SystemKind.FUSED, "all"), System(SystemKind.SINGLE, "ada")
FIRST = RoundRecord("ada", " one", 4, 5, 3, voted=True, recalled=False, skill="sums")
CONSENSUS = replace(FIRST, winner="bob", active=2, candidates=1, voted=False, tokens=6)


def record(system: System, case: str, *, exact: bool, parts: int) -> Record:
    return Record(
        system=system,
        case=case,
        text="",
        ended=True,
        exact=exact,
        marks=(True,) * (parts - 1) + (exact,),
        error=None if exact else "stopped",
        rounds=(FIRST, CONSENSUS),
        calls_made=12,
        calls_avoided=8,
        output_tokens=10,
        discarded_tokens=5,
        first_segment_seconds=0.5,
        seconds=2.0,
        lost=0,
    )


RECORDS = (
    record(ADA, "1-0", exact=True, parts=1),
    record(ALL, "1-0", exact=True, parts=1),
    record(ALL, "2-0", exact=False, parts=2),
    record(ALL, "2-1", exact=True, parts=2),
    record(BEST_RESPONSE, "2-1", exact=False, parts=2),
)
REPORT = report_on(SUITE, 0, (ADA, BEST_RESPONSE, ALL), RECORDS)


def test_a_summary_adds_up() -> None:
    summary = summary_of([one for one in RECORDS if one.system == ALL])
    assert summary.exact == Proportion(2, 3)
    assert summary.by_parts == {1: Proportion(1, 1), 2: Proportion(1, 2)}
    assert summary.by_skill == {"sums": Proportion(1, 1)}
    assert summary.single_parts == Proportion(4, 5)
    assert summary.errors == {"stopped": 1}
    assert (summary.calls_made, summary.calls_avoided) == (36, 24)
    assert summary.calls_by_parts == {1: (12, 8), 2: (24, 16)}
    assert summary.avoided_share == pytest.approx(0.4)
    assert summary.mean_active == pytest.approx(3.5)
    assert summary.active_by_round == (5.0, 2.0)
    assert summary.consensus_calls_avoided == 6
    assert summary.seconds_per_token == pytest.approx(0.25)
    assert summary.wins == {"ada": {"sums": 3}, "bob": {"sums": 3}}


def test_the_keys_of_the_json_report() -> None:
    document = REPORT.to_document()
    systems = {"single", "best_response", "fused", "oracle"}
    assert set(document) == {"suite", "questions", "seed", "kinds", *systems}
    assert document["kinds"] == [], "the demo's questions are of one kind"
    assert (document["suite"], document["questions"], document["seed"]) == ("compound", 10, 0)
    assert document["single"]["ada"]["exact"] == 1.0
    assert document["best_response"]["exact"] == 0.0
    fused = document["fused"]["all"]
    assert {"exact", "exact_by_parts", "calls_made", "calls_avoided", "mean_active"} <= set(fused)
    assert fused["exact_by_parts"] == {"1": 1.0, "2": 0.5}


def test_records_of_other_questions_and_systems_do_not_count() -> None:
    others = (
        record(ALL, "5-99", exact=False, parts=5),
        record(System(SystemKind.FUSED, "x"), "1-0", exact=True, parts=1),
    )
    assert report_on(SUITE, 0, (ADA, BEST_RESPONSE, ALL), RECORDS + others) == REPORT


def test_a_report_of_nothing() -> None:
    empty = report_on(SUITE, 0, (ADA, ALL), ())
    assert empty.to_document()["fused"] == {}
    assert empty.to_document()["best_response"] is None
    assert len(main_rows(empty)) == 1


def test_markdown_has_a_row_for_everyone_and_the_command() -> None:
    page = markdown(REPORT, "specfuse eval --seed 0", {"Quality": "quality.png"})
    assert "\n    specfuse eval --seed 0\n" in page
    assert "![Quality](quality.png)" in page
    for label in ("alone: ada", "best whole response", "fused: all"):
        assert f"| {label} |" in page
    for table in ("\n".join(block) for block in _tables(page)):
        assert len({row.count("|") for row in table.splitlines()}) == 1


def _tables(page: str) -> list[list[str]]:
    return [block.splitlines() for block in page.split("\n\n") if block.lstrip().startswith("| ")]


def test_members_and_calls_by_number_of_parts() -> None:
    assert parts_rows(REPORT) == [
        ["system", "active, 1", "active, 2", "avoided, 1", "avoided, 2"],
        ["fused: all", "3.50", "3.50", "40%", "40%"],
    ]


def test_wilsons_interval() -> None:
    low, high = Proportion(8, 10).interval
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert Proportion(0, 20).interval[0] == 0.0
    assert Proportion(20, 20).interval[1] == 1.0
    assert Proportion(0, 0).interval == (0.0, 1.0)


@given(st.integers(1, 5000), st.data())
def test_the_interval_holds_the_share_and_shrinks(total: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, total))
    low, high = Proportion(hits, total).interval
    assert 0.0 <= low <= hits / total <= high <= 1.0
    wide, narrow = Proportion(hits, total).interval, Proportion(hits * 4, total * 4).interval
    assert narrow[1] - narrow[0] < wide[1] - wide[0]


def test_a_family_is_reported_by_kind_and_parts() -> None:
    suite = FamilySuite(invent(3), seed=0)
    cell = (suite.cases[0].kind, suite.cases[0].parts)
    asked = [case for case in suite.cases if (case.kind, case.parts) == cell][:4]
    right = [
        replace(record(ALL, case.id, exact=True, parts=case.parts), text=case.answer)
        for case in asked[:3]
    ]
    wrong = next(case for case in suite.cases if case.prompt != asked[3].prompt and case.parts == 1)
    broken = replace(record(ALL, asked[3].id, exact=False, parts=1), text=wrong.answer)
    report = report_on(suite, 0, (ALL,), [*right, broken])
    (heading, row, total) = kind_rows(report, exactly)
    assert heading == ["kind", "parts", "asked", "fused: all"]
    assert row == [*map(str, cell), "4", "75 (30-95)"]
    assert total == ["all", "", "4", "75 (30-95)"]
    assert kind_rows(report, inventing)[1][-1] == "0 (0-49)"
    assert "| alone | 1 | 4 | 75 (30-95) |" in markdown(report, "specfuse eval", {})
    (document,) = report.to_document()["kinds"]
    assert (document["kind"], document["parts"], document["asked"]) == (*cell, 4)
    assert (document["exact"], document["invents"]) == (3, 0)
