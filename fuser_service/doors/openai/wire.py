"""Between OpenAI's objects and the fuser's own types. Pure, but for the objects' ids and times."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from fuser_service.core.types import (
    CommittedRound,
    Departure,
    DepartureReason,
    JudgedCandidate,
    Message,
    Prompt,
    Role,
)
from fuser_service.doors.openai import responses as sent
from fuser_service.doors.openai.requests import (
    EXIT_POLICIES,
    STATISTICS,
    WEIGHTINGS,
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    Request,
    Wishes,
)
from fuser_service.fusion.events import Finished, RoundCommitted, Started
from fuser_service.service import EnsembleStatus
from fuser_service.validation import Draws, GenerateRequest, Overrides

OWNER: Final = "specfuse"

_ROLES: Final = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
}
_DEPARTURES: Final = {
    DepartureReason.EXIT: "exit",
    DepartureReason.FAILED: "failed",
    DepartureReason.REJECTED: "failed",  # its detail says what was wrong
    DepartureReason.STRAGGLER: "straggler",
}


def generate_request(request: Request, *, request_id: str) -> GenerateRequest:
    """The query that a request asks."""
    wishes = request.wishes
    resume = wishes.resume
    return GenerateRequest(
        prompt=_prompt(request),
        ensemble=request.model,
        max_tokens=max_tokens(request),
        stop=request.stops,
        sampling=Draws(temperature=request.temperature, top_p=request.top_p, top_k=wishes.top_k),
        seed=request.seed or 0,
        overrides=_overrides(wishes),
        committed_segments=tuple(resume.committed_segments) if resume else (),
        committed_tokens=resume.committed_tokens if resume else 0,
        session_id=wishes.session_id or "",
        request_id=request_id,
    )


def max_tokens(request: Request) -> int | None:
    """Most tokens of the answer; None if the request does not say."""
    if isinstance(request, ChatRequest) and request.max_completion_tokens is not None:
        return request.max_completion_tokens
    return request.max_tokens


def model(status: EnsembleStatus, created: int) -> sent.Model:
    """An ensemble as a model."""
    return sent.Model(
        id=status.name,
        object="model",
        created=created,
        owned_by=OWNER,
        specfuse=sent.EnsembleFacts(
            members=list(status.members),
            ready_members=list(status.ready_members),
            quorum=status.quorum,
            ready=status.ready,
            max_tokens_limit=status.max_tokens_limit,
        ),
    )


def round_facts(event: RoundCommitted, *, trace: bool) -> sent.Round:
    """What is told of a committed round."""
    committed = event.round
    facts: dict[str, Any] = {
        "round": committed.number,
        "segment": committed.segment,
        "tokens": committed.token_count,
        "winner": committed.winner,
        "finished": _ends(committed),
        "shares": {
            member: judged.share for judged in committed.candidates for member in judged.proposers
        },
        "left": _departed(committed.left),
        "recalled": list(committed.recalled),
        "watched": list(committed.watched),
        "objected": list(committed.objected),
        "milliseconds": sent.RoundMilliseconds(
            propose=_milliseconds(event.propose_seconds),
            score=_milliseconds(event.score_seconds),
            total=_milliseconds(event.total_seconds),
        ),
    }
    if trace:
        facts["candidates"] = [_candidate(judged) for judged in committed.candidates]
    return sent.Round(**facts)


@dataclass(slots=True)
class Progress:
    """What is known of an answer so far."""

    request: GenerateRequest
    trace: bool
    started: Started | None = None
    rounds: list[sent.Round] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    finished: Finished | None = None

    def add(self, event: Started | RoundCommitted | Finished) -> None:
        """Takes note of an event."""
        if isinstance(event, Started):
            self.started = event
        elif isinstance(event, RoundCommitted):
            self.rounds.append(round_facts(event, trace=self.trace))
            self.shown.append(event.round.text)
        else:
            self.finished = event
            self.shown.append(event.text)

    @property
    def resume(self) -> dict[str, Any] | None:
        """What a new request needs to go on; None if nothing is committed."""
        segments = [*self.request.committed_segments, *(one.segment for one in self.rounds)]
        tokens = self.request.committed_tokens + sum(one.tokens for one in self.rounds)
        return {"committed_segments": segments, "committed_tokens": tokens} if self.rounds else None

    @property
    def usage(self) -> sent.Usage:
        """What it took so far."""
        completion = sum(one.tokens for one in self.rounds)
        prompt = 0 if self.finished is None else self.finished.prompt_tokens
        return sent.Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
        )

    def facts(self, *, with_rounds: bool) -> sent.Facts:
        """How the answer came about, once it is complete."""
        started, finished = self.started, self.finished
        if started is None or finished is None:
            raise ValueError("the answer is not complete")
        facts: dict[str, Any] = {
            "members": list(started.members),
            "session_id": started.session_id,
            "calls": sent.CallKinds(
                propose=sent.Calls(made=finished.propose_made, avoided=finished.propose_avoided),
                score=sent.Calls(made=finished.score_made, avoided=finished.score_avoided),
            ),
            "passes": finished.passes,
            "discarded_tokens": finished.discarded_tokens,
            "degraded": finished.degraded,
            "lost": _departed(finished.lost),
            "absent": list(finished.absent),
            "milliseconds": _milliseconds(finished.total_seconds),
        }
        if with_rounds:
            facts["rounds"] = self.rounds
        return sent.Facts(**facts)

    @property
    def finish_reason(self) -> sent.FinishReason:
        """Why the answer ended."""
        if self.finished is None:
            raise ValueError("the answer is not complete")
        return self.finished.reason.value


class Form(Protocol):
    """The objects of one route, of one answer."""

    def whole(self, progress: Progress) -> bytes:
        """The complete answer."""

    def text(self, text: str, facts: sent.Round | None) -> bytes:
        """A chunk with the next text."""

    def end(self, progress: Progress) -> bytes:
        """The chunk that says why the answer ended."""

    def usage(self, usage: sent.Usage) -> bytes:
        """The chunk after that, with the usage."""


class ChatForm:
    """Chat completions."""

    def __init__(self, model: str) -> None:
        self._same = _Same("chatcmpl", model)
        self._has_begun = False

    def whole(self, progress: Progress) -> bytes:
        """The complete answer."""
        choice = sent.ChatChoice(
            index=0,
            message=sent.Message(role="assistant", content="".join(progress.shown), refusal=None),
            logprobs=None,
            finish_reason=progress.finish_reason,
        )
        return sent.ChatCompletion(
            **self._same.fields,
            object="chat.completion",
            choices=[choice],
            usage=progress.usage,
            specfuse=progress.facts(with_rounds=True),
        ).json_bytes()

    def text(self, text: str, facts: sent.Round | None) -> bytes:
        """A chunk with the next text; the first says who speaks."""
        delta = sent.Delta(content=text) if self._has_begun else _first_delta(text)
        self._has_begun = True
        return self._chunk([_chat_choice(delta)], facts)

    def end(self, progress: Progress) -> bytes:
        """The chunk that says why the answer ended."""
        choice = _chat_choice(sent.Delta(), progress.finish_reason)
        return self._chunk([choice], progress.facts(with_rounds=False))

    def usage(self, usage: sent.Usage) -> bytes:
        """The chunk after that, with the usage."""
        return self._chunk([], usage=usage)

    def _chunk(
        self,
        choices: list[sent.ChatChunkChoice],
        facts: sent.Round | sent.Facts | None = None,
        **more: Any,  # noqa: ANN401
    ) -> bytes:
        if facts is not None:
            more["specfuse"] = facts
        return sent.ChatCompletionChunk(
            **self._same.fields, object="chat.completion.chunk", choices=choices, **more
        ).json_bytes()


class TextForm:
    """Completions."""

    def __init__(self, model: str) -> None:
        self._same = _Same("cmpl", model)

    def whole(self, progress: Progress) -> bytes:
        """The complete answer."""
        text, facts = "".join(progress.shown), progress.facts(with_rounds=True)
        choice = _text_choice(text, progress.finish_reason)
        return self._object([choice], facts, usage=progress.usage)

    def text(self, text: str, facts: sent.Round | None) -> bytes:
        """A chunk with the next text."""
        return self._object([_text_choice(text)], facts)

    def end(self, progress: Progress) -> bytes:
        """The chunk that says why the answer ended."""
        choice = _text_choice("", progress.finish_reason)
        return self._object([choice], progress.facts(with_rounds=False))

    def usage(self, usage: sent.Usage) -> bytes:
        """The chunk after that, with the usage."""
        return self._object([], usage=usage)

    def _object(
        self,
        choices: list[sent.TextChoice],
        facts: sent.Round | sent.Facts | None = None,
        **more: Any,  # noqa: ANN401
    ) -> bytes:
        if facts is not None:
            more["specfuse"] = facts
        return sent.Completion(
            **self._same.fields, object="text_completion", choices=choices, **more
        ).json_bytes()


class _Same:
    """What all objects of an answer have in common."""

    def __init__(self, prefix: str, model: str) -> None:
        self.fields: dict[str, Any] = {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }


def form_of(request: Request) -> Form:
    """The objects that answer a request."""
    return (ChatForm if isinstance(request, ChatRequest) else TextForm)(request.model)


def _prompt(request: Request) -> Prompt:
    if isinstance(request, ChatRequest):
        return tuple(_message(message) for message in request.messages)
    if isinstance(request, CompletionRequest):
        return request.text
    raise TypeError(type(request).__qualname__)


def _message(message: ChatMessage) -> Message:
    content = message.content
    text = "\n".join(part.text for part in content) if isinstance(content, list) else content
    return Message(_ROLES[message.role], text or "")


def _overrides(wishes: Wishes) -> Overrides:
    return Overrides(
        segment_tokens=wishes.segment_tokens,
        statistic=None if wishes.statistic is None else STATISTICS[wishes.statistic],
        weighting=None if wishes.weighting is None else WEIGHTINGS[wishes.weighting],
        exit_policy=None if wishes.exit_policy is None else EXIT_POLICIES[wishes.exit_policy],
        recall=wishes.recall,
        self_judgement=wishes.self_judgement,
        fast_finish=wishes.fast_finish,
    )


def _ends(committed: CommittedRound) -> bool:
    return any(
        judged.candidate.finished
        for judged in committed.candidates
        if committed.winner in judged.proposers
    )


def _candidate(judged: JudgedCandidate) -> sent.Candidate:
    return sent.Candidate(
        text=judged.candidate.text,
        finished=judged.candidate.finished,
        proposers=list(judged.proposers),
        share=judged.share,
        judgements=dict(judged.judgements),
    )


def _departed(departures: Iterable[Departure]) -> list[sent.Departed]:
    return [
        sent.Departed.model_validate(
            {"member": one.member, "reason": _DEPARTURES[one.reason], "detail": one.detail}
        )
        for one in departures
    ]


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _first_delta(text: str) -> sent.Delta:
    return sent.Delta(role="assistant", content=text)


def _chat_choice(
    delta: sent.Delta, reason: sent.FinishReason | None = None
) -> sent.ChatChunkChoice:
    return sent.ChatChunkChoice(index=0, delta=delta, logprobs=None, finish_reason=reason)


def _text_choice(text: str, reason: sent.FinishReason | None = None) -> sent.TextChoice:
    return sent.TextChoice(index=0, text=text, logprobs=None, finish_reason=reason)
