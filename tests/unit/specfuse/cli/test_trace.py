"""How answers are shown: worked examples of the trace and of the JSON report."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from specfuse.cli.report import answer_report
from specfuse.cli.trace import Palette, heading, round_block, summary
from specfuse.client import (
    Answer,
    CallCounts,
    Departure,
    DepartureReason,
    Finished,
    FinishReason,
    Judgement,
    RoundCandidate,
    RoundTimings,
    Segment,
    Started,
)

STARTED = Started("experts", ("capitals", "sums", "colours"), "session")
SCORED = Segment(
    round=2,
    segment=" Paris\nis",
    text=" Paris\nis",
    winner="capitals",
    token_count=3,
    candidates=(
        RoundCandidate(" Paris\nis", False, ("capitals", "sums"), 0.7, (Judgement("sums", 0.7),)),
        RoundCandidate("", True, ("colours",), 0.3, (Judgement("sums", 0.3),)),
    ),
    active=("capitals", "sums", "colours"),
    left=(
        Departure("sums", DepartureReason.EXIT),
        Departure("colours", DepartureReason.FAILED, "UNAVAILABLE: gone"),
    ),
    recalled=("colours",),
    timings=RoundTimings(0.0251, 0.0132, 0.0409),
)
AGREED = replace(
    SCORED,
    round=3,
    segment=".",
    text="",
    candidates=(RoundCandidate(".", True, ("capitals",), 1.0),),
    active=("capitals",),
    left=(),
    recalled=(),
    timings=RoundTimings(0.02, 0.0, 0.0204),
)
FINISHED = Finished(
    reason=FinishReason.STOP,
    text=".",
    rounds=2,
    output_tokens=4,
    propose_calls=CallCounts(4, 2),
    score_calls=CallCounts(3, 3),
    lost=(Departure("colours", DepartureReason.FAILED, "UNAVAILABLE: gone"),),
    degraded=True,
    total_seconds=0.0613,
)
PALETTE = Palette(STARTED.members)


def plain(renderable) -> str:
    """What a file would get."""
    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def styled(renderable) -> str:
    """What a terminal would get."""
    console = Console(width=80, force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_the_heading_says_who_answers():
    assert plain(heading(STARTED)) == "experts: capitals, sums, colours"


def test_a_scored_round_shows_who_proposed_what_with_which_share_and_who_left_or_came_back():
    assert plain(round_block(SCORED, PALETTE)).splitlines() == [
        "",
        "round 2  41 ms (propose 25, score 13)",
        "● capitals, sums  0.70   Paris⏎is",
        "  colours         0.30   ■",
        "  ↩ back: colours",
        "  ↪ left: sums (exit)",
        "  ↪ left: colours (failed: UNAVAILABLE: gone)",
    ]


def test_who_watched_and_who_objected():
    watched = replace(AGREED, watched=("sums", "colours"), objected=("sums",))
    assert plain(round_block(watched, PALETTE)).splitlines()[-2:] == [
        "  ◦ watched: sums, colours",
        "  ! objected: sums",
    ]


def test_a_consensus_is_not_scored_and_an_end_is_marked():
    assert plain(round_block(AGREED, PALETTE)).splitlines() == [
        "",
        "round 3  20 ms (propose 20, unscored)",
        "● capitals  1.00  . ■",
    ]


def test_the_winning_text_has_its_winners_colour():
    red = Palette(("x", *STARTED.members))
    assert "\x1b[36m Paris⏎is" in styled(round_block(SCORED, PALETTE))  # cyan: first member
    assert "\x1b[35m Paris⏎is" in styled(round_block(SCORED, red))  # magenta: second member


def test_the_colours_of_up_to_eight_members_differ_and_strangers_have_none():
    members = tuple(f"m{i}" for i in range(9))
    colours = [Palette(members).colour(member) for member in members]
    assert len(set(colours)) == 8
    assert colours[8] == colours[0]
    assert Palette(members).colour("stranger") == "default"


def test_markup_in_a_proposal_is_text():
    tricky = replace(AGREED, candidates=(RoundCandidate("[red]x[/red]", False, ("sums",), 1.0),))
    assert "[red]x[/red]" in plain(round_block(tricky, PALETTE))


def test_the_summary_counts_and_names_the_lost():
    assert plain(summary(FINISHED)).splitlines() == [
        "2 rounds · 4 tokens · 61 ms · 7 calls made, 5 avoided · stop",
        "degraded: lost colours (failed: UNAVAILABLE: gone)",
    ]


def test_the_summary_names_who_missed_rounds():
    missed = replace(FINISHED, lost=(), absent=("sums", "colours"))
    assert plain(summary(missed)).splitlines()[1:] == [
        "degraded: rounds without sums, colours, late or overloaded",
    ]
    both = replace(FINISHED, absent=("sums",))
    assert " ".join(plain(summary(both)).split()).endswith(
        "lost colours (failed: UNAVAILABLE: gone); rounds without sums, late or overloaded"
    )


@pytest.mark.parametrize(
    ("times", "says"), [(1, "resumed after 1 interruption"), (2, "resumed after 2 interruptions")]
)
def test_the_summary_says_how_often_it_was_resumed(times, says):
    finished = replace(FINISHED, resumed=times, degraded=False)
    assert plain(summary(finished)).splitlines()[1:] == [says]


def test_the_summary_names_what_there_is_to_look_up():
    fine = replace(FINISHED, degraded=False, request_ids=("r-1",))
    assert "r-1" not in plain(summary(fine))
    for trouble in (replace(fine, degraded=True), replace(fine, resumed=1)):
        assert plain(summary(trouble)).splitlines()[-1] == "request r-1"
    resumed = replace(fine, resumed=1, request_ids=("r-1", "r-2"))
    assert plain(summary(resumed)).splitlines()[-1] == "requests r-1, r-2"


def test_the_report_of_an_answer():
    answer = Answer.of([STARTED, SCORED, AGREED, replace(FINISHED, request_ids=("r-1",))])
    assert answer_report(answer) == {
        "text": " Paris\nis.",
        "rounds": [
            {
                "text": " Paris\nis",
                "winner": "capitals",
                "shares": {"capitals": 0.7, "colours": 0.3},
                "active": ["capitals", "sums", "colours"],
                "watched": [],
                "objected": [],
                "milliseconds": pytest.approx(40.9),
            },
            {
                "text": ".",
                "winner": "capitals",
                "shares": {"capitals": 1.0},
                "active": ["capitals"],
                "watched": [],
                "objected": [],
                "milliseconds": pytest.approx(20.4),
            },
        ],
        "calls_made": 7,
        "calls_avoided": 5,
        "members": ["capitals", "sums", "colours"],
        "finish_reason": "stop",
        "lost": [{"member": "colours", "reason": "failed"}],
        "absent": [],
        "resumed": 0,
        "request_ids": ["r-1"],
    }
