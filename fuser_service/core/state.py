"""Everything known about a query between two steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from fuser_service.core.candidates import DistinctCandidate, distinct_candidates
from fuser_service.core.contest import contested
from fuser_service.core.rules import Rules, Vote
from fuser_service.core.stops import StopScanner
from fuser_service.core.types import (
    Candidate,
    Departure,
    DepartureReason,
    MemberName,
    Proposal,
    Score,
)
from fuser_service.core.weights import Weights


@dataclass(frozen=True, slots=True)
class RoundState:
    """A round in progress.

    `proposals` and `scores` hold, in the ensemble's order, the members that proposed in time, and
    `candidates` is what the round decides between so far, earliest proposer first;
    `asked_to_score` those that were, in any phase, and `absent` those that were late or busy.
    `departures_before` is how many departures the query had when the round began. `recalled` are
    all that came back for it, `returned` those of them that had been lost. `listening` are the
    members that watch as it begins, `objected` those that objected in it, and `unheard` those whose
    objection is to what comes after it. `asked_to_propose` leaves out who had a draft left.
    """

    number: int
    departures_before: int = 0
    proposals: Mapping[MemberName, Proposal] = field(default_factory=dict)
    candidates: tuple[DistinctCandidate, ...] = ()
    scores: Mapping[MemberName, Mapping[Candidate, Score]] = field(default_factory=dict)
    asked_to_score: frozenset[MemberName] = frozenset()
    absent: frozenset[MemberName] = frozenset()
    recalled: tuple[MemberName, ...] = ()
    returned: tuple[MemberName, ...] = ()
    listening: frozenset[MemberName] = frozenset()
    objected: frozenset[MemberName] = frozenset()
    unheard: tuple[MemberName, ...] = ()
    asked_to_propose: frozenset[MemberName] = frozenset()


@dataclass(frozen=True, slots=True)
class QueryState:
    """A query between two steps.

    `committed`, its `committed_bytes` of UTF-8 and `committed_tokens` include what a resumed query
    brought along. `active` members are asked; `dormant` ones left by the exit policy and stand by;
    the rest are lost. Both are in the ensemble's order. `outgrown` are the lost ones whose window
    the context does not fit any more. `returns` are lost ones that could not be reached, by the
    round from which they are asked again; `failures` how often each was lost like that. `missed`
    were absent from some round. `quality` is each active member's cumulative fused share over the
    last `quality_rounds` rounds, `confidences` the winners' confidence in every round where it is
    known. `watching` members are active, but judge only; `silent` has for how many rounds in a row
    without an objection; `agreed` for how many all of them agreed with all of a lone draft.
    `drafts` are what is left of earlier drafts that the answer went along with.
    """

    rules: Rules
    committed: tuple[str, ...]
    committed_tokens: int
    committed_bytes: int
    scanner: StopScanner
    active: tuple[MemberName, ...]
    weights: Weights
    quality: Mapping[MemberName, float]
    round: RoundState
    dormant: tuple[MemberName, ...] = ()
    departures: tuple[Departure, ...] = ()
    outgrown: frozenset[MemberName] = frozenset()
    returns: Mapping[MemberName, int] = field(default_factory=dict)
    failures: Mapping[MemberName, int] = field(default_factory=dict)
    misses: Mapping[MemberName, int] = field(default_factory=dict)
    missed: frozenset[MemberName] = frozenset()
    drafts: Mapping[MemberName, Proposal] = field(default_factory=dict)
    watching: frozenset[MemberName] = frozenset()
    silent: Mapping[MemberName, int] = field(default_factory=dict)
    agreed: int = 0
    quality_rounds: int = 0
    confidences: tuple[float, ...] = ()

    @property
    def present(self) -> tuple[MemberName, ...]:
        """The members of this round: those that proposed and are neither lost nor absent."""
        return tuple(
            member
            for member in self.active
            if (member in self.round.proposals or member in self.round.listening)
            and member not in self.round.absent
        )

    @property
    def watchers(self) -> tuple[MemberName, ...]:
        """The members of this round that drafted nothing in it: they only judge."""
        return tuple(m for m in self.present if m not in self.round.proposals)

    @property
    def candidates(self) -> tuple[DistinctCandidate, ...]:
        """What this round decides between, so far; earliest proposer first."""
        return self.round.candidates

    @property
    def drafting(self) -> tuple[MemberName, ...]:
        """The active members that draft."""
        if not self.watching:
            return self.active
        return tuple(member for member in self.active if member not in self.watching)

    @property
    def counted_on(self) -> tuple[MemberName, ...]:
        """The members that are asked in this round, or will be in a later one, come what may."""
        return self.in_order((*self.active, *self.returns)) if self.returns else self.active

    @property
    def lost(self) -> tuple[Departure, ...]:
        """The members ever lost to failure, refusal or lateness, in the order of their loss.

        One that came back and was lost again counts once, by its last loss.
        """
        losses = (d for d in self.departures if d.reason is not DepartureReason.EXIT)
        return tuple({departure.member: departure for departure in losses}.values())

    @property
    def absent(self) -> tuple[MemberName, ...]:
        """The members that some round did without, and that were never lost."""
        return self.in_order(self.missed - {departure.member for departure in self.lost})

    @property
    def tokens_left(self) -> int:
        """Tokens the answer may still have."""
        return self.rules.max_tokens - self.committed_tokens

    @property
    def is_full(self) -> bool:
        """Whether the answer has all the tokens, segments or bytes that it may have."""
        return (
            self.tokens_left <= 0
            or len(self.committed) >= self.rules.max_segments
            or self.committed_bytes >= self.rules.max_bytes
        )

    def in_order(self, members: Iterable[MemberName]) -> tuple[MemberName, ...]:
        """These members in the ensemble's order."""
        chosen = set(members)
        return tuple(member for member in self.rules.members if member in chosen)

    def deciding_between(
        self, proposals: Mapping[MemberName, Proposal]
    ) -> tuple[DistinctCandidate, ...]:
        """What a round with these proposals decides between; earliest proposer first."""
        if self.rules.vote is Vote.WORDS:
            return contested(proposals)
        return distinct_candidates(proposals)

    def losing(self, departures: Iterable[Departure]) -> QueryState:
        """The state after members are lost to failure, refusal or lateness."""
        departures = tuple(departures)
        if not departures:
            return self
        lost = {departure.member for departure in departures}
        return replace(
            self,
            active=tuple(member for member in self.active if member not in lost),
            quality={m: quality for m, quality in self.quality.items() if m not in lost},
            departures=self.departures + departures,
        )

    def hearing_out(self, objectors: tuple[MemberName, ...]) -> QueryState:
        """The state in which these members object, and are to draft next."""
        if objectors == self.round.unheard:
            return self
        objected = self.round.objected | set(objectors)
        return replace(self, round=replace(self.round, objected=objected, unheard=objectors))

    def exiting(self, members: Iterable[MemberName]) -> QueryState:
        """The state after the exit policy sends members away."""
        members = tuple(members)
        if not members:
            return self
        state = self.losing(Departure(member, DepartureReason.EXIT) for member in members)
        return replace(state, dormant=self.in_order((*self.dormant, *members)))

    def expecting(self, members: Iterable[MemberName]) -> QueryState:
        """The state in which lost members that could not be reached are asked again later.

        After 1, 2, 4, ... rounds: a member that stays away costs ever less.
        """
        failures = {member: self.failures.get(member, 0) + 1 for member in members}
        if not failures:
            return self
        returns = {m: self.round.number + 2 ** (times - 1) for m, times in failures.items()}
        return replace(
            self, failures={**self.failures, **failures}, returns={**self.returns, **returns}
        )

    def welcoming_back(self) -> QueryState:
        """The state after the lost members that are due in this round are active again.

        They are credited the mean quality: having been away is no sign of losing.
        """
        due = {member for member, number in self.returns.items() if number <= self.round.number}
        if not due:
            return self
        mean = math.fsum(self.quality.values()) / max(1, len(self.quality))
        active = self.in_order((*self.active, *due))
        return replace(
            self,
            active=active,
            quality={member: self.quality.get(member, mean) for member in active},
            returns={m: number for m, number in self.returns.items() if m not in due},
            round=replace(self.round, recalled=self.in_order(due), returned=self.in_order(due)),
        )

    def recalling(self) -> QueryState:
        """The state after all dormant members come back for this round: quality starts afresh."""
        active = self.in_order((*self.active, *self.dormant))
        return replace(
            self,
            active=active,
            dormant=(),
            watching=self.watching - set(self.dormant),
            quality=dict.fromkeys(active, 0.0),
            quality_rounds=0,
            round=replace(
                self.round, recalled=self.in_order((*self.round.recalled, *self.dormant))
            ),
        )
