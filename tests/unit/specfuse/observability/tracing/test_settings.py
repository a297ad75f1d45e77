"""The settings of traces, in the files of both services."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fuser_service.settings.settings import Settings as FuserSettings
from model_service.settings import Settings as ModelSettings
from specfuse.errors import Misconfigured
from specfuse.observability.tracing.settings import EdgeTracing, Tracing

FUSER = "members: {a: {endpoints: ['a:1']}}\nensembles: {all: {members: [a]}}\n"
MODEL = "name: a\nbackend: scripted\nscripted: {lines: [{answer: ' Yes.'}]}\n"

Parse = Callable[[str], Tracing | None]


@pytest.fixture(params=["fuser", "model"])
def parse(request: pytest.FixtureRequest) -> Parse:
    """What a service's file makes of the section."""
    if request.param == "fuser":
        return lambda text: FuserSettings.parse(FUSER + text, source="s.yaml").tracing
    return lambda text: ModelSettings.parse(MODEL + text, source="s.yaml").tracing


def test_there_are_none_unless_it_is_said_where_they_go(parse: Parse) -> None:
    assert parse("") is None
    settings = parse("tracing: {endpoint: 'otel-collector.monitoring:4317'}\n")
    assert settings is not None
    assert settings.tls is None


def test_which_requests_are_recorded_is_the_fusers_to_say() -> None:
    section = "tracing: {endpoint: 'c:1', sample_ratio: 0.5, trust_callers: false}\n"
    settings = FuserSettings.parse(FUSER + section, source="s.yaml").tracing
    assert settings is not None
    assert (settings.sample_ratio, settings.trust_callers) == (0.5, False)
    defaults = EdgeTracing(endpoint="c:1")
    assert (defaults.sample_ratio, defaults.trust_callers) == (0.01, True)
    with pytest.raises(Misconfigured, match=r"tracing\.sample_ratio: unknown key"):
        ModelSettings.parse(MODEL + section, source="s.yaml")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            "{endpoint: 'c:1', sample_ratio: 1.5}",
            "tracing.sample_ratio: 1.5: must be less than or equal to 1",
        ),
        ("{endpoint: 'c:1', sample_ratio: '1%'}", "tracing.sample_ratio: '1%': must be a number"),
        ("{endpoint: 'c:1', sample_ratio: .nan}", "tracing.sample_ratio: nan: must be"),
        ("{endpoint: 'c:1', trust_callers: 1}", "tracing.trust_callers: 1: must be a boolean"),
    ],
)
def test_a_mistake_in_what_only_fusers_are_told_is_named(section: str, said: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        FuserSettings.parse(f"{FUSER}tracing: {section}\n", source="s.yaml")
    assert said in refused.value.message


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{}", "tracing.endpoint: is required"),
        (
            "{endpoint: 'http://collector:4317'}",
            "'http://collector:4317': must be host:port of a receiver of OTLP over gRPC, as in",
        ),
        ("{endpoint: 'collector'}", "tracing.endpoint: 'collector': must be host:port"),
        ("{endpoint: 'collector:0'}", "tracing.endpoint: 'collector:0': must be host:port"),
        ("{endpoint: 'collector:65536'}", "must be host:port"),
        ("{endpoint: 'collector:٤٣١٧'}", "must be host:port"),
        ("{endpoint: 'c:1', tsl: {}}", "tracing.tsl: unknown key; did you mean tls?"),
        (
            "{endpoint: 'c:1', tls: {key: k.pem}}",
            "tracing.tls: certificate and key go together; give both or neither",
        ),
    ],
)
def test_a_mistake_is_named_with_its_remedy(parse: Parse, section: str, said: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        parse(f"tracing: {section}\n")
    assert said in refused.value.message
