"""Admission, time limits and the numbers of a request, over a fusion that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from fuser_service.core.types import CommittedRound, FinishReason
from fuser_service.fusion.effort import Effort
from fuser_service.fusion.events import Event, Finished, RoundCommitted, Started
from fuser_service.fusion.presence import Presence
from fuser_service.fusion.query import Query
from fuser_service.fusion.readiness import Readiness
from fuser_service.fusion.runner import Fusion
from fuser_service.reports import Reports
from fuser_service.service import FuserService
from fuser_service.settings.settings import Ensemble, Limits
from fuser_service.tenancy.account import Account
from fuser_service.tenancy.admission import Admission
from fuser_service.tenancy.caller import Caller, Credentials, Team
from fuser_service.tenancy.directory import Directory
from fuser_service.tenancy.keys import Key, digest_of, new_key
from fuser_service.tenancy.places import Places, Room
from fuser_service.tenancy.tenants import Tenants
from fuser_service.validation import GenerateRequest
from specfuse.deadline import Deadline
from specfuse.errors import (
    Cancelled,
    ContextTooLong,
    DeadlineExceeded,
    Forbidden,
    Internal,
    InvalidArgument,
    ModelFailure,
    NotFound,
    Overloaded,
    QuorumLost,
    RateLimited,
    SpecFuseError,
    Unauthenticated,
    Unavailable,
)
from tests.support.members import RecordingObserver, ScriptedMember, says

STARTED = Started("one", ("a",), "s")


def committed(tokens: int) -> RoundCommitted:
    return RoundCommitted(CommittedRound(1, "x", "x", "a", tokens, (), ("a",)), 0.1, 0.1, 0.2)


def finished(rounds: int) -> Finished:
    return Finished(FinishReason.STOP, "", rounds, 9, 1, 1, 1, 1, (), 1.0)


@dataclass
class Played:
    """Stands for a fusion: a second passes before each event; an error among them is raised."""

    events: list[Event | BaseException]
    now: float = 50.0
    queries: list[Query] = field(default_factory=list)
    deadlines: list[Deadline] = field(default_factory=list)
    closed: int = 0

    def clock(self) -> float:
        return self.now

    async def run(
        self, query: Query, deadline: Deadline, effort: Effort, presence: Presence
    ) -> AsyncGenerator[Event, None]:
        self.queries.append(query)
        self.deadlines.append(deadline)
        try:
            for event in self.events:
                self.now += 1.0
                if isinstance(event, BaseException):
                    raise event
                if isinstance(event, RoundCommitted):
                    effort.output_tokens += event.round.token_count
                yield event
        finally:
            self.closed += 1


@dataclass
class Told:
    """A request observer that remembers."""

    began: int = 0
    first_segments: list[float] = field(default_factory=list)
    tokens: list[tuple[str, str, int]] = field(default_factory=list)
    answers: list[tuple[int, float | None]] = field(default_factory=list)
    ended: list[tuple[str, float]] = field(default_factory=list)
    ensembles: list[str] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)

    def request_started(self) -> None:
        self.began += 1

    def first_segment(self, ensemble: str, seconds: float) -> None:
        self.first_segments.append(seconds)

    def tokens_committed(self, ensemble: str, team: str, tokens: int) -> None:
        self.tokens.append((ensemble, team, tokens))

    def answered(self, ensemble: str, rounds: int, seconds_per_token: float | None) -> None:
        self.answers.append((rounds, seconds_per_token))

    def request_ended(self, ensemble: str, outcome: str, seconds: float) -> None:
        self.ended.append((outcome, seconds))
        self.ensembles.append(ensemble)


def a_member(*, awake: bool = True) -> ScriptedMember:
    member = ScriptedMember("a", says())
    member.wakes(awake=awake)
    return member


SEARCH = Caller(Team("search"), "sf-key")


def service_over(
    fusion: Played,
    told: Told,
    *,
    ensembles: Sequence[str] = ("one",),
    directory: Directory | None = None,
    member: ScriptedMember | None = None,
    wake_seconds: float = 0.0,
    **limits: Any,
) -> FuserService:
    allowed = Limits(**limits)
    admission = Admission(Places(Room(allowed.requests_in_flight)))
    return FuserService(
        cast("Fusion", fusion),
        ensembles={
            name: Ensemble(members=("a",), request_timeout_seconds=30.0, wake_seconds=wake_seconds)
            for name in ensembles
        },
        readiness=Readiness({"a": member or a_member()}, RecordingObserver(), 1),
        limits=allowed,
        tenants=Tenants(admission, directory or Directory(teams={})),
        reports=Reports(told, told.accounts.append, fusion.clock),
    )


async def answer(service: FuserService, caller: Caller = SEARCH, **fields: Any) -> list[Event]:
    request = GenerateRequest(**{"prompt": "?", **fields})
    return [event async for event in service.generate(request, caller, Deadline.never())]


async def test_the_numbers_of_an_answer() -> None:
    fusion, told = Played([STARTED, committed(4), committed(6), committed(0), finished(3)]), Told()

    events = await answer(service_over(fusion, told), request_id="r-1")

    assert events == fusion.events
    assert told.began == 1
    assert told.first_segments == [2.0]
    assert told.tokens == [("one", "search", 4), ("one", "search", 6), ("one", "search", 0)]
    assert told.answers == [(3, pytest.approx(3.0 / 6))]
    assert told.ended == [("ok", 5.0)]
    assert told.ensembles == ["one"]
    assert told.accounts == [
        Account(
            request_id="r-1",
            team="search",
            key="sf-key",
            ensemble="one",
            outcome="ok",
            seconds=5.0,
            output_tokens=10,
        )
    ]


async def test_an_answer_of_one_segment_has_no_time_per_further_token() -> None:
    told = Told()
    await answer(service_over(Played([STARTED, committed(4), finished(1)]), told))
    assert told.answers == [(1, None)]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (InvalidArgument("x", "is wrong"), "invalid_argument"),
        (ContextTooLong(tokens=9, window=8), "invalid_argument"),
        (NotFound("x"), "not_found"),
        (Overloaded("x"), "resource_exhausted"),
        (DeadlineExceeded("x"), "deadline_exceeded"),
        (Cancelled("x"), "cancelled"),
        (asyncio.CancelledError(), "cancelled"),
        (Unavailable("x"), "unavailable"),
        (QuorumLost("x"), "unavailable"),
        (Internal("x"), "internal"),
        (ModelFailure("x"), "internal"),
        (SpecFuseError("x"), "internal"),
        (ZeroDivisionError(), "internal"),
    ],
)
async def test_every_error_has_its_outcome(error: BaseException, outcome: str) -> None:
    told = Told()
    service = service_over(Played([STARTED, committed(4), error]), told, requests_in_flight=1)
    for _ in range(2):  # its place is free again
        with pytest.raises(type(error)):
            await answer(service)
    assert told.ended == [(outcome, 3.0)] * 2
    assert told.answers == []


async def test_a_call_that_the_server_ends_at_its_deadline_is_not_the_callers_going_away() -> None:
    told = Told()
    service = service_over(Played([STARTED, asyncio.CancelledError()]), told)
    for deadline in (Deadline.after(0.0), Deadline.after(60.0)):
        with pytest.raises(asyncio.CancelledError):
            async for _ in service.generate(GenerateRequest(prompt="?"), SEARCH, deadline):
                pass
    assert [outcome for outcome, _ in told.ended] == ["deadline_exceeded", "cancelled"]


async def test_what_no_door_can_read_is_counted_too() -> None:
    told = Told()
    service_over(Played([]), told).refused(SEARCH, "r-1")
    assert (told.began, told.ended) == (1, [("invalid_argument", 0.0)])
    assert [account.request_id for account in told.accounts] == ["r-1"]


async def test_a_caller_that_stops_reading_ends_the_work() -> None:
    fusion, told = Played([STARTED, committed(4), finished(1)]), Told()
    service = service_over(fusion, told, requests_in_flight=1)
    request = GenerateRequest(prompt="?")
    async with aclosing(service.generate(request, SEARCH, Deadline.never())) as events:
        assert await anext(events) == STARTED
        with pytest.raises(Overloaded, match="1 requests are in flight, the limit"):
            await answer(service)
        assert fusion.closed == 0
    assert fusion.closed == 1
    assert [outcome for outcome, _ in told.ended] == ["resource_exhausted", "cancelled"]


async def test_a_refused_request_never_reaches_the_members() -> None:
    fusion, told = Played([]), Told()
    with pytest.raises(InvalidArgument):
        await answer(service_over(fusion, told), max_tokens=0)
    assert fusion.queries == []
    assert told.ended == [("invalid_argument", 0.0)]


async def test_the_earlier_deadline_counts() -> None:
    fusion = Played([STARTED])
    service = service_over(fusion, Told())
    soon = Deadline.after(5.0)
    async for _ in service.generate(GenerateRequest(prompt="?"), SEARCH, soon):
        pass
    await answer(service)
    assert fusion.deadlines[0] == soon
    assert 29.0 < fusion.deadlines[1].remaining <= 30.0


async def test_a_caller_sees_and_asks_only_what_its_team_may() -> None:
    told = Told()
    service = service_over(Played([STARTED]), told, ensembles=("one", "two", "three"))
    two, none = Caller(Team("t", frozenset({"two"}))), Caller(Team("n", frozenset()))

    assert [status.name for status in service.ensembles(two)] == ["two"]
    assert [status.name for status in service.ensembles()] == ["one", "three", "two"]
    assert await answer(service, two) == [STARTED], "the only one that it may ask needs no name"
    with pytest.raises(Forbidden, match="t may not ask one, but: two"):
        await answer(service, two, ensemble="one")
    with pytest.raises(NotFound, match="there is no 'four'; there are: two"):
        await answer(service, two, ensemble="four")
    with pytest.raises(Forbidden, match="there is none that n may ask"):
        await answer(service, none)
    with pytest.raises(InvalidArgument, match="name one of: one, three, two"):
        await answer(service)
    assert [account.outcome for account in told.accounts] == [
        *("ok", "forbidden", "not_found", "forbidden", "invalid_argument"),
    ]


async def test_a_caller_that_is_refused_is_a_request_that_ended() -> None:
    told, key = Told(), new_key()
    directory = Directory(teams={"search": Team("search")})
    held = directory.with_keys([Key("sf-id", digest_of(key), "search")])
    service = service_over(Played([]), told, directory=held)

    caller = service.caller(Credentials((f"Bearer {key}",)))
    assert (caller.team.name, caller.key) == ("search", "sf-id")
    with pytest.raises(Unauthenticated):
        service.caller(Credentials())
    assert told.ended == [("unauthenticated", 0.0)]
    assert [(one.team, one.outcome) for one in told.accounts] == [("", "unauthenticated")]


async def test_tokens_count_for_the_team_once_the_answer_ends_however_it_does() -> None:
    told = Told()
    team = Caller(Team("t", output_tokens_per_minute=5))
    gone = asyncio.CancelledError()
    service = service_over(Played([STARTED, committed(4), gone]), told)
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError):
            await answer(service, team)
    with pytest.raises(RateLimited, match="output_tokens_per_minute: the team has had its 5"):
        await answer(service, team)
    assert [outcome for outcome, _ in told.ended] == ["cancelled", "cancelled", "rate_limited"]


async def begun(service: FuserService, caller: Caller = SEARCH, **fields: Any) -> Any:
    """A request under way that waits."""
    asking = asyncio.create_task(answer(service, caller, **fields))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not asking.done()
    return asking


async def test_a_request_for_members_that_sleep_waits_without_a_place_and_is_answered() -> None:
    told, member = Told(), a_member(awake=False)
    fusion = Played([STARTED, finished(0)])
    service = service_over(fusion, told, member=member, wake_seconds=20.0, requests_in_flight=1)
    waiting = await begun(service)
    async with service._tenants.place(SEARCH, Deadline.never()):
        assert fusion.queries == []
    member.wakes()
    assert (await waiting)[0] == STARTED
    assert [outcome for outcome, _ in told.ended] == ["ok"]


async def test_one_that_waits_counts_for_its_team() -> None:
    team = Caller(Team("t", requests_in_flight=1, requests_per_minute=1))
    service = service_over(Played([]), Told(), member=a_member(awake=False), wake_seconds=20.0)
    waiting = await begun(service, team)
    with pytest.raises(RateLimited, match="requests_in_flight"):
        await answer(service, team)
    waiting.cancel()
    await asyncio.wait({waiting})
    with pytest.raises(RateLimited, match="requests_per_minute"):
        await answer(service, team)


async def test_nobody_waits_to_be_told_that_a_field_is_wrong() -> None:
    service = service_over(Played([]), Told(), member=a_member(awake=False), wake_seconds=20.0)
    with pytest.raises(InvalidArgument):
        await answer(service, max_tokens=0)


async def test_an_ensemble_that_does_not_wait_fails_as_its_members_do() -> None:
    lost = Played([STARTED, QuorumLost("nobody")])
    service = service_over(lost, Told(), member=a_member(awake=False))
    with pytest.raises(QuorumLost):
        await answer(service)
    (status,) = service.ensembles()
    assert (status.ready, status.ready_members) == (False, ())


async def test_an_ensemble_that_waits_can_be_asked_whoever_sleeps() -> None:
    service = service_over(Played([]), Told(), member=a_member(awake=False), wake_seconds=20.0)
    (status,) = service.ensembles()
    assert (status.ready, status.ready_members) == (True, ())


# Requests that wait, and are counted on their members all the while


@dataclass
class Mesh:
    """A service over a real fusion, with one place and one in the line. All members are asleep."""

    members: dict[str, ScriptedMember]
    observer: RecordingObserver
    told: Told
    places: Places
    service: FuserService

    @property
    def counted(self) -> tuple[int, int, dict[str, int]]:
        """Queries that are held, queries there are, and how many count on whom."""
        observer = self.observer
        return observer.held.total(), observer.queries.total(), dict(+observer.sessions)

    def take(self, **ensembles: Ensemble) -> None:
        """Has other ensembles from now on."""
        self.service.take(ensembles)


def of(*members: str, **settings: Any) -> Ensemble:
    return Ensemble(members=members, **{"wake_seconds": 20.0, **settings})


def mesh(**ensembles: Ensemble) -> Mesh:
    members = {name: ScriptedMember(name, says(" yes")) for name in "ab"}
    for member in members.values():
        member.wakes(awake=False)
    observer, told = RecordingObserver(), Told()
    places = Places(Room(1, waiting=1, waiting_seconds=20.0))
    service = FuserService(
        Fusion(members, observer),
        ensembles=ensembles,
        readiness=Readiness(members, observer, 9),
        limits=Limits(),
        tenants=Tenants(Admission(places), Directory(teams={})),
        reports=Reports(told, told.accounts.append),
    )
    return Mesh(members, observer, told, places, service)


async def settled() -> None:
    """Lets all that can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_was_woken_is_counted_on_until_the_answer_ends_and_never_twice() -> None:
    one = mesh(one=of("a", "b"))
    async with one.places.place(0, Deadline.never()):
        asked = await begun(one.service)
        assert one.counted == (1, 1, {"a": 1, "b": 1})
        for member in one.members.values():
            member.wakes()
        await settled()
        assert one.places.waiting == 1
        assert one.counted == (0, 1, {"a": 1, "b": 1}), "a scaler would have it fall asleep again"
    assert isinstance((await asked)[-1], Finished)
    assert one.counted == (0, 0, {})
    assert sorted(one.observer.changes) == ["+a", "+b", "-a", "-b"]


async def test_who_waits_for_a_place_counts_on_its_members_though_they_never_slept() -> None:
    one = mesh(one=of("a"))
    one.members["a"].wakes()
    async with one.places.place(0, Deadline.never()):
        asked = await begun(one.service)
        assert one.counted == (0, 1, {"a": 1})
    assert isinstance((await asked)[-1], Finished)
    assert (one.counted, one.observer.changes) == ((0, 0, {}), ["+a", "-a"])


@pytest.mark.parametrize("by", ["line", "cancelled"])
async def test_who_gets_no_place_is_counted_no_more(by: str) -> None:
    one = mesh(one=of("a"))
    one.members["a"].wakes()
    async with one.places.place(0, Deadline.never()):
        asked = await begun(one.service)
        if by == "line":  # it is full: the last one is refused
            with pytest.raises(Overloaded):
                await answer(one.service)
            assert one.counted == (0, 1, {"a": 1})
        asked.cancel()
        await asyncio.wait({asked})
        assert one.counted == (0, 0, {})


async def test_an_ensemble_that_is_dropped_ends_who_is_held_for_it_as_if_it_came_now() -> None:
    one = mesh(one=of("a"), two=of("b"))
    held = await begun(one.service, ensemble="one")
    other = await begun(one.service, ensemble="two")
    one.take(two=of("b"))
    await settled()
    assert held.done(), "it would wait for members that are to be gone"
    assert one.counted == (1, 1, {"b": 1})
    with pytest.raises(NotFound) as told:
        await held
    with pytest.raises(NotFound) as new:
        await answer(one.service, ensemble="one")
    assert (told.value.message, told.value.metadata) == (new.value.message, new.value.metadata)
    assert [outcome for outcome, _ in one.told.ended] == ["not_found", "not_found"]
    one.members["b"].wakes()
    await other


async def test_who_named_no_ensemble_is_held_for_the_one_that_there_was() -> None:
    one = mesh(one=of("a"))
    held = await begun(one.service)
    one.take(two=of("b"))
    with pytest.raises(NotFound, match="there is no 'one'; there are: two"):
        await held


async def test_other_members_are_those_that_who_is_held_waits_for_and_wakes() -> None:
    one = mesh(one=of("a"))
    held = await begun(one.service)
    one.take(one=of("b"))
    await settled()
    assert one.counted == (1, 1, {"b": 1})
    one.members["a"].wakes()
    await settled()
    assert not held.done()
    one.members["b"].wakes()
    (started, *_) = await held
    assert started == Started("one", ("b",), started.session_id)
    assert one.counted == (0, 0, {})
    assert one.observer.changes == ["+a", "+b", "-a", "-b"]


async def test_members_that_are_awake_answer_who_was_held_for_others_at_once() -> None:
    one = mesh(one=of("a"))
    one.members["b"].wakes()
    held = await begun(one.service)
    one.take(one=of("b"))
    assert (await held)[0].members == ("b",)


async def test_what_waits_for_nobody_any_more_fails_as_a_new_request_does() -> None:
    one = mesh(one=of("a"))
    one.members["a"].proposes = lambda _: Unavailable("no replica")
    held = await begun(one.service)
    one.take(one=of("a", wake_seconds=0.0))
    with pytest.raises(QuorumLost):
        await held
    assert one.counted == (0, 0, {})


async def test_what_the_new_settings_forbid_is_not_waited_for() -> None:
    one = mesh(one=of("a"))
    held = await begun(one.service, max_tokens=200)
    one.take(one=of("a", max_tokens=100, max_tokens_limit=100))
    with pytest.raises(InvalidArgument, match="max_tokens"):
        await held
    assert one.counted == (0, 0, {})


async def test_ensembles_that_are_the_same_as_before_change_nothing_for_who_is_held() -> None:
    one = mesh(one=of("a"))
    held = await begun(one.service)
    one.take(one=of("a"), two=of("b"))
    await settled()
    assert one.counted == (1, 1, {"a": 1})
    assert one.observer.changes == ["+a"]
    one.members["a"].wakes()
    await held


async def test_what_has_begun_to_be_answered_goes_on_by_its_rules() -> None:
    one = mesh(one=of("a"))
    one.members["a"].wakes()
    one.members["a"].hold["propose"] = asyncio.Event()
    asked = await begun(one.service)
    await one.members["a"].waiting.get()
    one.take(two=of("b"))
    await settled()
    assert one.counted == (0, 1, {"a": 1})
    one.members["a"].hold["propose"].set()
    assert isinstance((await asked)[-1], Finished)
