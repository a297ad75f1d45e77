"""Asks every system every question, several questions at a time.

What the results file already has is not asked again. A failed question does not affect the others:
it is counted, and asked again when the evaluation is run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from specfuse.client import FinishReason, Segment
from specfuse.errors import DeadlineExceeded, Internal, SpecFuseError, Unavailable
from specfuse.eval.asking import Mesh, Response, TimedAnswer
from specfuse.eval.oracle import Draft, best_route
from specfuse.eval.records import (
    BEST_RESPONSE,
    Record,
    ResultsFile,
    RoundRecord,
    System,
    SystemKind,
    oracle,
)
from specfuse.eval.suites import Case, ErrorKind, Suite

_HOPELESS: Final = 10
"""This many failures in a row, without a success, mean that the mesh does not work."""
_SIGNS_OF_DEATH: Final = (Unavailable, DeadlineExceeded, Internal)
"""Failures of the mesh; a question that is refused says nothing about it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of whom.

    `singles` must include all members for `best_response` to be possible. `oracles` has, for each
    best choice of segments that is searched for, how many tokens they may have. `concurrency` is
    how many questions are under way at a time; each is answered by one system after the other.
    `settings` has for each ensemble that is asked a digest of what its answers depend on.
    """

    suite: Suite
    singles: tuple[str, ...]
    best_response: bool
    fused: tuple[str, ...]
    oracles: tuple[int, ...]
    settings: Mapping[str, str]
    max_tokens: int | None
    concurrency: int

    @property
    def systems(self) -> tuple[System, ...]:
        """All systems, in the order in which they are asked."""
        return (
            *(System(SystemKind.SINGLE, name) for name in self.singles),
            *((BEST_RESPONSE,) if self.best_response else ()),
            *(System(SystemKind.FUSED, name) for name in self.fused),
            *(oracle(tokens) for tokens in self.oracles),
        )

    def due(self, results: ResultsFile) -> int:
        """How many answers the results lack.

        Raises:
            Misconfigured: some that they have were given under other settings.
        """
        for system in self.systems:
            results.begin(system, self._settings_of(system))
        return sum(
            results.of(system, case.id) is None
            for system in self.systems
            for case in self.suite.cases
        )

    def _settings_of(self, system: System) -> str:
        if system.kind in (SystemKind.BEST_RESPONSE, SystemKind.ORACLE):
            return " ".join(self.settings[name] for name in self.singles)
        return self.settings[system.name]


class Evaluation:
    """A plan being carried out over a mesh."""

    def __init__(self, plan: Plan, mesh: Mesh, results: ResultsFile) -> None:
        self._plan = plan
        self._mesh = mesh
        self._results = results
        self._failed_in_a_row = 0
        self.failures: list[SpecFuseError] = []

    async def run(self, advanced: Callable[[], None]) -> None:
        """Asks what has not been answered yet; calls `advanced` after every answer or failure.

        Raises:
            SpecFuseError: the mesh does not work at all.
        """
        waiting = iter(self._plan.suite.cases)

        async def worker() -> None:
            for case in waiting:
                await self._ask_all(case, advanced)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._plan.concurrency):
                    group.create_task(worker())
        except* SpecFuseError as errors:
            raise errors.exceptions[0] from None

    async def _ask_all(self, case: Case, advanced: Callable[[], None]) -> None:
        for system in self._plan.systems:
            if self._results.of(system, case.id) is not None:
                continue
            try:
                record = await self._asked(system, case)
            except SpecFuseError as error:
                self._failed(error)
            else:
                if record is not None:
                    self._failed_in_a_row = 0
                    self._results.add(record)
            advanced()

    def _failed(self, error: SpecFuseError) -> None:
        self.failures.append(error)
        self._failed_in_a_row += isinstance(error, _SIGNS_OF_DEATH)
        if self._failed_in_a_row >= _HOPELESS:
            raise error

    async def _asked(self, system: System, case: Case) -> Record | None:
        """The system's answer; None if finding it has failed."""
        if system.kind is SystemKind.BEST_RESPONSE:
            return await self._best_response(case)
        if system.kind is SystemKind.ORACLE:
            return await self._best_route(system, case)
        timed = await self._mesh.answer(case.prompt, system.name, self._plan.max_tokens)
        return _record_of(system, self._plan.suite, case, timed)

    async def _best_response(self, case: Case) -> Record | None:
        """The best of what the members answered alone. Takes their calls, and a score from each."""
        singles = (System(SystemKind.SINGLE, name) for name in self._plan.singles)
        alone = [self._results.of(system, case.id) for system in singles]
        known = [record for record in alone if record is not None]
        if len(known) < len(alone):
            return None
        responses = [Response(record.text, record.ended) for record in known]
        loop = asyncio.get_running_loop()
        began = loop.time()
        best = known[await self._mesh.best_of(case.prompt, responses)]
        seconds = max(record.seconds for record in known) + loop.time() - began
        return Record(
            system=BEST_RESPONSE,
            case=case.id,
            text=best.text,
            ended=best.ended,
            exact=best.exact,
            marks=best.marks,
            error=best.error,
            rounds=(),
            calls_made=sum(record.calls_made for record in known) + len(self._mesh.verifiers),
            calls_avoided=0,
            output_tokens=best.output_tokens,
            discarded_tokens=sum(r.output_tokens for r in known) - best.output_tokens,
            first_segment_seconds=seconds,  # nothing can be shown before all is written
            seconds=seconds,
            lost=sum(record.lost for record in known),
            passes=sum(record.passes for record in known) + len(self._mesh.verifiers),
        )

    async def _best_route(self, system: System, case: Case) -> Record:
        """The best choice of segments: what it wrote counts as an answer like any other."""
        (tokens,) = (one for one in self._plan.oracles if oracle(one) == system)
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def propose(committed: tuple[str, ...]) -> Sequence[Draft]:
            return await self._mesh.proposals(case.prompt, committed, tokens)

        route = await best_route(case.answer, propose)
        text = "".join(route.segments)
        mark = self._plan.suite.mark(case, text)
        seconds = loop.time() - began
        return Record(
            system=system,
            case=case.id,
            text=text,
            ended=route.complete,
            exact=mark.exact and route.complete,
            marks=mark.parts,
            error=mark.error if route.complete else ErrorKind.STOPPED,
            rounds=(),
            calls_made=route.drafts,
            calls_avoided=0,
            output_tokens=0,
            discarded_tokens=0,
            first_segment_seconds=seconds,
            seconds=seconds,
            lost=0,
        )


def _record_of(system: System, suite: Suite, case: Case, timed: TimedAnswer) -> Record:
    answer = timed.answer
    finished = answer.finished
    mark = suite.mark(case, answer.text)
    return Record(
        system=system,
        case=case.id,
        text=answer.text,
        ended=finished.reason is FinishReason.STOP,
        exact=mark.exact,
        marks=mark.parts,
        error=mark.error,
        rounds=tuple(_rounds_of(suite, case, answer.segments)),
        calls_made=finished.calls_made,
        calls_avoided=finished.calls_avoided,
        output_tokens=finished.output_tokens,
        discarded_tokens=finished.discarded_tokens,
        first_segment_seconds=timed.first_segment_seconds,
        seconds=timed.seconds,
        lost=len(finished.lost),
        passes=finished.passes,
    )


def _rounds_of(suite: Suite, case: Case, segments: Iterable[Segment]) -> Iterable[RoundRecord]:
    before = ""
    for one in segments:
        yield RoundRecord(
            winner=one.winner,
            segment=one.segment,
            tokens=one.token_count,
            active=len(one.active),
            candidates=len(one.candidates),
            voted=any(candidate.judgements for candidate in one.candidates),
            recalled=bool(one.recalled),
            skill=suite.skill_at(case, before),
        )
        before += one.segment
