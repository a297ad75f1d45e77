"""How the demo shows a question: a worked example."""

from __future__ import annotations

from rich.console import Console

from specfuse.cli.demo_view import Outcome, question_block, summary_table
from specfuse.client import (
    Answer,
    CallCounts,
    Departure,
    DepartureReason,
    Finished,
    FinishReason,
    RoundTimings,
    Segment,
    Started,
)
from specfuse.demo.skills import Part, Question, SkillName

CAPITAL = Part(SkillName.CAPITALS, ("France",))
OPPOSITE = Part(SkillName.OPPOSITES, ("true",))
QUESTION = Question(
    "What is the capital of France? Tell me the opposite of true.", (CAPITAL, OPPOSITE)
)
MEMBERS = ("capitals", "opposites")


def answer(*segments: tuple[str, str], lost: tuple[Departure, ...] = ()) -> Answer:
    events = [
        Segment(
            round=number,
            segment=text,
            text=text,
            winner=winner,
            token_count=1,
            candidates=(),
            active=MEMBERS,
            left=(),
            recalled=(),
            timings=RoundTimings(0.1, 0.1, 0.2),
        )
        for number, (winner, text) in enumerate(segments, 1)
    ]
    calls = CallCounts(3, 1)
    finished = Finished(FinishReason.STOP, "", len(events), 2, calls, calls, lost, bool(lost), 0.4)
    return Answer.of([Started("experts", MEMBERS, ""), *events, finished])


ALONE = {
    "capitals": answer(("capitals", f"{CAPITAL.sentence} {OPPOSITE.sentence_with('dead')}")),
    "opposites": answer(("opposites", f"Who knows? {OPPOSITE.sentence}")),
}
FUSED = answer(
    ("opposites", " "), ("capitals", f"{CAPITAL.sentence} "), ("opposites", OPPOSITE.sentence)
)
OUTCOME = Outcome(QUESTION, ALONE, FUSED)


def plain(renderable) -> list[str]:
    console = Console(width=400)
    with console.capture() as capture:
        console.print(renderable)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_question_shows_the_words_of_each_expert_and_the_whole_fused_answer():
    assert plain(question_block(OUTCOME)) == [
        "",
        QUESTION.prompt,
        "capitals   ✗  Paris  dead",
        f"opposites  ✗  –  {OPPOSITE.answer}",
        f"fused      ✓   {QUESTION.answer}",
        "              segments won: capitals 1, opposites 2 · 6 calls, 2 avoided",
    ]


def test_the_summary_has_a_column_per_question():
    rows = [line.split() for line in plain(summary_table([OUTCOME, OUTCOME]))]
    assert rows == [
        [],
        ["exact", "answers", "2", "parts", "2", "parts"],
        ["capitals", "✗", "✗"],
        ["opposites", "✗", "✗"],
        ["fused", "✓", "✓"],
    ]


def test_an_outcome_is_right_if_the_fused_answer_is_exact_and_nobody_was_lost():
    lost = (Departure("sums", DepartureReason.FAILED),)
    assert OUTCOME.right
    assert not Outcome(QUESTION, ALONE, ALONE["capitals"]).right
    assert not Outcome(QUESTION, ALONE, answer(("capitals", QUESTION.answer), lost=lost)).right
