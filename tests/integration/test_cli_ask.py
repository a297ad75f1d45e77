"""What `specfuse ask` asks a fuser for."""

from __future__ import annotations

import asyncio
import json

import pytest

from specfuse.cli.app import main
from specfuse.errors import Unavailable
from specfuse.v1 import fuser_service_pb2 as pb
from tests.support.fuser_door import ScriptedFuser, finished, open_door, script, segment, started

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


async def asked(*arguments: str) -> pb.GenerateRequest:
    """The request that a question on the command line comes to."""
    fuser = ScriptedFuser(
        generate=script(started("ada"), segment(1, "Yes.", active=["ada"]), finished())
    )
    async with open_door(fuser) as door:
        command = ["ask", "--timeout", "5", "--address", door.address, *arguments]
        assert await asyncio.to_thread(main, command) == 0
    (request,) = fuser.requests
    return request


async def test_a_question_is_a_conversation_of_one_turn(capsys: pytest.CaptureFixture[str]) -> None:
    request = await asked("Why?")
    (message,) = request.conversation.messages
    assert message.content == "Why?"
    assert request.WhichOneof("prompt") == "conversation"
    assert capsys.readouterr().out == "Yes.\n"


async def test_raw_text_is_sent_as_it_is() -> None:
    request = await asked("--raw", " Once upon\ta time ")
    assert request.WhichOneof("prompt") == "raw_prompt"
    assert request.raw_prompt == " Once upon\ta time "


async def test_overrides_are_only_those_that_are_given() -> None:
    request = await asked("--no-recall", "--segment-tokens", "7", "Why?")
    fields = {field.name for field, _ in request.overrides.ListFields()}
    assert fields == {"recall", "segment_tokens"}
    assert not request.overrides.recall


@pytest.mark.parametrize(
    ("parent", "sent"), [(PARENT, [PARENT]), ("nonsense", []), (None, [])], ids=str
)
async def test_the_trace_of_the_environment_goes_along(
    monkeypatch: pytest.MonkeyPatch, parent: str | None, sent: list[str]
) -> None:
    monkeypatch.delenv("TRACEPARENT", raising=False)
    if parent is not None:
        monkeypatch.setenv("TRACEPARENT", parent)
    fuser = ScriptedFuser(script(started("ada"), segment(1, "Yes.", active=["ada"]), finished()))
    async with open_door(fuser) as door:
        assert await asyncio.to_thread(main, ["ask", "--address", door.address, "Why?"]) == 0
    assert [value for name, value in fuser.headers[0].items() if name == "traceparent"] == sent


async def resumed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """What asking two fusers writes, to stdout and stderr, if the first one fails in mid-answer."""
    first = ScriptedFuser(
        script(started("ada"), segment(1, "Yes", active=["ada"]), Unavailable("gone"))
    )
    second = ScriptedFuser(
        script(started("ada"), segment(1, ", no", active=["ada"]), finished("."))
    )
    async with open_door(first) as one, open_door(second) as other:
        addresses = ["--address", f"{one.address},127.0.0.1:1", "--address", other.address]
        command = ["ask", "--timeout", "5", *addresses, *arguments, "Why?"]
        assert await asyncio.to_thread(main, command) == 0
    written = capsys.readouterr()
    return written.out, written.err


async def test_another_fuser_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = await resumed(capsys)
    assert (out, err) == ("Yes, no.\n", "specfuse: resumed after 1 interruption\n")


async def test_json_says_how_often(capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads((await resumed(capsys, "--json"))[0])
    assert (report["text"], report["resumed"]) == ("Yes, no.", 1)


async def test_the_trace_says_how_often(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = await resumed(capsys, "--trace")
    assert out.splitlines()[-1] == "resumed after 1 interruption"
