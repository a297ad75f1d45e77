"""What a caller asks, as a request."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specfuse.client import Message, RawPrompt, ResumePoint
from specfuse.client.query import query_of
from specfuse.errors import InvalidArgument
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1 import prompt_pb2

UNICODE = st.text(st.characters(codec="utf-8"))


def test_a_question_is_a_conversation_of_one_turn() -> None:
    request = query_of("Why?", {}).request
    assert request == pb.GenerateRequest(
        conversation=prompt_pb2.Conversation(
            messages=[prompt_pb2.Message(role=prompt_pb2.ROLE_USER, content="Why?")]
        )
    )


def test_a_conversation_keeps_its_turns() -> None:
    turns = [Message("system", "Be brief."), Message("user", "a"), Message("assistant", "b")]
    messages = query_of(turns, {}).request.conversation.messages
    assert [(prompt_pb2.Role.Name(one.role), one.content) for one in messages] == [
        ("ROLE_SYSTEM", "Be brief."),
        ("ROLE_USER", "a"),
        ("ROLE_ASSISTANT", "b"),
    ]


@pytest.mark.parametrize("prompt", ["", RawPrompt(""), []])
def test_an_empty_prompt_is_left_to_the_service_to_refuse(prompt: Any) -> None:
    assert query_of(prompt, {}).request.WhichOneof("prompt") is not None


def test_all_options() -> None:
    query = query_of(
        RawPrompt("Once"),
        {
            "ensemble": "duo",
            "max_tokens": 7,
            "stop": ("\n", "END"),
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 40,
            "seed": 2**64 - 1,
            "segment_tokens": 12,
            "statistic": "per_byte",
            "weighting": "hedge",
            "exit_policy": "entropy_softmax",
            "recall": False,
            "self_judgement": True,
            "fast_finish": True,
            "session_id": "s-1",
            "resume": ResumePoint(("a", " b"), 5, "a b"),
            "timeout": 30,
        },
    )
    assert query.timeout == 30
    assert query.resumed.text == "a b"
    assert query.resumes
    assert query.request == pb.GenerateRequest(
        ensemble="duo",
        raw_prompt="Once",
        max_tokens=7,
        stop=["\n", "END"],
        sampling=prompt_pb2.Sampling(temperature=0.5, top_p=0.9, top_k=40),
        seed=2**64 - 1,
        overrides=pb.Overrides(
            segment_tokens=12,
            statistic=pb.STATISTIC_PER_BYTE,
            weighting=pb.WEIGHTING_HEDGE,
            exit_policy=pb.EXIT_POLICY_ENTROPY_SOFTMAX,
            recall=False,
            self_judgement=True,
            fast_finish=True,
        ),
        committed_segments=["a", " b"],
        committed_tokens=5,
        session_id="s-1",
    )


def test_options_that_are_none_say_nothing() -> None:
    nothing = dict.fromkeys(("max_tokens", "temperature", "top_p", "seed", "recall", "resume"))
    assert query_of("Why?", nothing).request == query_of("Why?", {}).request
    assert query_of("Why?", {"timeout": None}).timeout is None


@pytest.mark.parametrize(
    ("options", "resumes"),
    [
        ({}, True),
        ({"resume": "auto"}, True),
        ({"resume": "never"}, False),
        ({"resume": None}, False),
    ],
)
def test_an_answer_is_gone_on_with_unless_the_caller_says_never(
    options: Any, resumes: bool
) -> None:
    query = query_of("Why?", options)
    assert query.resumes is resumes
    assert query.resumed == ResumePoint()


@pytest.mark.parametrize("wrong", ["always", True, ("a",)])
def test_another_way_to_resume_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="not auto, never or a ResumePoint"):
        query_of("Why?", {"resume": wrong})


def test_zero_and_false_do_say_something() -> None:
    request = query_of("Why?", {"max_tokens": 0, "temperature": 0, "recall": False}).request
    assert request.HasField("max_tokens")
    assert request.HasField("sampling")
    assert request.overrides.HasField("recall")


@pytest.mark.parametrize("half", [{"top_p": 0.9}, {"top_k": 3}])
def test_half_a_sampling_is_refused_because_the_rest_would_silently_be_greedy(half: Any) -> None:
    with pytest.raises(InvalidArgument, match="temperature: missing") as caught:
        query_of("Why?", half)
    assert caught.value.field == "temperature"


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("max_tokens", -1, "-1 is not an integer from 0 to 4294967295"),
        ("max_tokens", 2**32, "4294967296 is not an integer"),
        ("max_tokens", 1.5, "1.5 is not an integer"),
        ("max_tokens", True, "True is not an integer"),
        ("seed", -1, "-1 is not an integer from 0 to 18446744073709551615"),
        ("temperature", "hot", "'hot' is not a number"),
        ("timeout", "soon", "'soon' is not a number"),
        ("statistic", "mode", "'mode' is not one of geometric, mean_probability, per_byte"),
        ("weighting", "unspecified", "'unspecified' is not one of uniform, hedge"),
        ("exit_policy", ["none"], "is not one of none, entropy_softmax"),
        ("recall", 1, "1 is not True or False"),
        ("stop", "END", "give a list of strings"),
        ("ensemble", 3, "a int is not a string"),
        ("session_id", "\ud800", "not valid Unicode: a lone surrogate at character 0"),
    ],
)
def test_wrong_option_is_named_with_its_value_and_limit(option: str, value: Any, says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        query_of("Why?", {option: value})
    assert caught.value.field == option
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("prompt", "field"),
    [
        ("\udfff", "messages[0].content"),
        (RawPrompt("\udfff"), "raw_prompt"),
        ([Message("user", "a"), Message("robot", "b")], "messages[1].role"),
        ([Message("user", 3)], "messages[0].content"),
        ([{"role": "user", "content": "a"}], "messages[0]"),
    ],
)
def test_wrong_prompt_is_named_but_not_quoted(prompt: Any, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        query_of(prompt, {})
    assert caught.value.field == field


def test_the_wrong_one_of_many_strings_is_named() -> None:
    with pytest.raises(InvalidArgument) as caught:
        query_of("Why?", {"stop": ["a", 2]})
    assert caught.value.field == "stop[1]"


def test_option_that_does_not_exist_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"unknown option 'temprature'; there are .*temperature"):
        query_of("Why?", {"temprature": 1})


@given(st.lists(UNICODE), UNICODE, st.integers(0, 2**32 - 1))
def test_text_and_resumption_survive_the_wire(
    segments: list[str], prompt: str, tokens: int
) -> None:
    point = ResumePoint(tuple(segments), tokens)
    sent = query_of(prompt, {"resume": point}).request.SerializeToString()
    received = pb.GenerateRequest.FromString(sent)
    assert list(received.committed_segments) == segments
    assert received.committed_tokens == tokens
    assert received.conversation.messages[0].content == prompt


@pytest.mark.parametrize("timeout", [0.0, -1.0, 1e300, float("inf"), float("nan")])
def test_a_timeout_that_is_none_is_refused(timeout: float) -> None:
    with pytest.raises(InvalidArgument, match="timeout"):
        query_of("x", {"timeout": timeout})
