"""What is read of an endpoint's text, and what is refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge

from specfuse.cli.top.scrapes import NotMetrics, check, read
from specfuse.cli.top.targets import Target
from tests.support.played_mesh import PlayedFuser, PlayedModel, scrape_of

PRINTABLE = st.text(st.characters(categories=("L", "N", "P", "S")))


@given(label=PRINTABLE, values=st.tuples(st.floats(0, 1e12), st.floats(-1e12, 1e12)))
def test_what_a_service_counts_is_what_is_read(label, values):
    registry = CollectorRegistry()
    Counter("specfuse_things", "Things.", ("of",), registry=registry).labels(label).inc(values[0])
    Gauge("specfuse_now", 'Now,\n"quoted".', ("of",), registry=registry).labels(label).set(
        values[1]
    )
    series = scrape_of(registry, 0.0).series
    labels = frozenset({("of", label)})
    assert series["specfuse_things_total"] == {labels: values[0]}
    assert series["specfuse_now"] == {labels: values[1]}


_LINES = st.lists(
    st.builds(
        "specfuse_{}".format, st.text(st.sampled_from('ab_{}=",\\ 1.eE#\t+-nN_total'), max_size=30)
    )
)


@given(st.one_of(st.text(), _LINES.map("\n".join)))
def test_any_text_is_read_or_refused(text):
    with suppress(NotMetrics):
        series = read(text, 0.0).series
        assert all(name.startswith("specfuse_") for name in series)


def test_series_of_others_and_what_is_no_number_are_passed_over():
    text = "go_threads 7\nother{ 1\nspecfuse_a NaN\nspecfuse_b +Inf\nspecfuse_c 2\n"
    assert read(text, 0.0).series == {"specfuse_c": {frozenset(): 2.0}}


def test_nothing_that_a_terminal_would_obey_is_shown():
    found = read('specfuse_a{model_name="x\x1b[2J\x07"} 1\n', 0.0)
    ((labels, _),) = found.series["specfuse_a"].items()
    assert dict(labels)["model_name"] == "x\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}"


def test_services_are_known_by_what_they_say():
    fuser, model = PlayedFuser().scrape(0.0), PlayedModel().scrape(0.0)
    check(Target("fuser", "h:1"), fuser)
    check(Target("model", "h:1"), model)
    check(Target("model", "h:1", "a"), model)
    assert (fuser.models, model.models) == ((), ("a",))


@pytest.mark.parametrize(
    ("target", "text", "says"),
    [
        (Target("fuser", "h:1"), "go_threads 7\n", "not of SpecFuse"),
        (Target("fuser", "h:1"), "<html>", "not of SpecFuse"),
        (Target("fuser", "h:1"), "", "not of SpecFuse"),
        (
            Target("fuser", "h:1"),
            'specfuse_model_requests_waiting{model_name="a"} 0\n',
            "a model's; give it with --model",
        ),
        (
            Target("model", "h:1", "b"),
            'specfuse_model_requests_waiting{model_name="a"} 0\n',
            "the model a, not b",
        ),
        (Target("model", "h:1"), "specfuse_requests_in_flight 0\n", "give it with --fuser"),
    ],
)
def test_something_else_is_refused(target, text, says):
    with pytest.raises(NotMetrics, match=says):
        check(target, read(text, 0.0))
