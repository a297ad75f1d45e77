"""What `specfuse ask` asks a fuser for."""

from __future__ import annotations

import asyncio
import json

import pytest

from specfuse.cli.app import main
from specfuse.cli.ask import PlainView, ask
from specfuse.client import Client, Event, Segment
from specfuse.errors import NotFound, Unauthenticated, Unavailable
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
        script(started("ada"), segment(1, "Yes", active=["ada"]), Unavailable("gone")),
        request_id="r-1",
    )
    second = ScriptedFuser(
        script(started("ada"), segment(1, ", no", active=["ada"]), finished(".")),
        request_id="r-2",
    )
    async with open_door(first) as one, open_door(second) as other:
        addresses = ["--address", f"{one.address},127.0.0.1:1", "--address", other.address]
        command = ["ask", "--timeout", "5", *addresses, *arguments, "Why?"]
        assert await asyncio.to_thread(main, command) == 0
    written = capsys.readouterr()
    return written.out, written.err


async def test_another_fuser_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = await resumed(capsys)
    assert out == "Yes, no.\n"
    assert err == "specfuse: resumed after 1 interruption\nspecfuse: requests r-1, r-2\n"


async def test_json_says_how_often_and_what_to_look_up(capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads((await resumed(capsys, "--json"))[0])
    assert (report["text"], report["resumed"]) == ("Yes, no.", 1)
    assert report["request_ids"] == ["r-1", "r-2"]


async def test_the_trace_says_how_often(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = await resumed(capsys, "--trace")
    assert out.splitlines()[-2:] == ["resumed after 1 interruption", "requests r-1, r-2"]


async def written(
    capsys: pytest.CaptureFixture[str], *events: object, options: tuple[str, ...] = ()
) -> tuple[int, str, str]:
    """The exit code and what is written of an answer of these events, the request r-1."""
    fuser = ScriptedFuser(script(*events), request_id="r-1")  # type: ignore[arg-type]
    async with open_door(fuser) as door:
        command = ["ask", "--timeout", "5", "--address", door.address, *options, "Why?"]
        code = await asyncio.to_thread(main, command)
    said = capsys.readouterr()
    return code, said.out, said.err


YES = (started("ada"), segment(1, "Yes.", active=["ada"]))


async def test_of_an_answer_that_is_fine_only_json_says_what_to_look_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert await written(capsys, *YES, finished()) == (0, "Yes.\n", "")
    _, out, err = await written(capsys, *YES, finished(), options=("--json",))
    assert (json.loads(out)["request_ids"], err) == (["r-1"], "")


async def test_a_degraded_answer_can_be_looked_up(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = await written(capsys, *YES, finished(absent=["bob"], degraded=True))
    assert err.splitlines()[1:] == ["specfuse: request r-1"]


@pytest.mark.parametrize("options", [(), ("--json",), ("--trace",)], ids=str)
async def test_an_answer_that_fails_can_be_looked_up(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    code, out, err = await written(capsys, *YES, NotFound("it is gone"), options=options)
    assert (code, err) == (2, "specfuse: it is gone (request r-1)\n")
    assert "r-1" not in out


async def test_a_refusal_can_be_looked_up(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = await written(capsys, Unauthenticated("who are you?"))
    assert (code, err[:46]) == (2, "specfuse: who are you? (request r-1). A key is")


class Impatient(PlainView):
    """Somebody who presses Ctrl-C once there is a segment."""

    def show(self, event: Event) -> None:
        super().show(event)
        if isinstance(event, Segment):
            raise KeyboardInterrupt


async def test_an_answer_that_is_interrupted_can_be_looked_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(address: str) -> None:
        with pytest.raises(KeyboardInterrupt):
            ask(Client(address), "Why?", {}, Impatient())

    async with open_door(ScriptedFuser(script(*YES, finished()), request_id="r-1")) as door:
        await asyncio.to_thread(interrupt, door.address)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("Yes.\n", "specfuse: interrupted (request r-1)\n")
