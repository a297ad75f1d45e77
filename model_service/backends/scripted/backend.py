"""A backend without a model: it says what its script says. For tests of everything around it.

Its tokens are words with the whitespace before them, so scores and counts can be worked out by
hand. It writes its script's answer, going on after as many words as are committed, no matter which
member wrote them. It finds probable what it would have written itself at that place; a candidate
may be cut in the middle of its word.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from itertools import accumulate
from typing import Final

from model_service.backends.scripted.settings import Line, ScriptedSection
from model_service.core.scores import evidence_of, score_of
from model_service.core.text import stop_end
from model_service.core.types import (
    Candidate,
    Capabilities,
    Context,
    ModelDescription,
    Proposal,
    ProposeRequest,
    Score,
    ScoreRequest,
    Scores,
    SegmentFinish,
    Usage,
)
from model_service.ports import BackendHost, BackendObserver
from specfuse.deadline import Deadline
from specfuse.errors import (
    ContextTooLong,
    DeadlineExceeded,
    InvalidArgument,
    ModelFailure,
    Overloaded,
    SpecFuseError,
    Unavailable,
)

_FAILURES: Final[dict[str, SpecFuseError]] = {
    "unavailable": Unavailable("the script says so"),
    "overloaded": Overloaded("the script says so"),
    "model_failure": ModelFailure("the script says so"),
}
_END: Final = "</s>"


class ScriptedBackend:
    """Serves a script."""

    def __init__(self, name: str, script: ScriptedSection, observer: BackendObserver) -> None:
        self._script = script
        self._observer = observer
        digest = hashlib.sha256(script.model_dump_json().encode()).hexdigest()
        self._model = ModelDescription(
            name=name,
            revision=digest[:40],
            tokenizer_fingerprint="words",
            context_window=script.context_window,
            backend="scripted",
            capabilities=Capabilities(
                tree_scoring=False, own_scores=True, prefix_cache=False, evidence=True
            ),
        )

    @property
    def model(self) -> ModelDescription:
        """What is served."""
        return self._model

    async def propose(self, request: ProposeRequest, deadline: Deadline) -> Proposal:
        """Drafts the next words of the script's answer."""
        line = self._applicable(request.context)
        rest = _rest(line, request.context)
        words = rest[: request.max_tokens]
        await self._passed(line, len(words), deadline)
        usage = self._usage(request.context, request.max_tokens)
        text, finish = (
            "".join(words),
            SegmentFinish.LENGTH if len(words) < len(rest) else SegmentFinish.END,
        )
        end = stop_end(text, request.stop, "".join(request.context.committed))
        if end is not None:
            text, finish = text[:end], SegmentFinish.STOP
        return Proposal(
            text=text,
            finish=finish,
            token_count=len(_words(text)),
            usage=usage,
            own_score=_judged(line, rest, Candidate(text, finish is SegmentFinish.END)),
        )

    async def score(self, request: ScoreRequest, deadline: Deadline) -> Scores:
        """Scores every candidate by how many of its words the script has in the same place."""
        line = self._applicable(request.context)
        await self._passed(line, 0, deadline)
        longest = max(len(_words(candidate.text)) for candidate in request.candidates)
        usage = self._usage(request.context, longest)
        rest = _rest(line, request.context)
        return Scores(tuple(_judged(line, rest, c) for c in request.candidates), usage)

    async def close(self) -> None:
        """Nothing to stop."""

    async def _passed(self, line: Line, drafted: int, deadline: Deadline) -> None:
        """Delays or fails a call that drafts so many tokens, as the line says."""
        seconds = line.seconds + drafted * line.token_seconds
        self._observer.queued(0.0)
        try:
            async with asyncio.timeout(deadline.timeout):
                await (asyncio.Event().wait() if line.hangs else asyncio.sleep(seconds))
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the script's time was up") from None
        if line.fails:
            raise _FAILURES[line.fails]

    def _applicable(self, context: Context) -> Line:
        asked = context.prompt if isinstance(context.prompt, str) else context.prompt[-1].content
        for line in self._script.lines:
            if line.when in asked and len(context.committed) >= line.after_segments:
                return line
        raise InvalidArgument("context", "no line of the script applies to this prompt")

    def _usage(self, context: Context, more: int) -> Usage:
        """The words of the context; together with `more` they must fit the window."""
        prompt = context.prompt
        asked = prompt if isinstance(prompt, str) else " ".join(m.content for m in prompt)
        tokens = len(_words(asked)) + len(_words("".join(context.committed)))
        window = self._script.context_window
        if tokens + more > window:
            raise ContextTooLong(tokens=tokens + more, window=window)
        return Usage(context_tokens=tokens, cached_tokens=0)


async def open_backend(section: ScriptedSection, host: BackendHost) -> ScriptedBackend:
    """Serves the script."""
    return ScriptedBackend(host.name, section, host.observer)


def _words(text: str) -> list[str]:
    """Words with the whitespace before them; whitespace at the end belongs to the last one."""
    return re.findall(r"\s*\S+(?:\s+$)?|^\s+$", text)


def _rest(line: Line, context: Context) -> list[str]:
    """What the script has after as many words as are committed."""
    return _words(line.answer)[len(_words("".join(context.committed))) :]


def _judged(line: Line, rest: list[str], candidate: Candidate) -> Score:
    """What the scripted model thinks of a candidate of at least one token."""
    words = _words(candidate.text) + ([_END] if candidate.finished else [])
    expected = [*rest, *[_END] * len(words)][: len(words)]
    if not candidate.finished and expected[-1].startswith(words[-1]):
        expected[-1] = words[-1]  # the candidate is cut within it
    logprobs = [
        math.log(line.own_probability if word == own else line.other_probability)
        for word, own in zip(words, expected, strict=True)
    ]
    best = math.log(max(line.own_probability, line.other_probability))
    offsets = accumulate((len(word.encode()) for word in words), initial=0)
    evidence = evidence_of(logprobs, [best] * len(logprobs), [*offsets])
    return score_of(logprobs, candidate.text, evidence)
