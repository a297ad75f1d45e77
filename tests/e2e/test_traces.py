"""What a receiver gets of a real mesh: complete traces, whatever became of the requests."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from specfuse.observability.tracing.conventions import CANCELLED, ERROR_TYPE
from tests.support.otlp_receiver import Received
from tests.support.repository import REPOSITORY
from tests.support.traced_mesh import (
    ANSWER_MARK,
    CALLER,
    EXPERT,
    FATES,
    PROMPT_MARK,
    Told,
    told_by_a_mesh,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GENERATE = "specfuse.v1.FuserService/Generate"
CHAT = "POST /v1/chat/completions"
PROPOSE = "specfuse.v1.ModelService/ProposeSegment"
SCORE = "specfuse.v1.ModelService/ScoreSegments"
CLIENT, SERVER = Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_SERVER
INTERNAL = Span.SPAN_KIND_INTERNAL
FUSE = "fuse *"
BEGINS = {(GENERATE, SERVER), (CHAT, SERVER)}
"""What is the first in a trace here."""
WITHIN: Mapping[tuple[str, int], set[tuple[str, int]]] = {
    (FUSE, INTERNAL): {(GENERATE, SERVER), (CHAT, SERVER)},
    ("round", INTERNAL): {(FUSE, INTERNAL)},
    ("propose", INTERNAL): {("round", INTERNAL)},
    ("score", INTERNAL): {("round", INTERNAL)},
    (PROPOSE, CLIENT): {("propose", INTERNAL)},
    (SCORE, CLIENT): {("score", INTERNAL)},
    (PROPOSE, SERVER): {(PROPOSE, CLIENT)},
    (SCORE, SERVER): {(SCORE, CLIENT)},
    ("queue", INTERNAL): {(PROPOSE, SERVER), (SCORE, SERVER)},
    ("forward", INTERNAL): {(PROPOSE, SERVER), (SCORE, SERVER)},
}
"""All other spans that there are, and within which they may be."""

ROUNDING_NANOSECONDS = 1_000_000
"""How far a clock that processes share may seem to go back."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return asyncio.run(told_by_a_mesh(tmp_path_factory.mktemp("traced")))


def kind_of(one: Received) -> tuple[str, int]:
    name = FUSE if one.name.startswith("fuse ") else one.name
    return name, one.span.kind


def traces(told: Told) -> Iterator[dict[str, Received]]:
    """The spans of each trace, by id."""
    by_trace: dict[str, dict[str, Received]] = defaultdict(dict)
    for one in told.spans:
        assert one.span_id not in by_trace[one.trace_id], "a span was sent twice"
        by_trace[one.trace_id][one.span_id] = one
    yield from by_trace.values()


def families(told: Told) -> Iterator[tuple[Received, Received]]:
    """Every span but the first of a trace, with its parent."""
    for spans in traces(told):
        for one in spans.values():
            if one.parent_id in spans:
                yield one, spans[one.parent_id]


def named(spans: list[Received], *names: str, kind: int | None = None) -> list[Received]:
    return [one for one in spans if one.name in names and kind in (None, one.span.kind)]


def only(spans: list[Received]) -> Received:
    (one,) = spans
    return one


def to_member(spans: list[Received], member: str) -> list[Received]:
    return [one for one in spans if one.attributes.get("specfuse.member") == member]


def by_member(spans: list[Received], member: str) -> list[Received]:
    return [one for one in spans if one.resource.get("specfuse.member") == member]


def test_every_request_is_traced(told: Told) -> None:
    assert all(told.of(fate) for fate in FATES)


def test_a_trace_is_one_tree(told: Told) -> None:
    for spans in traces(told):
        roots = [one for one in spans.values() if one.parent_id not in spans]
        root = only(roots)
        assert kind_of(root) in BEGINS
        begun_here = root.trace_id not in FATES.values()
        assert root.parent_id == ("" if begun_here else CALLER)


def test_spans_are_where_they_belong(told: Told) -> None:
    seen = set()
    for one, parent in families(told):
        assert kind_of(parent) in WITHIN[kind_of(one)], f"{one.name} within {parent.name}"
        seen.add(kind_of(one))
    assert seen == WITHIN.keys()


def test_every_span_has_an_end_within_its_parents(told: Told) -> None:
    for one in told.spans:
        assert 0 < one.span.start_time_unix_nano <= one.span.end_time_unix_nano
    for one, parent in families(told):
        slack = ROUNDING_NANOSECONDS
        begun_after = one.span.start_time_unix_nano - parent.span.start_time_unix_nano
        assert begun_after >= -slack, f"{one.name} began before {parent.name}"
        gave_up = parent.span.kind == CLIENT and parent.attributes.get(CANCELLED)
        if not gave_up:  # whoever is told to stop hears of it after the caller has
            ended_before = parent.span.end_time_unix_nano - one.span.end_time_unix_nano
            assert ended_before >= -slack, f"{one.name} ended after {parent.name}"


def test_no_word_of_a_prompt_or_an_answer_is_told(told: Told) -> None:
    assert ANSWER_MARK.upper() in told.answer.upper(), "else nothing is looked for"
    for one in told.spans:
        sent = one.span.SerializeToString() + repr(one.resource).encode()
        for mark in (PROMPT_MARK, ANSWER_MARK):
            assert mark.lower().encode() not in sent.lower(), f"{one.name} tells {mark}"


def test_spans_say_what_is_documented_and_no_more(told: Told) -> None:
    documented = documented_attributes()
    kinds = {CLIENT: "client", SERVER: "server", INTERNAL: "internal"}
    said: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in told.spans:
        name = "fuse …" if one.name.startswith("fuse ") else one.name
        said[name, kinds[one.span.kind]] |= one.attributes.keys() - documented["any", ""]
    for span, attributes in said.items():
        optional = {"specfuse.second_call"} - attributes
        assert attributes == documented[span] - optional, span


def documented_attributes() -> dict[tuple[str, str], set[str]]:
    """What the page about spans says that spans of a name and kind have."""
    documented = {}
    page = (REPOSITORY / "docs" / "spans.md").read_text()
    for row in page.partition("| --- |")[2].splitlines()[1:]:
        if row.startswith("|"):
            _, names, kind, attributes, _ = (cell.strip() for cell in row.split("|"))
            words = set(re.findall(r"`([a-z_.]+)`", attributes.partition("For each who")[0]))
            for name in re.findall(r"`([^`]+)`", names) or [names]:
                documented[name, kind] = words
    return documented


def test_spans_say_of_which_service_they_are(told: Told) -> None:
    for one in told.spans:
        of_model = kind_of(one) in {
            (PROPOSE, SERVER), (SCORE, SERVER), ("queue", INTERNAL), ("forward", INTERNAL)
        }  # fmt: skip
        expected = "specfuse-model" if of_model else "specfuse-fuser"
        assert one.resource["service.name"] == expected, one.name
    for one, parent in families(told):
        if parent.span.kind == CLIENT:
            assert one.resource["specfuse.member"] == parent.attributes["specfuse.member"]


@pytest.mark.parametrize("fate", ["answered", "answered over HTTP"])
def test_an_answer_is_told_round_by_round_and_call_by_call(told: Told, fate: str) -> None:
    spans = told.of(fate)
    whole = only(named(spans, "fuse all"))
    rounds = named(spans, "round")
    assert whole.attributes["gen_ai.operation.name"] == "invoke_workflow"
    assert whole.attributes["gen_ai.usage.output_tokens"] > 0
    assert whole.attributes["specfuse.rounds"] == len(rounds)
    assert [one.attributes["specfuse.round"] for one in rounds] == [
        number + 1 for number in range(len(rounds))
    ]
    members = ("quick", "other", EXPERT)
    assert all(one.attributes["specfuse.winner"] in members for one in rounds)
    for phase in named(spans, "propose", "score"):
        asked = phase.attributes["specfuse.members"]
        calls = [one for one in spans if one.parent_id == phase.span_id]
        assert Counter(one.attributes["specfuse.member"] for one in calls) == Counter(asked)
        assert all(one.attributes["rpc.response.status_code"] == "OK" for one in calls)
    assert len(named(spans, PROPOSE, SCORE, kind=SERVER)) == len(
        named(spans, PROPOSE, SCORE, kind=CLIENT)
    )
    assert not any(one.span.status.code == Status.STATUS_CODE_ERROR for one in spans)
    assert not any(CANCELLED in one.attributes for one in spans)


def test_a_model_in_its_service_tells_of_its_passes(told: Told) -> None:
    spans = by_member(told.of("answered"), EXPERT)
    calls = named(spans, PROPOSE, SCORE)
    told_of_passes = 0
    for call in calls:
        below = sorted(one.name for one in spans if one.parent_id == call.span_id)
        assert below in (["forward", "queue"], ["queue"]), "what is cached needs no pass"
        told_of_passes += "forward" in below
    assert told_of_passes
    assert all(one.attributes["specfuse.passes"] > 0 for one in named(spans, "forward"))


@pytest.mark.parametrize("fate", ["left", "left over HTTP"])
def test_a_caller_that_goes_away_cancels_what_is_under_way_and_no_more(
    told: Told, fate: str
) -> None:
    spans = told.of(fate)
    first, second = named(spans, "round")
    proposing = only([one for one in named(spans, "propose") if one.parent_id == second.span_id])
    calls = [one for one in spans if one.parent_id == proposing.span_id]
    hanging = only(to_member(calls, "stuck"))
    working = only([one for one in spans if one.parent_id == hanging.span_id])
    door = only(named(spans, GENERATE, CHAT))
    whole = only(named(spans, "fuse lasting"))
    under_way = (door, whole, second, proposing, hanging, working)
    assert all(one.attributes.get(CANCELLED) is True for one in under_way)
    assert not any(ERROR_TYPE in one.attributes for one in under_way)
    assert hanging.attributes["rpc.response.status_code"] == "CANCELLED"
    over = [one for one in spans if one.parent_id == first.span_id]
    assert over
    assert not any(CANCELLED in one.attributes for one in (first, *over))


def test_a_straggler_is_cancelled_and_the_answer_is_not(told: Told) -> None:
    spans = told.of("straggled")
    late = [one for one in named(spans, "propose") if missed(one, "stuck")]
    assert late
    for proposing in late:
        assert missed(proposing, "stuck") == ["late"]
        calls = [one for one in spans if one.parent_id == proposing.span_id]
        hanging = only(to_member(calls, "stuck"))
        assert hanging.attributes[CANCELLED] is True
        assert hanging.attributes["rpc.response.status_code"] == "CANCELLED"
    for one in named(spans, "fuse impatient", "round", "propose", GENERATE):
        assert CANCELLED not in one.attributes
    assert only(named(spans, "fuse impatient")).attributes["specfuse.degraded"] is True


def test_who_is_killed_leaves_the_callers_spans_complete(told: Told) -> None:
    spans = told.of("killed")
    proposing = named(spans, "propose")[1]
    calls = to_member([one for one in spans if one.parent_id == proposing.span_id], "doomed")
    assert calls
    for call in calls:
        assert call.attributes["rpc.response.status_code"] == "UNAVAILABLE"
        assert call.attributes[ERROR_TYPE] == "UNAVAILABLE"
        assert call.span.status.code == Status.STATUS_CODE_ERROR
        assert not [one for one in spans if one.parent_id == call.span_id]
    assert missed(proposing, "doomed") == ["failed"]
    whole = only(named(spans, "fuse risky"))
    assert whole.attributes["specfuse.degraded"] is True
    assert whole.span.status.code != Status.STATUS_CODE_ERROR


def test_numbers_lead_to_the_traces(told: Told) -> None:
    led = [line for line in told.metrics.splitlines() if f'trace_id="{FATES["answered"]}"' in line]
    assert any(line.startswith("specfuse_round_duration_seconds_bucket") for line in led)


def missed(phase: Received, member: str) -> list[str]:
    """How a member's calls ended that were not answered in a phase."""
    events = [
        {each.key: each.value.string_value for each in event.attributes}
        for event in phase.span.events
        if event.name == "missed"
    ]
    return [one["specfuse.outcome"] for one in events if one["specfuse.member"] == member]
