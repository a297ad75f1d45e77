"""What a caller may ask, and how it becomes a request. Pure.

Checked here is only what a message could not carry; limits are the service's, which knows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict, TypeVar

from specfuse.errors import InvalidArgument, ResumePoint
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1 import prompt_pb2

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """Text that every model is given as it is, without its chat template."""

    text: str


Prompt = str | Sequence[Message] | RawPrompt
"""A question (a conversation of one turn), a conversation that ends with the user, or raw text."""


class QueryOptions(TypedDict, total=False):
    """Options of a query. One that is absent, or None, is as the ensemble has it, but for `resume`.

    Attributes:
        ensemble: Which ensemble answers; may be left out if the fuser has exactly one.
        max_tokens: Most tokens of answer, in the winners' own tokens; 1 up to the ensemble's limit.
        stop: Strings that end the answer and are not part of it: at most 16.
        temperature: 0 (greedy) to 2. With it, `top_p` and `top_k` left out cut nothing off.
        top_p: Nucleus mass in (0, 1]. Needs `temperature`.
        top_k: Keep this many most probable tokens; 0 keeps all. Needs `temperature`.
        seed: Makes a sampled answer repeatable.
        segment_tokens: Most tokens a model drafts a round.
        statistic: Which number stands for a verifier's opinion of a candidate.
        weighting: How the verifiers' weights develop.
        exit_policy: Which models leave a query early.
        recall: Whether models that left may come back.
        self_judgement: Whether a model's score of its own candidate counts.
        fast_finish: Whether a finished candidate is taken without scoring.
        session_id: Keeps a conversation on the same replicas; at most 128 bytes.
        resume: "auto", as when it is absent: an answer that is interrupted is gone on with. "never"
            or None: it is not. A `ResumePoint`, where an interrupted answer stands (the error's
            `resume`): go on from there, and then as "auto"; ask the same otherwise.
        timeout: Seconds the whole call may take, however often its answer is interrupted. The fuser
            has a limit of its own as well.
    """

    ensemble: str
    max_tokens: int | None
    stop: Sequence[str]
    temperature: float | None
    top_p: float | None
    top_k: int | None
    seed: int | None
    segment_tokens: int | None
    statistic: Literal["geometric", "mean_probability", "per_byte"] | None
    weighting: Literal["uniform", "hedge"] | None
    exit_policy: Literal["none", "entropy_softmax"] | None
    recall: bool | None
    self_judgement: bool | None
    fast_finish: bool | None
    session_id: str
    resume: ResumePoint | Literal["auto", "never"] | None
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Query:
    """A query ready to be sent.

    Its request, the seconds it may take, where it goes on from, and whether its answer is gone on
    with when it is interrupted.
    """

    request: pb.GenerateRequest
    timeout: float | None
    resumed: ResumePoint
    resumes: bool


_UINT32: Final = 2**32 - 1
_UINT64: Final = 2**64 - 1
_SAMPLING: Final = ("temperature", "top_p", "top_k")
_ROLES: Final = {
    "system": prompt_pb2.ROLE_SYSTEM,
    "user": prompt_pb2.ROLE_USER,
    "assistant": prompt_pb2.ROLE_ASSISTANT,
}
_STATISTICS: Final = {
    "geometric": pb.STATISTIC_GEOMETRIC,
    "mean_probability": pb.STATISTIC_MEAN_PROBABILITY,
    "per_byte": pb.STATISTIC_PER_BYTE,
}
_WEIGHTINGS: Final = {"uniform": pb.WEIGHTING_UNIFORM, "hedge": pb.WEIGHTING_HEDGE}
_EXIT_POLICIES: Final = {
    "none": pb.EXIT_POLICY_NONE,
    "entropy_softmax": pb.EXIT_POLICY_ENTROPY_SOFTMAX,
    "watch": pb.EXIT_POLICY_WATCH,
}
_N = TypeVar("_N")
_LONGEST_TIMEOUT = 31_536_000
"""A year, in seconds. gRPC treats much longer ones as already passed."""


def query_of(prompt: Prompt, options: QueryOptions) -> Query:
    """The query for a prompt and options.

    Raises:
        InvalidArgument: a value that a request cannot carry, or options that contradict each other.
        TypeError: an option that does not exist.
    """
    given = _given(options)
    resume = options.get("resume", "auto")
    resumed = _point(resume)
    request = pb.GenerateRequest(
        ensemble=_text("ensemble", given.get("ensemble", "")),
        stop=_texts("stop", given.get("stop", ())),
        committed_segments=_texts("resume", resumed.committed_segments),
        committed_tokens=_integer("resume", resumed.committed_tokens, _UINT32),
        session_id=_text("session_id", given.get("session_id", "")),
    )
    _set_prompt(request, prompt)
    if "max_tokens" in given:
        request.max_tokens = _integer("max_tokens", given["max_tokens"], _UINT32)
    if "seed" in given:
        request.seed = _integer("seed", given["seed"], _UINT64)
    _set_sampling(request, given)
    _set_overrides(request, given)
    timeout = _timeout(given["timeout"]) if "timeout" in given else None
    return Query(request, timeout, resumed, resumes=resume not in ("never", None))


def _point(resume: object) -> ResumePoint:
    """Where a query goes on from: the start, unless a point is given."""
    if isinstance(resume, ResumePoint):
        return resume
    if resume not in ("auto", "never", None):
        raise InvalidArgument("resume", f"{resume!r} is not auto, never or a ResumePoint")
    return ResumePoint()


def _timeout(value: object) -> float:
    seconds = _number("timeout", value)
    if not 0 < seconds <= _LONGEST_TIMEOUT:
        problem = f"is {seconds}, must be seconds above 0 and up to {_LONGEST_TIMEOUT}, or left out"
        raise InvalidArgument("timeout", problem)
    return seconds


def _given(options: QueryOptions) -> dict[str, Any]:
    """The options that are set."""
    unknown = sorted(options.keys() - QueryOptions.__annotations__.keys())
    if unknown:
        known = ", ".join(sorted(QueryOptions.__annotations__))
        raise TypeError(f"unknown option {unknown[0]!r}; there are {known}")
    return {name: value for name, value in options.items() if value is not None}


def _set_prompt(request: pb.GenerateRequest, prompt: Prompt) -> None:
    if isinstance(prompt, RawPrompt):
        request.raw_prompt = _text("raw_prompt", prompt.text)
        return
    turns = [Message("user", prompt)] if isinstance(prompt, str) else prompt
    request.conversation.SetInParent()
    for index, turn in enumerate(turns):
        field = f"messages[{index}]"
        if not isinstance(turn, Message):
            raise InvalidArgument(
                field, f"a {type(turn).__name__} is not a specfuse.client.Message"
            )
        role = _choice(f"{field}.role", turn.role, _ROLES)
        content = _text(f"{field}.content", turn.content)
        request.conversation.messages.add(role=role, content=content)


def _set_sampling(request: pb.GenerateRequest, given: Mapping[str, Any]) -> None:
    """Sampling is overridden as a whole: half of it would silently mean greedy."""
    if not any(name in given for name in _SAMPLING):
        return
    if "temperature" not in given:
        raise InvalidArgument("temperature", "missing; top_p and top_k need it")
    request.sampling.temperature = _number("temperature", given["temperature"])
    if "top_p" in given:
        request.sampling.top_p = _number("top_p", given["top_p"])
    if "top_k" in given:
        request.sampling.top_k = _integer("top_k", given["top_k"], _UINT32)


def _set_overrides(request: pb.GenerateRequest, given: Mapping[str, Any]) -> None:
    overrides = request.overrides
    if "segment_tokens" in given:
        overrides.segment_tokens = _integer("segment_tokens", given["segment_tokens"], _UINT32)
    if "statistic" in given:
        overrides.statistic = _choice("statistic", given["statistic"], _STATISTICS)
    if "weighting" in given:
        overrides.weighting = _choice("weighting", given["weighting"], _WEIGHTINGS)
    if "exit_policy" in given:
        overrides.exit_policy = _choice("exit_policy", given["exit_policy"], _EXIT_POLICIES)
    for name in ("recall", "self_judgement", "fast_finish"):
        if name in given:
            setattr(overrides, name, _flag(name, given[name]))


def _choice(field: str, value: object, choices: Mapping[str, _N]) -> _N:
    if not isinstance(value, str) or value not in choices:
        raise InvalidArgument(field, f"{value!r} is not one of {', '.join(choices)}")
    return choices[value]


def _integer(field: str, value: object, limit: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit:
        raise InvalidArgument(field, f"{value!r} is not an integer from 0 to {limit}")
    return value


def _number(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidArgument(field, f"{value!r} is not a number")
    return float(value)


def _flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument(field, f"{value!r} is not True or False")
    return value


def _texts(field: str, values: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise InvalidArgument(field, "a single string; give a list of strings")
    return [_text(f"{field}[{index}]", value) for index, value in enumerate(values)]


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(field, f"a {type(value).__name__} is not a string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            field, f"not valid Unicode: a lone surrogate at character {error.start}"
        ) from error
    return value
