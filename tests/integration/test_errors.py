"""The error table, and errors' way over the wire and back."""

from __future__ import annotations

import base64
import logging
import re
from urllib.parse import quote

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from specfuse.errors import (
    Code,
    ContextTooLong,
    Internal,
    InvalidArgument,
    Misconfigured,
    ModelFailure,
    NotFound,
    Overloaded,
    QuorumLost,
    ShuttingDown,
    SpecFuseError,
    Unavailable,
    all_errors,
)
from specfuse.rpc.channels import open_channel
from specfuse.rpc.errors import (
    CODES,
    DOMAIN,
    MAX_MESSAGE_BYTES,
    MAX_METADATA_BYTES,
    MAX_STATUS_BYTES,
    abort,
    code_of,
    from_rpc_error,
    status_of,
)
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1.fuser_service_pb2_grpc import FuserServiceStub
from tests.support.fuser_door import ScriptedFuser, open_door, script, segment


def example(cls: type[SpecFuseError]) -> SpecFuseError:
    """An error of the class as its raisers build it."""
    if cls is ContextTooLong:
        return ContextTooLong(tokens=4097, window=4096)
    if cls is InvalidArgument:
        return InvalidArgument("max_tokens", "0 is below 1", limit="512")
    if cls is QuorumLost:
        return QuorumLost("1 of 2", committed_segments=(" a\n", "日本 "), committed_tokens=7)
    return cls("what happened", member="ada")


ERRORS = [
    *map(example, all_errors()),
    ContextTooLong(tokens=5000, window=4096, counted=False),
]


def raiser(error: Exception) -> ScriptedFuser:
    """A fuser both of whose methods raise the error; the stream does so after a segment."""

    async def list_ensembles(request, context):
        raise error

    return ScriptedFuser(script(segment(1, "one"), error), list_ensembles)


async def over_the_wire(error: Exception) -> list[grpc.aio.AioRpcError]:
    """What a caller gets of the error in a unary and in a streaming call."""
    caught = []
    async with open_door(raiser(error)) as server, open_channel(server.address) as channel:
        stub = FuserServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await stub.ListEnsembles(pb.ListEnsemblesRequest())
        caught.append(unary.value)
        stream = stub.Generate(pb.GenerateRequest())
        assert (await stream.read()).segment_committed.segment == "one"
        with pytest.raises(grpc.aio.AioRpcError) as streaming:
            await stream.read()
        caught.append(streaming.value)
    return caught


def wire_size(error: SpecFuseError) -> int:
    """The worst-case bytes of the error's status in HTTP/2 headers."""
    status = status_of(error)
    return len(quote(status.message)) + len(base64.b64encode(status.SerializeToString()))


def test_every_kind_of_error_is_in_the_table() -> None:
    assert set(CODES) == set(Code)
    assert set(Code) == {cls.code for cls in all_errors()}, "and some error is of that kind"


def test_every_error_has_its_own_reason() -> None:
    reasons = [cls.reason for cls in all_errors()]
    assert len(set(reasons)) == len(reasons)
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]+[A-Z0-9]", reason) for reason in reasons)


def test_an_error_is_the_kind_its_base_is() -> None:
    """So that catching a base and switching on a code agree."""
    kinds = set(all_errors()) - {SpecFuseError}
    for cls in kinds:
        for base in kinds & set(cls.__mro__[1:]):
            assert cls.code is base.code, cls


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_errors_come_back_as_they_were_raised(error: SpecFuseError) -> None:
    for caught in await over_the_wire(error):
        assert caught.code() is code_of(error)
        rebuilt = from_rpc_error(caught)
        assert type(rebuilt) is type(error)
        assert rebuilt.message == str(rebuilt) == error.message
        assert rebuilt.metadata.items() >= error.metadata.items()
        if isinstance(error, InvalidArgument):
            assert isinstance(rebuilt, InvalidArgument)
            assert rebuilt.field == error.field
        if isinstance(error, QuorumLost):
            assert isinstance(rebuilt, QuorumLost)
            assert rebuilt.committed_segments == error.committed_segments
            assert rebuilt.committed_tokens == error.committed_tokens


async def test_status_carries_error_info() -> None:
    for caught in await over_the_wire(example(InvalidArgument)):
        (details,) = (
            value for key, value in caught.trailing_metadata() if key == "grpc-status-details-bin"
        )
        status = status_pb2.Status.FromString(details)
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert (info.domain, info.reason) == (DOMAIN, "INVALID_ARGUMENT")
        assert dict(info.metadata) == {"field": "max_tokens", "limit": "512"}
        assert status.message == caught.details() == "max_tokens: 0 is below 1"


async def test_resume_point_too_large_for_headers_is_left_out_but_the_error_arrives() -> None:
    error = QuorumLost("é" * 999, committed_segments=("x" * 50,) * 400, committed_tokens=4000)
    for caught in await over_the_wire(error):
        rebuilt = from_rpc_error(caught)
        assert isinstance(rebuilt, QuorumLost)
        assert rebuilt.committed_segments == ()
        assert rebuilt.committed_tokens == 4000


async def test_a_status_as_large_as_may_be_arrives() -> None:
    """gRPC drops statuses from 8 KiB of headers on, at random: so many are tried."""
    error = QuorumLost("é" * 999, committed_segments=("日" * 33,) * 19, committed_tokens=400)
    assert MAX_STATUS_BYTES * 0.9 < wire_size(error) <= MAX_STATUS_BYTES
    for _ in range(10):
        for caught in await over_the_wire(error):
            rebuilt = from_rpc_error(caught)
            assert isinstance(rebuilt, QuorumLost)
            assert rebuilt.committed_segments == error.committed_segments


async def test_long_and_invalid_text_in_an_error_is_made_presentable() -> None:
    error = NotFound("\ud800" + "é" * 10_000, name="\udfff" * 10_000)
    for caught in await over_the_wire(error):
        rebuilt = from_rpc_error(caught)
        assert isinstance(rebuilt, NotFound)
        assert rebuilt.message.startswith("\\ud800é")
        assert rebuilt.message.endswith("é…")
        assert MAX_MESSAGE_BYTES - 2 < len(rebuilt.message.encode()) <= MAX_MESSAGE_BYTES
        assert len(rebuilt.metadata["name"].encode()) == MAX_METADATA_BYTES


async def test_a_lack_of_memory_is_no_bug(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="specfuse"):
        for caught in await over_the_wire(MemoryError("the secret prompt")):
            rebuilt = from_rpc_error(caught)
            assert type(rebuilt) is Overloaded
            assert rebuilt.message == "there is not enough memory for this call now"
    assert caplog.messages == []


async def test_unforeseen_exception_is_internal_and_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def buggy() -> None:
        try:
            {}["the secret prompt"]
        except KeyError as error:
            raise ValueError("the secret prompt, wrapped") from error

    try:
        buggy()
    except ValueError as error:
        bug = error
    with caplog.at_level(logging.ERROR, logger="specfuse"):
        caught = await over_the_wire(bug)
    assert len(caplog.messages) == 2
    for rpc_error, log in zip(caught, caplog.messages, strict=True):
        rebuilt = from_rpc_error(rpc_error)
        assert type(rebuilt) is Internal
        correlation_id = rebuilt.metadata["correlation_id"]
        assert correlation_id in log
        assert correlation_id in rebuilt.message
        assert "in buggy" in log, "the log has the traceback"
        assert "ValueError" in log
        assert "after KeyError" in log, "and the cause's"
        assert "secret prompt" not in log.replace('("the secret prompt', "").replace(
            '["the secret prompt', ""
        )
        assert "secret" not in rebuilt.message


async def test_internal_errors_keep_their_message_and_get_a_correlation_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR, logger="specfuse"):
        caught = await over_the_wire(ModelFailure("the logits of token 3 are not finite"))
    for rpc_error, log in zip(caught, caplog.messages, strict=True):
        rebuilt = from_rpc_error(rpc_error)
        assert type(rebuilt) is ModelFailure
        assert rebuilt.metadata["correlation_id"] in log
        assert "the logits of token 3 are not finite" in log


async def test_expected_errors_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="specfuse"):
        await over_the_wire(Overloaded("the queue of 8 is full"))
    assert caplog.messages == []


async def test_servicer_that_aborts_itself_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def list_ensembles(request, context):
        await abort(context, ShuttingDown("going"))

    fuser = ScriptedFuser(list_ensembles=list_ensembles)
    async with open_door(fuser) as server, open_channel(server.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await FuserServiceStub(channel).ListEnsembles(pb.ListEnsemblesRequest())
    assert type(from_rpc_error(caught.value)) is ShuttingDown
    assert caplog.messages == []


async def test_a_failed_call_leaves_the_next_unharmed() -> None:
    fuser = raiser(ValueError())
    async with open_door(fuser) as server, open_channel(server.address) as channel:
        stub = FuserServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.ListEnsembles(pb.ListEnsemblesRequest())
        fuser.list_ensembles = ScriptedFuser().list_ensembles
        assert await stub.ListEnsembles(pb.ListEnsemblesRequest()) == pb.ListEnsemblesResponse()


def foreign(
    code: grpc.StatusCode, details: str = "said", **metadata: bytes
) -> grpc.aio.AioRpcError:
    """An error as gRPC itself, a proxy or another server would end a call."""
    trailing = grpc.aio.Metadata(
        *((key.replace("_", "-"), value) for key, value in metadata.items())
    )
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0] != 0])
def test_every_code_without_our_info_has_a_meaning(code: grpc.StatusCode) -> None:
    rebuilt = from_rpc_error(foreign(code), peer="10.0.0.7:50051")
    assert type(rebuilt) is not SpecFuseError
    assert "said" in rebuilt.message
    assert "10.0.0.7:50051" in rebuilt.message
    assert rebuilt.metadata["peer"] == "10.0.0.7:50051"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, Unavailable),
        (grpc.StatusCode.CANCELLED, Unavailable),
        (grpc.StatusCode.UNIMPLEMENTED, Misconfigured),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
        (grpc.StatusCode.OUT_OF_RANGE, InvalidArgument),
        (grpc.StatusCode.DATA_LOSS, Internal),
    ],
)
def test_codes_without_our_info(code: grpc.StatusCode, expected: type[SpecFuseError]) -> None:
    assert type(from_rpc_error(foreign(code))) is expected


def with_info(reason: str, domain: str = DOMAIN, **metadata: str) -> bytes:
    status = status_pb2.Status(message="from afar")
    info = error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)
    status.details.add().Pack(info)
    return status.SerializeToString()


def test_reason_of_a_newer_server_is_read_by_its_code() -> None:
    details = with_info("MODEL_ASLEEP", model="ada")
    error = from_rpc_error(foreign(grpc.StatusCode.UNAVAILABLE, grpc_status_details_bin=details))
    assert type(error) is Unavailable
    assert (error.message, error.metadata) == ("from afar", {"model": "ada"})


@pytest.mark.parametrize(
    "details", [b"\xff\xff not a status", b"", with_info("QUORUM_LOST", domain="example.com")]
)
def test_details_that_are_not_ours_are_ignored(details: bytes) -> None:
    error = from_rpc_error(foreign(grpc.StatusCode.NOT_FOUND, grpc_status_details_bin=details))
    assert type(error) is NotFound


@pytest.mark.parametrize(
    ("reason", "metadata"),
    [
        ("CONTEXT_TOO_LONG", {}),
        ("CONTEXT_TOO_LONG", {"tokens": "many"}),
        ("INVALID_ARGUMENT", {"problem": "x", "self": "y", "message": "z"}),
        ("QUORUM_LOST", {"committed_tokens": "-1"}),
        ("NOT_FOUND", {"message": "z", "self": "y"}),
    ],
)
def test_metadata_of_another_version_does_no_harm(reason: str, metadata: dict[str, str]) -> None:
    status = status_pb2.Status(message="from afar")
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    status.details.add().Pack(info)
    details = status.SerializeToString()
    error = from_rpc_error(foreign(grpc.StatusCode.UNKNOWN, grpc_status_details_bin=details))
    assert (error.reason, error.message) == (reason, "from afar")


def test_status_number_is_the_canonical_one() -> None:
    assert {status_of(error).code for error in ERRORS} == {2, 3, 16, 7, 5, 8, 4, 1, 14, 9, 13}
