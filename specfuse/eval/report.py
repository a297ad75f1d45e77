"""What the records come to. Pure: computed from them and nothing else."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from specfuse.eval.proportions import Proportion
from specfuse.eval.records import Record, RoundRecord, System, SystemKind
from specfuse.eval.suites import Suite


@dataclass(frozen=True, slots=True)
class Summary:
    """How one system did on the questions it answered; there is at least one.

    `by_parts` is by number of parts, as are `active_by_parts` (mean active members of a round) and
    `calls_by_parts` (made, avoided); `by_skill` is of one-part questions. `mean_active` is over all
    rounds, `active_by_round` over those of a number, from 1. `wins` counts committed segments by
    member and by skill of the part being answered, `consensus_calls_avoided` the scores that rounds
    with a single candidate did without. Seconds are medians: of the first segment, and per token
    after it. `passes` are those through models: tokens drafted, and calls to score.
    """

    exact: Proportion
    by_parts: Mapping[int, Proportion]
    by_skill: Mapping[str, Proportion]
    single_parts: Proportion
    errors: Mapping[str, int]
    calls_made: int
    calls_avoided: int
    calls_by_parts: Mapping[int, tuple[int, int]]
    consensus_calls_avoided: int
    mean_active: float
    active_by_parts: Mapping[int, float]
    active_by_round: Sequence[float]
    mean_rounds: float
    recalls: int
    output_tokens: int
    discarded_tokens: int
    first_segment_seconds: float
    seconds_per_token: float | None
    wins: Mapping[str, Mapping[str, int]]
    lost: int
    passes: int

    @property
    def calls_per_question(self) -> float:
        """Calls to members that a question took."""
        return self.calls_made / self.exact.total

    @property
    def passes_per_question(self) -> float:
        """Passes through models that a question took."""
        return self.passes / self.exact.total

    @property
    def avoided_share(self) -> float:
        """The share of all calls, made and avoided, that was avoided."""
        return self.calls_avoided / max(1, self.calls_made + self.calls_avoided)


@dataclass(frozen=True, slots=True)
class Cell:
    """The questions of a kind that have so many parts."""

    kind: str
    parts: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Shares of answers: those that are exactly right, and those that invent a fact."""

    exact: Proportion
    invents: Proportion


@dataclass(frozen=True, slots=True)
class Report:
    """A summary per system. `questions` counts the suite's, whether or not all are answered yet.

    `outcomes` are by system and cell, in the suite's order; empty if it knows no kinds.
    """

    suite: str
    seed: int
    questions: int
    summaries: Mapping[System, Summary]
    outcomes: Mapping[System, Mapping[Cell, Outcome]] = field(default_factory=dict)

    def of_kind(self, kind: SystemKind) -> dict[str, Summary]:
        """The summaries of the systems of a kind, by name."""
        return {s.name: summary for s, summary in self.summaries.items() if s.kind is kind}

    def to_document(self) -> dict[str, Any]:
        """The report as one JSON object."""
        best = self.of_kind(SystemKind.BEST_RESPONSE)
        return {
            "suite": self.suite,
            "questions": self.questions,
            "seed": self.seed,
            "single": _documents(self.of_kind(SystemKind.SINGLE)),
            "best_response": next(iter(_documents(best).values()), None),
            "fused": _documents(self.of_kind(SystemKind.FUSED)),
            "oracle": _documents(self.of_kind(SystemKind.ORACLE)),
            "kinds": [
                _outcome_document(system, cell, outcome)
                for system, outcomes in self.outcomes.items()
                for cell, outcome in outcomes.items()
            ],
        }


def report_on(
    suite: Suite, seed: int, systems: Sequence[System], records: Iterable[Record]
) -> Report:
    """The report on what these systems answered of the suite; others' records do not count."""
    cases = {case.id for case in suite.cases}
    by_system: defaultdict[System, list[Record]] = defaultdict(list)
    for record in records:
        if record.case in cases:
            by_system[record.system].append(record)
    summaries = {system: summary_of(by_system[system]) for system in systems if by_system[system]}
    outcomes = {system: _outcomes(suite, by_system[system]) for system in summaries}
    kinds = {system: found for system, found in outcomes.items() if found}
    return Report(suite.name, seed, len(cases), summaries, kinds)


def _outcomes(suite: Suite, records: Iterable[Record]) -> dict[Cell, Outcome]:
    """By kind and number of parts, in the suite's order; what has no kind does not count."""
    by_case = {record.case: record for record in records}
    cells: defaultdict[Cell, list[tuple[bool, bool]]] = defaultdict(list)
    for case in suite.cases:
        record = by_case.get(case.id)
        if case.kind and record is not None:
            invents = suite.mark(case, record.text).invents
            cells[Cell(case.kind, case.parts)].append((record.exact, invents))
    return {cell: _outcome(marks) for cell, marks in cells.items()}


def _outcome(marks: Sequence[tuple[bool, bool]]) -> Outcome:
    exact, invents = (sum(column) for column in zip(*marks, strict=True))
    return Outcome(Proportion(exact, len(marks)), Proportion(invents, len(marks)))


def summary_of(records: Sequence[Record]) -> Summary:
    """The summary of one system's records, of which there is at least one."""
    rounds = [one for record in records for one in record.rounds]
    by_parts = _grouped(records, lambda record: record.parts)
    marks = [mark for record in records for mark in record.marks]
    return Summary(
        exact=_exact(records),
        by_parts={parts: _exact(group) for parts, group in by_parts.items()},
        by_skill=_by_skill(by_parts.get(1, ())),
        single_parts=Proportion(sum(marks), len(marks)),
        errors=Counter(record.error for record in records if record.error is not None),
        calls_made=sum(record.calls_made for record in records),
        calls_avoided=sum(record.calls_avoided for record in records),
        calls_by_parts={parts: _calls(group) for parts, group in by_parts.items()},
        consensus_calls_avoided=sum(r.active for r in rounds if r.candidates == 1 and not r.voted),
        mean_active=_mean(r.active for r in rounds),
        active_by_parts={
            parts: _mean(r.active for record in group for r in record.rounds)
            for parts, group in by_parts.items()
        },
        active_by_round=_active_by_round(records),
        mean_rounds=_mean(len(record.rounds) for record in records),
        recalls=sum(r.recalled for r in rounds),
        output_tokens=sum(record.output_tokens for record in records),
        discarded_tokens=sum(record.discarded_tokens for record in records),
        first_segment_seconds=statistics.median(r.first_segment_seconds for r in records),
        seconds_per_token=_seconds_per_token(records),
        wins=_wins(rounds),
        lost=sum(record.lost for record in records),
        passes=sum(record.passes for record in records),
    )


def _exact(records: Sequence[Record]) -> Proportion:
    return Proportion(sum(record.exact for record in records), len(records))


def _by_skill(records: Iterable[Record]) -> dict[str, Proportion]:
    """One-part questions by the skill of their part, where it is known."""
    groups: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.rounds and record.rounds[0].skill:
            groups[record.rounds[0].skill].append(record)
    return {skill: _exact(group) for skill, group in sorted(groups.items())}


def _calls(records: Sequence[Record]) -> tuple[int, int]:
    return sum(r.calls_made for r in records), sum(r.calls_avoided for r in records)


def _active_by_round(records: Sequence[Record]) -> tuple[float, ...]:
    longest = max(len(record.rounds) for record in records)
    return tuple(
        _mean(record.rounds[index].active for record in records if index < len(record.rounds))
        for index in range(longest)
    )


def _seconds_per_token(records: Sequence[Record]) -> float | None:
    """The median over answers of the time per token after the first segment; None if none has."""
    paces = [
        (record.seconds - record.first_segment_seconds) / tokens
        for record in records
        if (tokens := sum(r.tokens for r in record.rounds[1:])) > 0
    ]
    return statistics.median(paces) if paces else None


def _wins(rounds: Iterable[RoundRecord]) -> dict[str, dict[str, int]]:
    wins: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in rounds:
        wins[one.winner][one.skill] += 1
    return {member: dict(sorted(skills.items())) for member, skills in sorted(wins.items())}


def _grouped(records: Iterable[Record], key: Callable[[Record], int]) -> dict[int, list[Record]]:
    groups: defaultdict[int, list[Record]] = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return dict(sorted(groups.items()))


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.fmean(found) if found else 0.0


# --- as JSON --------------------------------------------------------------------------------------


def _documents(summaries: Mapping[str, Summary]) -> dict[str, dict[str, Any]]:
    return {name: _document(summary) for name, summary in summaries.items()}


def _outcome_document(system: System, cell: Cell, outcome: Outcome) -> dict[str, Any]:
    return {
        "system": {"kind": system.kind.value, "name": system.name},
        "kind": cell.kind,
        "parts": cell.parts,
        "asked": outcome.exact.total,
        "exact": outcome.exact.hits,
        "exact_interval": outcome.exact.interval,
        "invents": outcome.invents.hits,
        "invents_interval": outcome.invents.interval,
    }


def _document(summary: Summary) -> dict[str, Any]:
    return {
        "answered": summary.exact.total,
        "exact": summary.exact.value,
        "exact_interval": summary.exact.interval,
        "exact_by_parts": {str(p): share.value for p, share in summary.by_parts.items()},
        "exact_by_parts_interval": {str(p): s.interval for p, s in summary.by_parts.items()},
        "exact_by_skill_of_one_part": {s: share.value for s, share in summary.by_skill.items()},
        "parts_right": summary.single_parts.value,
        "errors": dict(summary.errors),
        "calls_made": summary.calls_made,
        "calls_avoided": summary.calls_avoided,
        "passes": summary.passes,
        "calls_avoided_by_consensus": summary.consensus_calls_avoided,
        "mean_active": summary.mean_active,
        "mean_active_by_parts": {str(p): mean for p, mean in summary.active_by_parts.items()},
        "mean_active_by_round": list(summary.active_by_round),
        "mean_rounds": summary.mean_rounds,
        "recalls": summary.recalls,
        "output_tokens": summary.output_tokens,
        "discarded_tokens": summary.discarded_tokens,
        "first_segment_seconds": summary.first_segment_seconds,
        "seconds_per_token": summary.seconds_per_token,
        "wins": summary.wins,
        "members_lost": summary.lost,
    }
