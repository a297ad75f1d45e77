"""What callers' headers say of a trace: taken as W3C has it, and ignored if anything is wrong."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from specfuse.observability.tracing.current import attached
from specfuse.observability.tracing.propagation import incoming, outgoing

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def of(*headers: tuple[str, str | bytes]) -> SpanContext:
    return trace.get_current_span(incoming(headers)).get_span_context()


def test_a_parent_is_taken_with_its_decision_and_state() -> None:
    span = of(("accept", "*/*"), ("traceparent", PARENT), ("tracestate", "a=1, b@c=2"))
    assert (f"{span.trace_id:032x}", f"{span.span_id:016x}") == (TRACE, SPAN)
    assert span.trace_flags.sampled
    assert span.is_remote
    assert dict(span.trace_state) == {"a": "1", "b@c": "2"}
    assert not of(("traceparent", f"00-{TRACE}-{SPAN}-00")).trace_flags.sampled
    assert of(("traceparent", PARENT.encode())).is_valid
    assert of(("traceparent", f"42-{TRACE}-{SPAN}-01-and more")).is_valid  # a later version


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "yes",
        PARENT.upper(),
        PARENT[:-1],
        f"{PARENT}-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"42-{TRACE}-{SPAN}-01-{'x' * 100_000}",
        f"00-{TRACE}-{SPAN}-0é",
    ],
)
def test_what_is_no_parent_is_ignored(wrong: str, caplog: pytest.LogCaptureFixture) -> None:
    assert not of(("traceparent", wrong)).is_valid
    assert not caplog.records


def test_two_parents_are_none() -> None:
    assert not of(("traceparent", PARENT), ("traceparent", PARENT)).is_valid


@pytest.mark.parametrize(
    "wrong",
    [
        "a=" + "x" * 600,
        ",".join(f"k{number}=1" for number in range(33)),
        "no pair",
        "a=1,B=2",
        "a=what is the capital of\nFrance",
        "a=1,a=2",
    ],
)
def test_a_state_that_is_too_long_or_wrong_is_dropped_and_its_parent_counts(
    wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    span = of(("traceparent", PARENT), ("tracestate", wrong))
    assert span.is_valid
    assert not span.trace_state
    assert not caplog.records  # it would be the caller's text


@given(st.text(), st.lists(st.text(), max_size=3))
def test_nothing_that_is_sent_is_an_error(parent: str, states: list[str]) -> None:
    of(("traceparent", parent), *(("tracestate", state) for state in states))
    assert of(("traceparent", PARENT), *(("tracestate", state) for state in states)).is_valid


@given(
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.sampled_from([0, 1]),
    st.dictionaries(st.from_regex("[a-z][a-z0-9_]{0,5}", fullmatch=True), st.just("v"), max_size=9),
)
def test_what_is_passed_on_arrives(
    trace_id: int, span_id: int, flags: int, state: dict[str, str]
) -> None:
    span = SpanContext(trace_id, span_id, False, TraceFlags(flags), TraceState(list(state.items())))
    with attached(trace.set_span_in_context(NonRecordingSpan(span))):
        there = of(*outgoing())
    assert (there.trace_id, there.span_id, there.trace_flags) == (trace_id, span_id, flags)
    assert dict(there.trace_state) == state


def test_nothing_is_passed_on_outside_a_trace() -> None:
    assert outgoing() == ()
