"""The scripted backend: every number it gives can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from model_service.backends.scripted.backend import ScriptedBackend
from model_service.backends.scripted.settings import Line, ScriptedSection
from model_service.core.types import (
    Candidate,
    Context,
    Message,
    ProposeRequest,
    Role,
    ScoreRequest,
    SegmentFinish,
)
from model_service.metrics import ModelMetrics
from specfuse.deadline import Deadline
from specfuse.errors import (
    ContextTooLong,
    DeadlineExceeded,
    InvalidArgument,
    ModelFailure,
    Overloaded,
    SpecFuseError,
    Unavailable,
)

ANSWER = "Paris is\n\nthe capital."
CONTEXT = Context((Message(Role.USER, "What is the capital of France?"),))
NEVER = Deadline.never()


def scripted(*lines: Line, context_window: int = 100) -> ScriptedBackend:
    script = ScriptedSection(lines=lines, context_window=context_window)
    return ScriptedBackend("s", script, ModelMetrics("s", CollectorRegistry()))


async def test_it_writes_its_answer_segment_by_segment() -> None:
    backend = scripted(Line(answer=ANSWER))
    context, finishes = CONTEXT, []
    while SegmentFinish.END not in finishes:
        proposal = await backend.propose(ProposeRequest(context, max_tokens=2), NEVER)
        finishes.append(proposal.finish)
        assert proposal.token_count == 2
        context = replace(context, committed=(*context.committed, proposal.text))
    assert context.committed == ("Paris is", "\n\nthe capital.")
    assert finishes == [SegmentFinish.LENGTH, SegmentFinish.END]


async def test_it_goes_on_from_what_others_wrote() -> None:
    backend = scripted(Line(answer=ANSWER))
    context = replace(CONTEXT, committed=("Lyon", " was"))
    proposal = await backend.propose(ProposeRequest(context, max_tokens=1), NEVER)
    assert proposal.text == "\n\nthe"


async def test_with_nothing_left_it_ends() -> None:
    context = replace(CONTEXT, committed=(ANSWER,))
    proposal = await scripted(Line(answer=ANSWER)).propose(ProposeRequest(context, 5), NEVER)
    assert (proposal.text, proposal.finish, proposal.token_count) == ("", SegmentFinish.END, 0)
    assert proposal.own_score is not None
    assert proposal.own_score.token_count == 1


async def test_a_stop_string_ends_it() -> None:
    request = ProposeRequest(CONTEXT, max_tokens=5, stop=("\n\n",))
    proposal = await scripted(Line(answer=ANSWER)).propose(request, NEVER)
    assert (proposal.text, proposal.finish) == ("Paris is\n\n", SegmentFinish.STOP)


async def test_scores_are_of_the_words_in_their_places() -> None:
    backend = scripted(Line(answer=ANSWER, own_probability=0.5, other_probability=0.25))
    candidates = (
        Candidate("Paris is", finished=False),
        Candidate("Paris was", finished=False),
        Candidate(ANSWER, finished=True),
        Candidate("", finished=True),
    )
    scores = await backend.score(ScoreRequest(CONTEXT, candidates), NEVER)
    sums = [math.exp(score.logprob_sum) for score in scores.scores]
    assert sums == pytest.approx([0.5**2, 0.5 * 0.25, 0.5**5, 0.25])
    assert scores.usage.context_tokens == 6


@pytest.mark.parametrize(
    ("text", "finished", "probability"),
    [
        ("Pa", False, 0.5),
        ("Paris i", False, 0.5**2),
        ("Pa is", False, 0.25 * 0.5),
        ("Pa", True, 0.25 * 0.25),
        ("P.", False, 0.25),
    ],
)
async def test_a_candidate_may_be_cut_within_its_last_word(
    text: str, finished: bool, probability: float
) -> None:
    backend = scripted(Line(answer=ANSWER, own_probability=0.5, other_probability=0.25))
    candidates = (Candidate(text, finished=finished),)
    scores = await backend.score(ScoreRequest(CONTEXT, candidates), NEVER)
    assert math.exp(scores.scores[0].logprob_sum) == pytest.approx(probability)


async def test_its_own_score_is_what_scoring_says() -> None:
    backend = scripted(Line(answer=ANSWER))
    for limit in (1, 2, 5):
        proposal = await backend.propose(ProposeRequest(CONTEXT, limit), NEVER)
        candidate = Candidate(proposal.text, proposal.finish is SegmentFinish.END)
        scores = await backend.score(ScoreRequest(CONTEXT, (candidate,)), NEVER)
        assert scores.scores == (proposal.own_score,)


async def test_the_first_line_that_applies_counts() -> None:
    backend = scripted(
        Line(when="Spain", answer="Madrid"),
        Line(after_segments=1, answer="France: Paris"),
        Line(answer="France: Lyon"),
    )
    first = await backend.propose(ProposeRequest(CONTEXT, 1), NEVER)
    committed = replace(CONTEXT, committed=(first.text,))
    second = await backend.propose(ProposeRequest(committed, 1), NEVER)
    assert first.text + second.text == "France: Paris"
    spain = await backend.propose(ProposeRequest(Context("Spain?"), 1), NEVER)
    assert spain.text == "Madrid"


async def test_no_line_applies() -> None:
    with pytest.raises(InvalidArgument, match="no line of the script"):
        await scripted(Line(when="Spain")).propose(ProposeRequest(CONTEXT, 1), NEVER)


@pytest.mark.parametrize(
    ("fails", "error"),
    [("unavailable", Unavailable), ("overloaded", Overloaded), ("model_failure", ModelFailure)],
)
async def test_it_fails_as_it_is_told(fails: str, error: type[SpecFuseError]) -> None:
    backend = scripted(Line.model_validate({"fails": fails}))
    with pytest.raises(error):
        await backend.score(ScoreRequest(CONTEXT, (Candidate("x", finished=False),)), NEVER)


async def test_what_does_not_fit_the_window() -> None:
    backend = scripted(Line(answer=ANSWER), context_window=8)
    await backend.propose(ProposeRequest(CONTEXT, max_tokens=2), NEVER)
    with pytest.raises(ContextTooLong, match=r"9 tokens do not fit .* window of 8"):
        await backend.propose(ProposeRequest(CONTEXT, max_tokens=3), NEVER)


@pytest.mark.parametrize(
    "line", [Line(hangs=True), Line(seconds=60.0), Line(answer=ANSWER, token_seconds=60.0)]
)
async def test_a_deadline_ends_its_dawdling(line: Line) -> None:
    with pytest.raises(DeadlineExceeded):
        await scripted(line).propose(ProposeRequest(CONTEXT, 1), Deadline.after(0.01))


async def test_only_drafted_tokens_take_their_time() -> None:
    backend = scripted(Line(answer=ANSWER, token_seconds=60.0))
    candidates = (Candidate("Paris", finished=False),)
    soon = Deadline.after(30)
    scores = await backend.score(ScoreRequest(CONTEXT, candidates), soon)
    assert len(scores.scores) == 1
    over = replace(CONTEXT, committed=(ANSWER,))
    assert (await backend.propose(ProposeRequest(over, 2), soon)).finish is SegmentFinish.END


def test_its_revision_is_of_its_script() -> None:
    one, two = scripted(Line(answer="1")).model, scripted(Line(answer="2")).model
    assert one == scripted(Line(answer="1")).model
    assert one.revision != two.revision


async def test_evidence_is_where_a_candidate_leaves_the_script() -> None:
    backend = scripted(Line(answer=ANSWER, own_probability=0.8, other_probability=0.2))
    candidates = (Candidate("Paris était", finished=True), Candidate("", finished=True))
    scores = await backend.score(ScoreRequest(CONTEXT, candidates), NEVER)
    long, empty = (score.evidence for score in scores.scores)
    assert backend.model.capabilities.evidence
    assert long is not None
    assert long.regret_max == pytest.approx(math.log(4))
    assert long.regret_sum == pytest.approx(2 * math.log(4))
    assert long.regret_offset == long.weakest_offset == len("Paris")
    assert long.entropy is None
    assert empty is not None
    assert empty.regret_offset == 0
