"""A draft asked for before its turn, while the one that it goes on from is still being judged.

If that one is committed whole, as most are, the next round finds its draft made, or begun.
Otherwise what was drafted is of no use to anybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fuser_service.core.rounds import Transition
from fuser_service.core.steps import Propose
from fuser_service.core.types import MemberName, Proposal


class Ahead:
    """The call of the one member that is to draft next, if all goes as expected."""

    def __init__(
        self,
        step: Propose,
        committed: tuple[str, ...],
        call: Callable[[], Coroutine[Any, Any, Proposal]],
        clock: Callable[[], float],
    ) -> None:
        """Begins the call, for a step once so much is committed. `clock` counts seconds."""
        self._step = step
        self._committed = committed
        self._clock = clock
        self._began = clock()
        self._took: float | None = None
        self.taken = False
        """Whether the step that it was made for has begun to wait for it."""
        self._task = asyncio.create_task(self._timed(call))

    @property
    def member(self) -> MemberName:
        """Whose call it is."""
        return self._step.members[0]

    @property
    def seconds(self) -> float:
        """How long the call took, or has taken until now."""
        return self._clock() - self._began if self._took is None else self._took

    def serves(self, transition: Transition) -> bool:
        """Whether this is what has to be asked next."""
        asked = transition.step
        return (
            isinstance(asked, Propose)
            and (asked.members, asked.max_tokens) == (self._step.members, self._step.max_tokens)
            and transition.state.committed == self._committed
        )

    @property
    def ended_with(self) -> Proposal | BaseException:
        """What became of the call, which has ended: its draft, or what it raised."""
        if self._task.cancelled():
            return asyncio.CancelledError()
        return self._task.exception() or self._task.result()

    async def proposal(self) -> Proposal:
        """The draft. Raises what the call does; cancelling it cancels the call."""
        self.taken = True
        return await self._task

    async def stop(self) -> None:
        """Ends the call, and returns once it has ended: not sooner if that is cancelled as well."""
        self._task.cancel()
        cancelled = False
        while not self._task.done():
            try:
                await asyncio.wait((self._task,))
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError

    async def _timed(self, call: Callable[[], Coroutine[Any, Any, Proposal]]) -> Proposal:
        try:
            return await call()
        finally:
            self._took = self._clock() - self._began
