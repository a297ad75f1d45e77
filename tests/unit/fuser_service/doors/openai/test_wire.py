"""From requests to queries, and from events to what is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fuser_service.core.rules import ExitKind, Statistic, Weighting
from fuser_service.core.types import (
    Candidate,
    CommittedRound,
    Departure,
    DepartureReason,
    FinishReason,
    JudgedCandidate,
    Message,
    Role,
)
from fuser_service.doors.openai.requests import ChatRequest, CompletionRequest, parsed
from fuser_service.doors.openai.wire import (
    ChatForm,
    Progress,
    TextForm,
    generate_request,
    round_facts,
)
from fuser_service.fusion.events import Finished, RoundCommitted, Started
from fuser_service.validation import Draws, GenerateRequest, Overrides

ROUND = RoundCommitted(
    CommittedRound(
        number=2,
        segment=" is\u2028",
        text=" i",
        winner="b",
        token_count=3,
        candidates=(
            JudgedCandidate(Candidate(" is\u2028", True), ("b", "c"), 0.75, (("a", 0.75),)),
            JudgedCandidate(Candidate(" was", False), ("a",), 0.25, (("a", 0.25),)),
        ),
        took_part=("a", "b", "c"),
        left=(Departure("a", DepartureReason.REJECTED, "why"),),
        recalled=("c",),
        watched=("d",),
        objected=("c",),
    ),
    propose_seconds=0.001,
    score_seconds=0.0025,
    total_seconds=0.004,
)
STARTED = Started("m", ("a", "b", "c"), "s")
FINISHED = Finished(
    FinishReason.LENGTH,
    "s",
    rounds=1,
    output_tokens=3,
    propose_made=3,
    propose_avoided=0,
    score_made=1,
    score_avoided=2,
    lost=(Departure("a", DepartureReason.FAILED, "why"),),
    total_seconds=1.5,
    discarded_tokens=4,
    absent=("c",),
    prompt_tokens=11,
)


def asked(**fields: Any) -> GenerateRequest:
    document = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    return generate_request(parsed(ChatRequest, json.dumps(document).encode()), request_id="r")


def progress(*events: Any, trace: bool = False, **fields: Any) -> Progress:
    progress = Progress(asked(**fields), trace)
    for event in events:
        progress.add(event)
    return progress


def test_a_request_says_nothing_but_what_it_says() -> None:
    prompt = (Message(Role.USER, "x"),)
    assert asked() == GenerateRequest(prompt=prompt, ensemble="m", request_id="r")


def test_every_field_has_its_place() -> None:
    request = asked(
        messages=[
            {"role": "developer", "content": "d"},
            {"role": "assistant"},
            {"role": "user", "content": [{"type": "text", "text": t} for t in "xy"]},
        ],
        max_tokens=5,
        max_completion_tokens=6,
        temperature=1,
        top_p=0.5,
        seed=9,
        stop="z",
        specfuse={
            "segment_tokens": 3,
            "statistic": "per_byte",
            "weighting": "hedge",
            "exit_policy": "none",
            "recall": False,
            "self_judgement": True,
            "fast_finish": False,
            "top_k": 7,
            "session_id": "s",
            "resume": {"committed_segments": ["a", "b"], "committed_tokens": 4},
        },
    )
    assert request == GenerateRequest(
        prompt=(
            Message(Role.SYSTEM, "d"),
            Message(Role.ASSISTANT, ""),
            Message(Role.USER, "x\ny"),
        ),
        ensemble="m",
        max_tokens=6,
        stop=("z",),
        sampling=Draws(temperature=1.0, top_p=0.5, top_k=7),
        seed=9,
        overrides=Overrides(
            segment_tokens=3,
            statistic=Statistic.PER_BYTE,
            weighting=Weighting.HEDGE,
            exit_policy=ExitKind.NONE,
            recall=False,
            self_judgement=True,
            fast_finish=False,
        ),
        committed_segments=("a", "b"),
        committed_tokens=4,
        session_id="s",
        request_id="r",
    )


def test_a_completion_is_raw() -> None:
    request = parsed(CompletionRequest, b'{"model": "m", "prompt": ["x"]}')
    assert generate_request(request, request_id="").prompt == "x"


def test_a_round_tells_who_won_and_by_how_much() -> None:
    facts = json.loads(round_facts(ROUND, trace=False).json_bytes())
    assert facts == {
        "round": 2,
        "segment": " is\u2028",
        "tokens": 3,
        "winner": "b",
        "finished": True,
        "shares": {"a": 0.25, "b": 0.75, "c": 0.75},
        "left": [{"member": "a", "reason": "failed", "detail": "why"}],
        "recalled": ["c"],
        "watched": ["d"],
        "objected": ["c"],
        "milliseconds": {"propose": 1.0, "score": 2.5, "total": 4.0},
    }
    traced = json.loads(round_facts(ROUND, trace=True).json_bytes())
    assert [one["text"] for one in traced["candidates"]] == [" is\u2028", " was"]
    assert traced["candidates"][0]["judgements"] == {"a": 0.75}


def test_prompt_tokens_are_what_the_first_winner_was_given() -> None:
    later = RoundCommitted(CommittedRound(3, "x", "x", "a", 2, (), ()), 0, 0, 0)
    usage = progress(STARTED, ROUND, later, FINISHED).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (11, 5, 16)
    assert progress(STARTED).usage.total_tokens == 0


def test_where_an_answer_stands_includes_what_it_was_resumed_from() -> None:
    resume = {"committed_segments": ["a"], "committed_tokens": 2}
    before = progress(STARTED, specfuse={"resume": resume})
    assert before.resume is None
    before.add(ROUND)
    assert before.resume == {"committed_segments": ["a", " is\u2028"], "committed_tokens": 5}


@pytest.mark.parametrize("form", [ChatForm, TextForm])
def test_what_is_sent_is_one_line_of_ascii(form: Any) -> None:
    done, made = progress(STARTED, ROUND, FINISHED), form("m")
    sent = (made.whole(done), made.text("\u2028\u0085é", done.rounds[0]), made.end(done))
    for one in (*sent, made.usage(done.usage)):
        assert one.isascii()
        assert b"\n" not in one
        assert json.loads(one)["id"] == json.loads(sent[0])["id"]


def test_a_whole_chat_answer() -> None:
    answer = json.loads(ChatForm("m").whole(progress(STARTED, ROUND, FINISHED)))
    message = {"role": "assistant", "content": " is", "refusal": None}
    assert answer["choices"] == [
        {"index": 0, "message": message, "logprobs": None, "finish_reason": "length"}
    ]
    facts = answer["specfuse"]
    assert facts["calls"]["score"] == {"made": 1, "avoided": 2}
    assert (facts["degraded"], facts["absent"], facts["milliseconds"]) == (True, ["c"], 1500.0)
    assert len(facts["rounds"]) == 1


def test_only_the_first_chunk_says_who_speaks() -> None:
    form = ChatForm("m")
    deltas = [json.loads(form.text(text, None))["choices"][0]["delta"] for text in "ab"]
    assert deltas == [{"role": "assistant", "content": "a"}, {"content": "b"}]
    end = json.loads(form.end(progress(STARTED, ROUND, FINISHED)))
    assert end["choices"][0]["delta"] == {}
    assert "rounds" not in end["specfuse"]


def test_what_is_not_complete_has_no_end() -> None:
    with pytest.raises(ValueError, match="not complete"):
        ChatForm("m").end(progress(STARTED, ROUND))
