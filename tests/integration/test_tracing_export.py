"""Spans on their way to a collector, which may be there, away, stuck, or of another opinion."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.trace import get_current_span
from prometheus_client import CollectorRegistry

from specfuse.errors import Misconfigured
from specfuse.observability.tracing import exporter, provider
from specfuse.observability.tracing.propagation import incoming, outgoing
from specfuse.observability.tracing.requests import RequestSpans
from specfuse.observability.tracing.settings import EdgeTracing, ReceiverTls, Tracing
from specfuse.rpc.tls import TlsFiles
from specfuse.serving.files import following
from specfuse.serving.tracing import open_tracing
from tests.support.certificates import Authority
from tests.support.otlp_receiver import OtlpReceiver, open_receiver

RESOURCE = {"service.name": "specfuse-test"}


@asynccontextmanager
async def tracing(
    endpoint: str, registry: CollectorRegistry | None = None, **settings: Any
) -> AsyncIterator[RequestSpans]:
    """What makes a service's spans. They are all sent once the context is left."""
    section = EdgeTracing(endpoint=endpoint, **{"sample_ratio": 1.0, **settings})
    registry = registry or CollectorRegistry()
    async with following(0.01) as files, AsyncExitStack() as rest:
        yield open_tracing(section, RESOURCE, files, registry, rest)


def lost(registry: CollectorRegistry) -> float | None:
    """How many spans are told to be lost."""
    return registry.get_sample_value("specfuse_spans_lost_total")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if "endpoint" in one.getMessage()]


@pytest.fixture
async def receiver() -> AsyncIterator[OtlpReceiver]:
    async with open_receiver() as opened:
        yield opened


async def test_what_a_service_traced_has_been_sent_when_it_has_ended(
    receiver: OtlpReceiver,
) -> None:
    async with tracing(receiver.address) as spans:
        with spans.span("whole", (), {"a": "b"}), spans.tracer.start_as_current_span("part"):
            pass
    part, whole = receiver.spans
    assert (part.name, whole.name, whole.attributes) == ("part", "whole", {"a": "b"})
    assert (part.parent_id, whole.parent_id) == (whole.span_id, "")
    assert part.resource.keys() >= {"service.instance.id", "service.version", "host.name"}
    assert part.resource["service.name"] == "specfuse-test"


async def test_spans_do_not_wait_for_the_end(receiver: OtlpReceiver) -> None:
    async with tracing(receiver.address) as spans:
        with spans.span("early", (), {}):
            pass
        await receiver.has_spans("early")


async def test_how_many_requests_are_recorded_is_a_setting(receiver: OtlpReceiver) -> None:
    async with tracing(receiver.address, sample_ratio=0.0) as spans:
        with spans.span("never", (), {}) as span:
            assert not span.is_recording()
        caller = (("traceparent", f"00-{'a' * 32}-{'b' * 16}-01"),)
        with spans.span("asked for", caller, {}):
            pass
    async with tracing(receiver.address) as spans:
        caller = (("traceparent", f"00-{'a' * 32}-{'b' * 16}-00"),)
        with spans.span("asked not to", caller, {}):
            pass
    (only,) = receiver.spans
    assert (only.name, only.trace_id, only.parent_id) == ("asked for", "a" * 32, "b" * 16)


async def test_a_service_within_the_mesh_records_what_its_callers_do(
    receiver: OtlpReceiver,
) -> None:
    section = Tracing(endpoint=receiver.address)
    async with following(0.01) as files, AsyncExitStack() as rest:
        spans = open_tracing(section, RESOURCE, files, CollectorRegistry(), rest)
        with spans.span("of nobody's trace", (), {}):
            told = get_current_span(incoming(outgoing())).get_span_context()
            assert told.is_valid, "whoever is called next might record it"
            assert not told.trace_flags.sampled
        caller = (("traceparent", f"00-{'a' * 32}-{'b' * 16}-01"),)
        with spans.span("recorded", caller, {}):
            pass
    (only,) = receiver.spans
    assert (only.name, only.trace_id, only.parent_id) == ("recorded", "a" * 32, "b" * 16)


async def test_a_caller_that_is_not_trusted_is_linked_to(receiver: OtlpReceiver) -> None:
    async with tracing(receiver.address, trust_callers=False) as spans:
        caller = (("traceparent", f"00-{'a' * 32}-{'b' * 16}-00"),)
        with spans.span("own", caller, {}), spans.tracer.start_as_current_span("part"):
            pass
    part, own = receiver.spans
    assert own.parent_id == ""
    assert own.trace_id == part.trace_id != "a" * 32
    assert [link.trace_id.hex() for link in own.span.links] == ["a" * 32]


async def test_a_collector_that_is_away_is_told_of_once_and_so_is_its_return(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with open_receiver() as receiver:
        told: list[int] = []
        channel = exporter.open_channel(receiver.address, None, "")
        sending = exporter.CollectorExporter(receiver.address, channel, told.append)
        opened = provider.Provider(RESOURCE, 1.0, sending)
        receiver.refuses = grpc.StatusCode.PERMISSION_DENIED
        for number in range(1, 4):
            opened.tracer.start_span("lost").end()
            await receiver.has(lambda it, number=number: it.requests == number)
        receiver.refuses = None
        opened.tracer.start_span("kept").end()
        await receiver.has_spans("kept")
        await opened.close()
    assert [one.name for one in receiver.spans] == ["kept"]
    assert told == [1, 1, 1]
    away, back = lines(caplog)
    assert f"tracing.endpoint {receiver.address}: spans cannot be sent and are lost" in away
    assert "PERMISSION_DENIED: not now" in away
    assert "takes spans again; 3 were lost" in back


@pytest.mark.parametrize(("silent", "said"), [(3600.0, 1), (0.0, 3)])
async def test_a_collector_that_comes_and_goes_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, silent: float, said: int
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(exporter, "_SILENT_SECONDS", silent)
    told: list[int] = []
    async with open_receiver() as receiver:
        channel = exporter.open_channel(receiver.address, None, "")
        sending = exporter.CollectorExporter(receiver.address, channel, told.append)
        opened = provider.Provider(RESOURCE, 1.0, sending)
        for number in range(1, 4):
            receiver.refuses = grpc.StatusCode.PERMISSION_DENIED
            opened.tracer.start_span("lost").end()
            await receiver.has(lambda it, number=number: it.requests == 2 * number - 1)
            receiver.refuses = None
            opened.tracer.start_span(f"kept {number}").end()
            await receiver.has_spans(f"kept {number}")
        await opened.close()
    assert told == [1, 1, 1], "each counts, whatever the log says"
    assert len([one for one in lines(caplog) if "cannot be sent" in one]) == said
    assert len([one for one in lines(caplog) if "takes spans again; 1 were lost" in one]) == said


async def test_spans_that_a_collector_rejects_are_told_of(
    receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.rejects, registry = "over quota", CollectorRegistry()
    async with tracing(receiver.address, registry) as spans:
        assert lost(registry) == 0
        spans.tracer.start_span("too much").end()
    assert "said once: over quota" in lines(caplog)[0]
    assert lost(registry) == 1


async def test_what_a_collector_says_is_a_bounded_part_of_one_line(
    receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.rejects = "over\nquota\x1b[31m" + "x" * 3000
    async with tracing(receiver.address) as spans:
        spans.tracer.start_span("too much").end()
    (line,) = lines(caplog)
    assert "said once: over quota [31mxxx" in line
    assert line.isprintable()
    assert len(line) < 500


async def test_answers_that_are_not_otlp_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    asked: asyncio.Queue[None] = asyncio.Queue()
    async with babbling(asked) as address, tracing(address) as spans:
        for _ in range(3):
            spans.tracer.start_span("lost").end()
            await asked.get()
    (told,) = (one for one in caplog.records if one.levelno >= logging.WARNING)
    assert "the answers from there are not OTLP's" in told.getMessage()


@asynccontextmanager
async def babbling(asked: asyncio.Queue[None]) -> AsyncIterator[str]:
    """The address of a server that answers whatever it is asked with bytes that are no message."""

    async def babble(_request: bytes, _context: object) -> bytes:
        asked.put_nowait(None)
        return b"\xff\xff"

    handler = grpc.unary_unary_rpc_method_handler(babble)
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"Export": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def test_nobody_there_fails_nothing_and_delays_no_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "FLUSH_SECONDS", 0.2)
    async with open_receiver() as gone:
        pass
    async with asyncio.timeout(10), tracing(gone.address) as spans:
        for _ in range(2000):
            spans.tracer.start_span("lost").end()
    assert len(lines(caplog)) <= 1


async def test_a_collector_that_never_answers_does_not_hold_the_end_and_is_told_of(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(provider, "FLUSH_SECONDS", 0.2)
    monkeypatch.setattr(exporter, "_SEND_SECONDS", 100.0)
    receiver.holds = True
    async with asyncio.timeout(10), tracing(receiver.address) as spans:
        spans.tracer.start_span("held").end()
        await receiver.has(lambda it: it.requests == 1)
    said = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert said == ["tracing: the last spans could not be sent in 0.2 s, and are lost"]


async def test_what_waits_to_be_sent_is_bounded_and_who_makes_way_is_told_of(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(provider, "_QUEUE", 600)
    monkeypatch.setattr(exporter, "_SEND_SECONDS", 100.0)
    receiver.holds, registry = True, CollectorRegistry()
    async with tracing(receiver.address, registry) as spans:
        spans.tracer.start_span("first").end()
        await receiver.has(lambda it: it.requests == 1)
        for number in range(2000):
            spans.tracer.start_span(f"{number}").end()
        assert lost(registry) == 1400, "as it happens, not only once the collector is back"
        await receiver.let_go()
    assert lost(registry) == 1400
    assert {one.name for one in receiver.spans} == {"first", *map(str, range(1400, 2000))}
    away, back = lines(caplog)[-2:]
    assert "said once: they come faster than they are taken" in away
    assert "takes spans again; 1400 were lost" in back


async def test_a_collector_is_spoken_to_over_tls_and_a_new_authority_is_taken(
    tmp_path: Path,
) -> None:
    first, second = Authority.create(tmp_path, "first"), Authority.create(tmp_path, "second")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(first.certificate.read_bytes())
    tls = ReceiverTls(ca=ca, server_name="localhost")

    def served_by(authority: Authority) -> grpc.ServerCredentials:
        identity = authority.issue(f"of-{authority.name}", "DNS:localhost")
        return TlsFiles(identity.certificate, identity.key).credentials()

    async with following(3600) as files, AsyncExitStack() as rest:
        async with open_receiver(credentials=served_by(first)) as receiver:
            section = EdgeTracing(endpoint=receiver.address, tls=tls, sample_ratio=1.0)
            tracer = open_tracing(section, RESOURCE, files, CollectorRegistry(), rest).tracer
            tracer.start_span("first").end()
            await receiver.has_spans("first")
        async with open_receiver(receiver.address, served_by(second)) as successor:
            ca.write_bytes(second.certificate.read_bytes())
            files.read_all()
            tracer.start_span("second").end()
            await successor.has_spans("second")


async def test_what_is_being_sent_when_the_channel_is_exchanged_is_sent_over_the_new_one(
    receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.holds = True
    first, second = (exporter.open_channel(receiver.address, None, "") for _ in range(2))
    told: list[int] = []
    sending = exporter.CollectorExporter(receiver.address, first, told.append)
    opened = provider.Provider(RESOURCE, 1.0, sending)
    opened.tracer.start_span("kept").end()
    await receiver.has(lambda it: it.requests == 1)
    sending.exchange(second)
    await receiver.has(lambda it: it.requests == 2)
    await receiver.let_go()
    await receiver.has_spans("kept")
    await opened.close()
    assert not lines(caplog)
    assert not told


async def test_a_wrong_certificate_is_refused_at_the_start(tmp_path: Path) -> None:
    tls = ReceiverTls(ca=tmp_path / "none.pem")
    with pytest.raises(Misconfigured, match=r"tls.ca .*none.pem: cannot be read"):
        async with tracing("127.0.0.1:1", tls=tls):
            pass


async def test_the_environment_says_nothing(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "OTEL_SERVICE_NAME": "other",
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=other,some=thing",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_HEADERS": "a=b",
        "OTEL_TRACES_SAMPLER": "always_off",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "0",
        "OTEL_BSP_MAX_QUEUE_SIZE": "x",
    }.items():
        monkeypatch.setenv(name, value)
    async with tracing(receiver.address) as spans:
        with spans.span("whole", (), {"a": "b"}):
            pass
    (whole,) = receiver.spans
    assert whole.attributes == {"a": "b"}
    assert whole.resource["service.name"] == "specfuse-test"
    assert "some" not in whole.resource


async def test_an_environment_that_forbids_traces_contradicts_the_settings(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with pytest.raises(Misconfigured, match=r"tracing.endpoint: contradicts OTEL_SDK_DISABLED"):
        async with tracing(receiver.address):
            pass
