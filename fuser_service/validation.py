"""What a caller may ask, and how it becomes a query: checked, and completed by the settings. Pure.

Fields are named as in the contract, whichever door a request came through. No error repeats text
of a prompt or an answer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, TypeVar

from fuser_service.core.rules import (
    ExitKind,
    ExitRules,
    ObjectionRules,
    Rules,
    SelfJudgement,
    Statistic,
    Vote,
    Weighting,
)
from fuser_service.core.types import MemberName, Prompt, Sampling
from fuser_service.fusion.query import Query, Timings
from fuser_service.settings.settings import Ensemble, Limits, exit_policy_of
from specfuse.errors import InvalidArgument
from specfuse.limits import (
    MAX_SEED,
    MAX_SESSION_ID_BYTES,
    between,
    check_sampling,
    check_stop,
    check_turns,
    refuse,
    utf8_bytes,
)

T = TypeVar("T")

_MESSAGES: Final = "conversation.messages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Settings of the ensemble that one request may change. None keeps the ensemble's."""

    segment_tokens: int | None = None
    statistic: Statistic | None = None
    weighting: Weighting | None = None
    exit_policy: ExitKind | None = None
    recall: bool | None = None
    self_judgement: bool | None = None
    fast_finish: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """How one request has tokens drawn. None keeps the ensemble's."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """One query as it was asked, unchecked.

    An empty `ensemble` means the only one; `max_tokens` and `sampling` None mean the ensemble's; an
    empty `session_id` means a digest of the prompt. `request_id` is what the request is called in
    accounts; empty means a new one.
    """

    prompt: Prompt
    ensemble: str = ""
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    sampling: Draws = Draws()
    seed: int = 0
    overrides: Overrides = Overrides()
    committed_segments: tuple[str, ...] = ()
    committed_tokens: int = 0
    session_id: str = ""
    request_id: str = ""


def resolve(request: GenerateRequest, name: str, ensemble: Ensemble, limits: Limits) -> Query:
    """The query that `request` asks of the ensemble called `name`.

    Raises:
        InvalidArgument: a field is wrong; names it, its value and what it may be.
    """
    _check_prompt(request.prompt, limits)
    _check_committed(request, limits)
    _at_most(
        "session_id", utf8_bytes("session_id", request.session_id), MAX_SESSION_ID_BYTES, "bytes"
    )
    return Query(
        ensemble=name,
        rules=_rules(request, ensemble, limits),
        prompt=request.prompt,
        session_id=request.session_id or _digest(request.prompt),
        sampling=_sampling(request, ensemble),
        committed_segments=request.committed_segments,
        committed_tokens=request.committed_tokens,
        timings=Timings(
            straggler_grace_seconds=ensemble.straggler_grace_seconds,
            round_timeout_seconds=ensemble.round_timeout_seconds,
            wake_seconds=ensemble.wake_seconds,
            wake_grace_seconds=ensemble.wake_grace_seconds,
        ),
        draft_ahead=ensemble.draft_ahead,
    )


def _rules(request: GenerateRequest, ensemble: Ensemble, limits: Limits) -> Rules:
    overrides = request.overrides
    max_tokens = _chosen(request.max_tokens, ensemble.max_tokens)
    between("max_tokens", max_tokens, 1, ensemble.max_tokens_limit)
    _check_committed_tokens(request.committed_tokens, max_tokens, ensemble.segment_tokens_limit)
    segment_tokens = _chosen(overrides.segment_tokens, ensemble.segment_tokens)
    between("overrides.segment_tokens", segment_tokens, 1, ensemble.segment_tokens_limit)
    check_stop(request.stop)
    return Rules(
        members=ensemble.members,
        max_tokens=max_tokens,
        segment_tokens=segment_tokens,
        stretch_tokens=_stretch_tokens(segment_tokens, ensemble),
        stop=request.stop,
        vote=(vote := _vote(overrides, ensemble)),
        sharpness=ensemble.sharpness,
        foresight=ensemble.foresight,
        opener=_opener(ensemble.members, request.prompt),
        objections=ObjectionRules(ensemble.objections.regret, ensemble.objections.entropy),
        statistic=_chosen(overrides.statistic, ensemble.statistic),
        weighting=_chosen(overrides.weighting, ensemble.weighting),
        eta=ensemble.eta,
        self_judgement=_self_judgement(overrides, ensemble),
        fast_finish=_chosen(overrides.fast_finish, ensemble.fast_finish),
        exit=_exit(overrides, ensemble, vote),
        quorum=ensemble.quorum,
        max_misses=ensemble.max_misses,
        max_segments=limits.committed_segments,
        max_bytes=limits.committed_bytes,
    )


def _vote(overrides: Overrides, ensemble: Ensemble) -> Vote:
    """What is voted on. Who asks for a statistic asks for the vote that has one."""
    asks = overrides.statistic is not None or overrides.self_judgement is not None
    return Vote.SEGMENTS if asks else ensemble.vote


def _exit(overrides: Overrides, ensemble: Ensemble, vote: Vote) -> ExitRules:
    exit_ = ensemble.exit
    kind = _chosen(overrides.exit_policy, ensemble.exit_policy)
    if kind is ExitKind.WATCH and vote is Vote.SEGMENTS:
        if overrides.exit_policy is not None:
            problem = "is watch, which needs a vote on words; drop it"
            raise InvalidArgument("overrides.exit_policy", problem)
        kind = exit_policy_of(vote)
    if overrides.recall and kind is ExitKind.NONE:
        problem = "is true, which contradicts exit policy none: nobody leaves; drop one of the two"
        raise InvalidArgument("overrides.recall", problem)
    return ExitRules(
        kind=kind,
        tau0=exit_.tau0,
        alpha=exit_.alpha,
        min_rounds=exit_.min_rounds,
        min_models=exit_.min_models,
        recall=_chosen(overrides.recall, exit_.recall),
        recall_ratio=exit_.recall_ratio,
        patience=exit_.patience,
    )


def _stretch_tokens(segment_tokens: int, ensemble: Ensemble) -> int:
    """What a request asks for a segment, stretched, but to no more than any might ask for."""
    if ensemble.stretch == 1:
        return 0
    return min(segment_tokens * ensemble.stretch, ensemble.segment_tokens_limit)


def _self_judgement(overrides: Overrides, ensemble: Ensemble) -> SelfJudgement:
    if overrides.self_judgement is None:
        return ensemble.self_judgement
    return SelfJudgement.INCLUDE if overrides.self_judgement else SelfJudgement.DROP


def _sampling(request: GenerateRequest, ensemble: Ensemble) -> Sampling:
    wished, ours = request.sampling, ensemble.sampling
    sampling = Sampling(
        _chosen(wished.temperature, ours.temperature),
        _chosen(wished.top_p, ours.top_p),
        _chosen(wished.top_k, ours.top_k),
        request.seed,
    )
    check_sampling(temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k)
    between("seed", sampling.seed, 0, MAX_SEED)
    return sampling


def _check_prompt(prompt: Prompt, limits: Limits) -> None:
    if isinstance(prompt, str):
        if not prompt:
            raise InvalidArgument("raw_prompt", "is empty; it must have at least 1 byte")
        size = utf8_bytes("raw_prompt", prompt)
        _at_most("raw_prompt", size, limits.prompt_bytes, "bytes")
        return
    size = sum(
        utf8_bytes(f"{_MESSAGES}[{i}].content", turn.content) for i, turn in enumerate(prompt)
    )
    _at_most("conversation", size, limits.prompt_bytes, "bytes")
    check_turns(_MESSAGES, [(turn.role.value, turn.content) for turn in prompt])


def _check_committed(request: GenerateRequest, limits: Limits) -> None:
    segments = request.committed_segments
    _to_be_continued(len(segments), limits.committed_segments, "segments")
    size = sum(utf8_bytes(f"committed_segments[{i}]", text) for i, text in enumerate(segments))
    _to_be_continued(size, limits.committed_bytes, "bytes")
    if request.committed_tokens and not segments:
        allowed = "must be 0 when there are no committed_segments"
        refuse("committed_tokens", request.committed_tokens, allowed, 0)


def _check_committed_tokens(committed: int, max_tokens: int, segment: int) -> None:
    """Refuses more than an answer can spend. Its last segment may have gone over `max_tokens`."""
    if committed > max_tokens + segment:
        allowed = f"with max_tokens {max_tokens} at most {max_tokens + segment} can be spent"
        refuse("committed_tokens", committed, allowed, max_tokens + segment)


def _to_be_continued(size: int, full: int, unit: str) -> None:
    """Refuses committed segments to which nothing can be added."""
    if size >= full:
        allowed = f"an answer ends at {full}, so at most {full - 1} can be continued"
        refuse("committed_segments", size, allowed, full - 1, unit)


def _digest(prompt: Prompt) -> str:
    """A session's name for a prompt: the same in every fuser process."""
    turns = (
        [("raw", prompt)]
        if isinstance(prompt, str)
        else [(message.role.value, message.content) for message in prompt]
    )
    digest = hashlib.blake2b(digest_size=16)
    for role, content in turns:
        encoded = content.encode()
        digest.update(f"{role}:{len(encoded)}:".encode())
        digest.update(encoded)
    return digest.hexdigest()


def _opener(members: tuple[MemberName, ...], prompt: Prompt) -> MemberName:
    """Who drafts first: each member for its part of all prompts, and the same for the same one.

    That is by highest random weight, so it does not depend on the members' order, and hardly on who
    else is a member.
    """
    question = _digest(prompt)

    def weight(member: MemberName) -> bytes:
        return hashlib.blake2b(f"{question}:{member}".encode(), digest_size=16).digest()

    return max(members, key=weight)


def _chosen(wished: T | None, otherwise: T) -> T:
    return otherwise if wished is None else wished


def _at_most(field: str, value: int, limit: int, unit: str) -> None:
    if value > limit:
        refuse(field, value, f"at most {limit} are allowed", limit, unit)
