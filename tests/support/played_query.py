"""Plays a query through the fuser's core, with answers given by functions. No clock, no tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from fuser_service.core import rounds
from fuser_service.core.commit import Commit
from fuser_service.core.rules import Rules
from fuser_service.core.state import QueryState
from fuser_service.core.steps import (
    Busy,
    Failed,
    Finish,
    Late,
    LoseQuorum,
    Ok,
    Propose,
    Refused,
    Result,
    Step,
    Verify,
)
from fuser_service.core.types import Candidate, CommittedRound, MemberName, Proposal, Score

if TYPE_CHECKING:
    Proposer = Callable[[MemberName, tuple[str, ...]], Result[Proposal] | Proposal]
    Verifier = Callable[[MemberName, tuple[str, ...], Candidate], Result[Score] | Score]

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Played:
    """A query that was played: its states and steps in order, and what it committed."""

    states: list[QueryState] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)

    @property
    def rounds(self) -> list[CommittedRound]:
        return [commit.round for commit in self.commits]

    @property
    def end(self) -> Finish | LoseQuorum:
        last = self.steps[-1]
        assert isinstance(last, Finish | LoseQuorum)
        return last

    @property
    def text(self) -> str:
        """What a caller has to show for it."""
        shown = "".join(committed.text for committed in self.rounds)
        return shown + (self.end.text if isinstance(self.end, Finish) else "")

    @property
    def asked_to_score(self) -> list[dict[MemberName, tuple[str, ...]]]:
        """The texts every scoring step asked of every verifier."""
        return [
            {member: tuple(c.text for c in cs) for member, cs in step.assignments.items()}
            for step in self.steps
            if isinstance(step, Verify)
        ]

    @property
    def asked_to_propose(self) -> list[tuple[MemberName, ...]]:
        return [step.members for step in self.steps if isinstance(step, Propose)]


def play(
    rules: Rules,
    proposer: Proposer,
    verifier: Verifier,
    committed: tuple[str, ...] = (),
    committed_tokens: int = 0,
) -> Played:
    """Plays a query to its end.

    `proposer` is asked with the member and the committed segments, `verifier` with a candidate as
    well. Either may give a bare value or a result; a verifier's failure is its whole call's.
    """
    played = Played()
    transition = rounds.start(rules, committed, committed_tokens)
    while True:
        state, step = transition.state, transition.step
        played.states.append(state)
        played.steps.append(step)
        if transition.commit:
            played.commits.append(transition.commit)
        if isinstance(step, Propose):
            proposals = {m: _result(proposer(m, state.committed)) for m in step.members}
            transition = rounds.proposed(state, step, proposals)
        elif isinstance(step, Verify):
            scores = {
                m: _all_or_first_trouble([_result(verifier(m, state.committed, c)) for c in cs])
                for m, cs in step.assignments.items()
            }
            transition = rounds.scored(state, step, scores)
        else:
            return played


def _result(answer: Result[Answer] | Answer) -> Result[Answer]:
    given = isinstance(answer, Ok | Failed | Refused | Busy | Late)
    return answer if given else Ok(answer)


def _all_or_first_trouble(results: list[Result[Answer]]) -> Result[tuple[Answer, ...]]:
    answers = []
    for result in results:
        if not isinstance(result, Ok):
            return result
        answers.append(result.value)
    return Ok(tuple(answers))
