"""Interrupted answers that both clients go on with by themselves, over real connections."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from model_service.backends.scripted.settings import Line
from model_service.core.types import (
    Proposal,
    ProposeRequest,
    Score,
    ScoreRequest,
    Scores,
    SegmentFinish,
    Usage,
)
from specfuse.client import (
    Answer,
    AsyncClient,
    Client,
    Finished,
    ResumePoint,
    Segment,
    Started,
    resumption,
)
from specfuse.client.resumption import ATTEMPTS, Retries
from specfuse.deadline import Deadline
from specfuse.errors import (
    Cancelled,
    DeadlineExceeded,
    Forbidden,
    Internal,
    InvalidArgument,
    Misconfigured,
    NotFound,
    Overloaded,
    QuorumLost,
    RateLimited,
    ShuttingDown,
    SpecFuseError,
    Unauthenticated,
    Unavailable,
)
from specfuse.rpc import channels
from specfuse.rpc.server import RpcServer
from specfuse.v1 import fuser_service_pb2 as pb
from tests.support.caller import Caller
from tests.support.fuser_door import (
    ScriptedFuser,
    finished,
    open_door,
    script,
    segment,
    started,
)
from tests.support.fuser_mesh import Nodes, open_fuser
from tests.support.link import Link

BEGIN = started("ada", "bob")
TEXTS = ("One", " two", " three", " four")
WHOLE = "One two three four!"
PATIENCE_SECONDS = 20.0
USAGE = Usage(context_tokens=1, cached_tokens=0)


class Counting(ScriptedFuser):
    """Counts on from the committed segments. Before the segment `hold_at` it waits for its end.

    `waits` is set when it does, `left` when the request is gone.
    """

    def __init__(self, hold_at: int | None = None) -> None:
        super().__init__(self._count)
        self.hold_at = hold_at
        self.waits = asyncio.Event()
        self.left = asyncio.Event()

    async def _count(self, request: Any, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        yield BEGIN
        done = len(request.committed_segments)
        for number, text in enumerate(TEXTS[done:], 1):
            if self.hold_at == done + number:
                await self._wait()
            yield segment(number, text)
        rounds = len(TEXTS) - done
        yield finished("!", rounds=rounds, output_tokens=2 * rounds)

    async def _wait(self) -> None:
        self.waits.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()


@pytest.fixture(params=[Client, AsyncClient])
def kind(request: pytest.FixtureRequest) -> type[Client | AsyncClient]:
    return request.param


@pytest.fixture
def brief_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits between attempts."""
    monkeypatch.setattr(Retries, "pause", lambda *_: 0.0)


@pytest.fixture
async def long_pauses(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Whoever pauses does so for longer than the test; set when somebody begins to."""
    loop, pausing = asyncio.get_running_loop(), asyncio.Event()

    def pause(*_: object) -> float:
        loop.call_soon_threadsafe(pausing.set)
        return 1000.0

    monkeypatch.setattr(Retries, "pause", pause)
    return pausing


@asynccontextmanager
async def calling(
    kind: type, *fusers: ScriptedFuser, **options: Any
) -> AsyncIterator[tuple[Caller, list[RpcServer]]]:
    """A caller of these fusers, each on a server of its own."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(open_door(fuser)) for fuser in fusers]
        target = [server.address for server in servers]
        yield await stack.enter_async_context(Caller(kind, target, **options)), servers


async def soon(reached: asyncio.Event) -> None:
    await asyncio.wait_for(reached.wait(), PATIENCE_SECONDS)


# --- a fuser dies ---------------------------------------------------------------------------------


async def test_another_fuser_goes_on_where_the_first_one_died(kind: type) -> None:
    first, second = Counting(hold_at=3), Counting()
    async with calling(kind, first, second) as (caller, servers):
        call = asyncio.create_task(
            caller.take(-1, ensemble="duo", seed=7, temperature=1.0, max_tokens=40, stop=["?"])
        )
        await caller.heard(3)
        await servers[0].stop()
        events = await call
    begun, *segments, end = events
    assert [type(one) for one in events] == [Started, *[Segment] * 4, Finished]
    assert isinstance(begun, Started)
    assert isinstance(end, Finished)
    assert [(one.round, one.text) for one in segments] == list(enumerate(TEXTS, 1))
    assert (end.text, end.resumed, end.rounds, end.output_tokens) == ("!", 1, 4, 8)
    (asked,), (again,) = first.requests, second.requests
    asked.committed_segments[:], asked.committed_tokens = TEXTS[:2], 4
    asked.session_id = begun.session_id
    assert again == asked, "nothing else of the query changes"


async def test_another_fuser_goes_on_where_the_first_one_fell_silent(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection stands and nothing comes; the caller gave no timeout that could end that."""
    monkeypatch.setattr(channels, "PROBE_SECONDS", 1)
    monkeypatch.setattr(channels, "PROBE_TIMEOUT_SECONDS", 1)
    first, second = Counting(hold_at=3), Counting()
    async with (
        open_door(first) as one,
        open_door(second) as other,
        Link(one.address) as link,
    ):
        async with Caller(kind, [link.address, other.address]) as caller:
            call = asyncio.create_task(caller.take(-1))
            await caller.heard(3)
            link.freeze()
            async with asyncio.timeout(PATIENCE_SECONDS):
                answer = Answer.of(await call)
        link.thaw()
    assert (answer.text, answer.resumed) == (WHOLE, 1)
    assert list(second.requests[0].committed_segments) == list(TEXTS[:2])


async def test_a_fuser_that_takes_connections_and_says_nothing_is_left(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "CONNECT_SECONDS", 1)
    first, second = Counting(), Counting()
    async with (
        open_door(first) as one,
        open_door(second) as other,
        Link(one.address) as link,
    ):
        link.freeze()
        async with Caller(kind, [link.address, other.address]) as caller:
            async with asyncio.timeout(PATIENCE_SECONDS):
                answer = await caller.generate()
        link.thaw()
    assert (answer.text, first.requests) == (WHOLE, [])


async def test_an_answer_in_one_stream_was_not_resumed(kind: type) -> None:
    async with calling(kind, Counting()) as (caller, _):
        answer = await caller.generate()
    assert (answer.text, answer.resumed) == (WHOLE, 0)


async def test_the_first_fusers_ensemble_is_the_seconds_too(kind: type) -> None:
    first, second = Counting(hold_at=1), Counting()
    async with calling(kind, first, second) as (caller, servers):
        call = asyncio.create_task(caller.take(-1))
        await caller.heard(1)
        await servers[0].stop()
        answer = Answer.of(await call)
    assert (answer.text, answer.resumed) == (WHOLE, 1)
    assert (first.requests[0].ensemble, second.requests[0].ensemble) == ("", "duo")


async def test_the_next_query_goes_where_the_last_one_was_answered(kind: type) -> None:
    first, second = ScriptedFuser(script(ShuttingDown("draining"))), Counting()
    async with calling(kind, first, second) as (caller, _):
        assert [(await caller.generate()).text for _ in range(2)] == [WHOLE, WHOLE]
    assert (len(first.requests), len(second.requests)) == (1, 2)


async def test_one_of_several_addresses_of_a_name_goes_on(kind: type) -> None:
    fusers = [Counting(hold_at=3), Counting(hold_at=3)]
    async with (
        open_door(fusers[0]) as one,
        open_door(fusers[1]) as other,
        Caller(kind, f"ipv4:{one.address},{other.address}") as caller,
    ):
        call = asyncio.create_task(caller.take(-1))
        await caller.heard(3)
        died = 0 if fusers[0].requests else 1
        fusers[1 - died].hold_at = None
        await (one, other)[died].stop()
        answer = Answer.of(await call)
    assert (answer.text, answer.resumed) == (WHOLE, 1)


async def test_the_same_address_goes_on_once_a_fuser_is_back(kind: type) -> None:
    first, second = Counting(hold_at=3), Counting()
    async with calling(kind, first) as (caller, (server,)):
        call = asyncio.create_task(caller.take(-1))
        await caller.heard(3)
        await server.stop()
        async with open_door(second, listen=server.address):
            answer = Answer.of(await call)
    assert (answer.text, answer.resumed) == (WHOLE, 1)
    assert list(second.requests[0].committed_segments) == ["One", " two"]


async def test_an_answer_that_all_fusers_break_off_goes_on_while_it_grows(
    kind: type, brief_pauses: None
) -> None:
    errors = [Unavailable("gone"), QuorumLost("0 of 1 members left"), ShuttingDown("draining")]

    async def generate(request: Any, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        done = len(request.committed_segments)
        yield BEGIN
        if done == 12:
            yield finished("!")
            return
        yield segment(1, TEXTS[done % 4])
        raise errors[done % 3]

    async with calling(kind, ScriptedFuser(generate)) as (caller, _):
        answer = await caller.generate()
    assert (answer.text, answer.resumed) == ("".join(TEXTS) * 3 + "!", 12)
    assert [one.round for one in answer.segments] == list(range(1, 13))


async def test_a_point_to_resume_from_is_only_where_it_begins(
    kind: type, brief_pauses: None
) -> None:
    first = ScriptedFuser(script(BEGIN, segment(1, " two"), Unavailable("gone")))
    async with calling(kind, first, Counting()) as (caller, _):
        answer = await caller.generate(resume=ResumePoint(("One",), 2, "One"))
    assert (answer.text, answer.resumed) == (WHOLE, 1)
    assert [one.round for one in answer.segments] == [1, 2, 3]
    assert answer.finished.rounds == 3


async def test_listing_ensembles_asks_the_next_fuser(kind: type) -> None:
    async with calling(kind, ScriptedFuser(), ScriptedFuser()) as (caller, servers):
        await servers[0].stop()
        assert await caller.ensembles(timeout=PATIENCE_SECONDS) == ()
        await servers[1].stop()
        with pytest.raises(Unavailable):
            await caller.ensembles(timeout=PATIENCE_SECONDS)


# --- an answer that lacks only its end ------------------------------------------------------------


@pytest.mark.parametrize("error", [Unavailable("gone"), Internal("a bug")])
async def test_what_goes_wrong_after_the_end_does_not_matter(
    kind: type, error: SpecFuseError
) -> None:
    fuser = ScriptedFuser(script(BEGIN, segment(1, "One"), finished("!"), error))
    async with calling(kind, fuser) as (caller, _):
        answer = await caller.generate()
    assert (answer.text, answer.resumed, len(fuser.requests)) == ("One!", 0, 1)


async def test_no_model_is_asked_to_go_on_behind_its_own_end(kind: type) -> None:
    ending = [pb.RoundCandidate(text=" two.", finished=True, proposers=["ada"], share=1)]
    last = segment(2, " two.", " two", candidates=ending)
    fuser = ScriptedFuser(script(BEGIN, segment(1, "One"), last, Unavailable("gone")))
    async with calling(kind, fuser) as (caller, _):
        answer = await caller.generate(stop=[".x"])
    assert (answer.text, answer.resumed, len(fuser.requests)) == ("One two.", 0, 1)
    assert (answer.finished.rounds, answer.output_tokens) == (2, 4)


# --- giving up ------------------------------------------------------------------------------------


async def test_when_all_are_dead_the_error_says_where_the_answer_stands(
    kind: type, brief_pauses: None
) -> None:
    first, second = Counting(hold_at=3), ScriptedFuser(script(QuorumLost("0 of 1 members left")))
    async with calling(kind, first, second) as (caller, servers):
        call = asyncio.create_task(caller.take(-1))
        await caller.heard(3)
        await servers[0].stop()
        with pytest.raises(Unavailable) as caught:
            await call
    assert caught.value.resume == ResumePoint(("One", " two"), 4, "One two")
    assert len(second.requests) == ATTEMPTS


async def test_attempts_are_bounded_without_a_timeout(kind: type, brief_pauses: None) -> None:
    fuser = ScriptedFuser(script(BEGIN, Unavailable("gone")))
    async with calling(kind, fuser) as (caller, _):
        with pytest.raises(Unavailable, match="gone") as caught:
            await caller.generate()
    assert caught.value.resume is None
    assert len(fuser.requests) == ATTEMPTS


async def test_a_fuser_that_is_full_is_asked_again(kind: type, brief_pauses: None) -> None:
    fuser = Counting()
    count = fuser.generate

    async def generate(request: Any, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        fuser.generate = count
        raise Overloaded("full")
        yield

    fuser.generate = generate
    async with calling(kind, fuser) as (caller, _):
        answer = await caller.generate()
    assert (answer.text, answer.resumed, len(fuser.requests)) == (WHOLE, 0, 2)


REFUSALS = [
    InvalidArgument("stop", "is wrong"),
    NotFound("no such ensemble"),
    Misconfigured("wrong"),
    Unauthenticated("who?"),
    Forbidden("not you"),
    RateLimited("enough"),
    DeadlineExceeded("time is up"),
    Cancelled("stopped"),
    Internal("a bug"),
]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
async def test_what_will_not_pass_is_not_tried_again(kind: type, error: SpecFuseError) -> None:
    fuser = ScriptedFuser(script(error))
    async with calling(kind, fuser) as (caller, _):
        with pytest.raises(type(error)):
            await caller.generate()
    assert len(fuser.requests) == 1


@pytest.mark.parametrize(
    "events",
    [
        (BEGIN, segment(1, "One"), Overloaded("in mid-answer")),
        (BEGIN, segment(1, "One"), Internal("a bug")),
        (BEGIN, segment(1, "One")),
        (BEGIN, segment(1, "One"), BEGIN, Unavailable("gone")),
        (segment(1, "One"), Unavailable("gone")),
        (BEGIN, segment(1, "One"), finished(reason=9), Unavailable("gone")),
    ],
)
async def test_an_answer_with_which_something_is_wrong_is_not_gone_on_with(
    kind: type, events: tuple[Any, ...]
) -> None:
    fuser = ScriptedFuser(script(*events))
    async with calling(kind, fuser, Counting()) as (caller, _):
        with pytest.raises(SpecFuseError):
            await caller.generate()
    assert len(fuser.requests) == 1


async def test_never_means_never_but_the_next_call_goes_elsewhere(kind: type) -> None:
    first = ScriptedFuser(script(BEGIN, segment(1, "One"), Unavailable("gone")))
    async with calling(kind, first, Counting()) as (caller, _):
        with pytest.raises(Unavailable, match="gone") as caught:
            await caller.generate(resume="never")
        answer = await caller.generate(resume=caught.value.resume)
    assert (answer.text, answer.resumed) == (WHOLE, 0)
    assert len(first.requests) == 1


# --- the caller's time ----------------------------------------------------------------------------


async def test_the_deadline_is_for_all_attempts_together(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumption, "FIRST_PAUSE_SECONDS", 0.3)
    left: list[float] = []

    async def generate(request: Any, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        left.append(context.time_remaining())
        raise Overloaded("full")
        yield

    async with calling(kind, ScriptedFuser(generate)) as (caller, _):
        began = time.monotonic()
        with pytest.raises(Overloaded):
            await caller.generate(timeout=1.0)
        assert time.monotonic() - began < 1.5
    assert len(left) > 1
    assert left == sorted(left, reverse=True)
    assert left[-1] <= left[0] - 0.1


async def test_a_fuser_that_goes_on_has_only_the_time_that_is_left(kind: type) -> None:
    first, second = Counting(hold_at=2), Counting(hold_at=3)
    async with calling(kind, first, second) as (caller, servers):
        began = time.monotonic()
        call = asyncio.create_task(caller.take(-1, timeout=2.0))
        await caller.heard(2)
        await servers[0].stop()
        with pytest.raises(DeadlineExceeded) as caught:
            await call
        assert time.monotonic() - began < 2.8
    assert caught.value.resume == ResumePoint(("One", " two"), 4, "One two")


async def test_a_pause_longer_than_the_time_that_is_left_is_not_made(
    kind: type, long_pauses: asyncio.Event
) -> None:
    fuser = ScriptedFuser(script(BEGIN, segment(1, "One"), Unavailable("gone")))
    async with calling(kind, fuser) as (caller, _):
        with pytest.raises(Unavailable, match="gone") as caught:
            await asyncio.wait_for(caller.generate(timeout=500), PATIENCE_SECONDS)
    assert caught.value.resume == ResumePoint(("One",), 2, "One")


async def test_who_is_told_when_to_ask_again_does_not_ask_before(
    kind: type, brief_pauses: None
) -> None:
    fuser = ScriptedFuser(script(Unavailable("asleep", retry_after_seconds="3600")))
    async with calling(kind, fuser) as (caller, _):
        with pytest.raises(Unavailable, match="asleep") as caught:
            await asyncio.wait_for(caller.generate(timeout=500), PATIENCE_SECONDS)
    assert caught.value.retry_after_seconds == 3600
    assert len(fuser.requests) == 1


# --- the caller has had enough --------------------------------------------------------------------


async def test_closing_the_client_ends_a_pause_at_once(
    kind: type, long_pauses: asyncio.Event
) -> None:
    fuser = ScriptedFuser(script(BEGIN, segment(1, "One"), Unavailable("gone")))
    async with calling(kind, fuser) as (caller, _):
        call = asyncio.create_task(caller.generate())
        await soon(long_pauses)
        await caller.close()
        with pytest.raises(Cancelled, match="client was closed") as caught:
            await asyncio.wait_for(call, PATIENCE_SECONDS)
    assert caught.value.resume == ResumePoint(("One",), 2, "One")


async def test_closing_a_blocking_client_in_mid_answer_is_no_reason_to_go_on() -> None:
    fuser = Counting(hold_at=3)
    async with calling(Client, fuser) as (caller, _):
        call = asyncio.create_task(caller.generate())
        await soon(fuser.waits)
        await caller.close()
        with pytest.raises(Cancelled, match="client was closed"):
            await asyncio.wait_for(call, PATIENCE_SECONDS)
    assert len(fuser.requests) == 1


async def test_cancelling_an_async_call_ends_a_pause_at_once(long_pauses: asyncio.Event) -> None:
    fuser = ScriptedFuser(script(BEGIN, segment(1, "One"), Unavailable("gone")))
    async with calling(AsyncClient, fuser) as (caller, _):
        call = asyncio.create_task(caller.generate())
        await soon(long_pauses)
        call.cancel()
        await asyncio.wait([call], timeout=PATIENCE_SECONDS)
        assert call.cancelled()
    assert len(fuser.requests) == 1


async def test_leaving_a_resumed_stream_early_ends_the_work(kind: type) -> None:
    first = ScriptedFuser(script(BEGIN, segment(1, "One"), Unavailable("gone")))
    second = Counting(hold_at=3)
    async with calling(kind, first, second) as (caller, _):
        assert len(await caller.take(3)) == 3
        await soon(second.left)


# --- whole fusers over one mesh -------------------------------------------------------------------


class Drawing:
    """In the place of a member's script: draws a number as the seed says, and ends after six."""

    def __init__(self, name: str, model: Any) -> None:
        self.name = name
        self.model = model

    async def propose(self, request: ProposeRequest, deadline: Deadline) -> Proposal:
        rounds = len(request.context.committed)
        drawn = random.Random(f"{self.name} {request.sampling.seed}").randrange(10_000)
        finish = SegmentFinish.END if rounds == 5 else SegmentFinish.LENGTH
        return Proposal(f" {drawn}", finish, 1, USAGE)

    async def score(self, request: ScoreRequest, deadline: Deadline) -> Scores:
        chances = [random.Random(one.text).uniform(0.1, 0.9) for one in request.candidates]
        scores = [Score(-chance, 1 - chance / 2, 1, 4) for chance in chances]
        return Scores(tuple(scores), USAGE)

    async def close(self) -> None:
        """Holds nothing."""


async def served(nodes: Nodes, *names: str) -> dict[str, Any]:
    """Members that draw."""
    members = {name: await nodes.start(name, Line(answer="")) for name in names}
    for name, node in members.items():
        node.backend.script = Drawing(name, node.backend.script.model)  # type: ignore[assignment]
    return members


@pytest.mark.parametrize("held_back", [0, 4])
async def test_a_sampled_answer_is_the_same_whether_it_was_interrupted_or_not(
    kind: type, held_back: int
) -> None:
    rules = {"exit": {"policy": "none"}, "weighting": "uniform"}
    async with Nodes() as nodes:
        members = await served(nodes, "ada", "bob")
        async with (
            open_fuser(members, **rules) as one,
            open_fuser(members, **rules) as other,
            Caller(kind, [one.fuser.address, other.fuser.address]) as caller,
        ):
            plain = await caller.generate(temperature=1.0)
            third = plain.segments[2].text
            for node in members.values():
                node.backend.hold_from = 3
            stop = [f"{third[len(third) - held_back :]} and more"]
            call = asyncio.create_task(caller.generate(temperature=1.0, stop=stop))
            await members["ada"].comes_to_wait()
            await one.fuser.stop()
            for node in members.values():
                node.backend.opened.set()
            resumed = await call
    assert (plain.resumed, resumed.resumed) == (0, 1)
    assert resumed.text == plain.text
    assert len(resumed.segments[2].text) == len(third) - held_back
    assert [one.winner for one in resumed.segments] == [one.winner for one in plain.segments]
    assert len(resumed.segments) == resumed.finished.rounds == 6
    assert len({session for node in members.values() for session in node.backend.sessions}) == 1
