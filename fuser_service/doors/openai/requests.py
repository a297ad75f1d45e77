"""What is read of a request: its fields, and those that are refused or passed over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
)
from pydantic_core import ErrorDetails, from_json

from fuser_service.core.rules import ExitKind, Statistic, Weighting
from fuser_service.doors.openai.errors import KIND, HttpProblem
from specfuse.errors import InvalidArgument
from specfuse.limits import MAX_COMMITTED_SEGMENTS, MAX_MESSAGES

_SHOWN_CHARACTERS: Final = 64
_PRIVATE: Final = frozenset({"messages", "prompt", "stop", "resume"})
"""Nothing below a field with such a name is ever repeated."""

_HARMLESS: Final[Mapping[str, tuple[Any, ...]]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0, 0.0),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "prediction": (),
    "presence_penalty": (0, 0.0),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": (),
    "web_search_options": (),
}
"""What cannot be honoured, each with the values besides null that ask for nothing."""

_HARMLESS_IN_MESSAGES: Final[Mapping[str, tuple[Any, ...]]] = {
    "audio": (),
    "function_call": (),
    "name": (),
    "tool_call_id": (),
    "tool_calls": ([],),
}

_KINDS: Final = {
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "literal_error": "unsupported_value",
}
"""OpenAI's codes for what pydantic finds; where a type is wrong it is `invalid_type`."""

Choice = TypeVar("Choice", bound="Request")


def _shape(value: object) -> str:
    """Which of the forms of a field a value has; the names are no part of any field's path."""
    return {list: "<list>", type(None): "<null>"}.get(type(value), "<text>")


def _text_or_list(value: object) -> str:
    """As `_shape`, of a field that must not be null."""
    return "<list>" if isinstance(value, list) else "<text>"


_Text = Annotated[str, Tag("<text>")]
_Null = Annotated[None, Tag("<null>")]


class _Part(BaseModel):
    """A field of a request, or an object in it."""

    model_config = ConfigDict(
        strict=True, extra="allow", frozen=True, use_attribute_docstrings=True
    )


class TextPart(_Part):
    """A part of a message."""

    type: Literal["text"]
    """Only text is understood."""
    text: str
    """The text. Several parts are joined by line ends."""


class ChatMessage(_Part):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    """`developer` is another word for `system`. At most one of them, and first."""
    content: Annotated[
        _Text | Annotated[list[TextPart], Tag("<list>")] | _Null, Discriminator(_shape)
    ] = None
    """The text. Only an assistant's may be absent."""


class Resume(BaseModel):
    """Where an interrupted answer stands: what its error had under `specfuse.resume`."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    committed_segments: Annotated[list[str], Field(max_length=MAX_COMMITTED_SEGMENTS)]
    """The `segment` of every chunk that was received, in order."""
    committed_tokens: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """The sum of their `tokens`."""


class Wishes(BaseModel):
    """What this service can be told beyond OpenAI's API. Absent or null keeps the ensemble's."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    segment_tokens: Annotated[int, Field(ge=1)] | None = None
    """Most tokens a model drafts a round, up to the ensemble's limit."""
    statistic: Literal["geometric", "mean_probability", "per_byte"] | None = None
    """Which number stands for a verifier's opinion of a candidate."""
    weighting: Literal["uniform", "hedge"] | None = None
    """How the verifiers' weights develop."""
    exit_policy: Literal["none", "entropy_softmax"] | None = None
    """Which models leave early."""
    recall: bool | None = None
    """Whether models that left may come back."""
    self_judgement: bool | None = None
    """Whether a model's score of its own candidate counts."""
    fast_finish: bool | None = None
    """Whether a finished candidate is taken without scoring."""
    top_k: Annotated[int, Field(ge=0)] | None = None
    """Keep this many most probable tokens; 0 keeps all."""
    session_id: str | None = None
    """Keeps a conversation on the same replicas. By default, a digest of the prompt."""
    resume: Resume | None = None
    """Goes on with an interrupted answer: only what is new is sent."""
    trace: bool = False
    """Whether every round's candidates, and who judged them how, are told."""


class StreamOptions(_Part):
    """What a stream has besides its chunks."""

    include_usage: bool | None = None
    """Whether a last chunk, without choices, has the usage."""


class Request(_Part):
    """What chat completions and completions have in common."""

    model: str
    """The ensemble that answers; `GET /v1/models` lists them."""
    max_tokens: int | None = None
    """Most tokens of the answer, in the winners' own tokens."""
    temperature: float | None = None
    """0 to 2; 0 is greedy. Absent means the ensemble's."""
    top_p: float | None = None
    """Nucleus mass, above 0 and at most 1. Absent means the ensemble's."""
    seed: int | None = None
    """Makes a sampled answer repeatable: 0 to 2^64 - 1. Absent means 0."""
    stop: Annotated[_Text | Annotated[list[str], Tag("<list>")] | _Null, Discriminator(_shape)] = (
        None
    )
    """Strings that end the answer and are no part of it: at most 16."""
    stream: bool | None = None
    """Whether chunks are sent as server-sent events."""
    stream_options: StreamOptions | None = None
    """Only with `stream`."""
    user: str | None = None
    """Accepted, without effect."""
    metadata: dict[str, str] | None = None
    """Accepted, without effect."""
    store: bool | None = None
    """Accepted, without effect: nothing is stored."""
    service_tier: str | None = None
    """Accepted, without effect."""
    parallel_tool_calls: bool | None = None
    """Accepted, without effect: there are no tools."""
    prompt_cache_key: str | None = None
    """Accepted, without effect."""
    safety_identifier: str | None = None
    """Accepted, without effect."""
    specfuse: Wishes | None = None
    """What this service can be told beyond OpenAI's API."""

    @property
    def wishes(self) -> Wishes:
        """What is under `specfuse`."""
        return self.specfuse or Wishes()

    @property
    def names(self) -> Mapping[str, str]:
        """What the contract's fields are called in this request and not in others."""
        return {"context": "prompt"}

    @property
    def stops(self) -> tuple[str, ...]:
        """The strings that end the answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def passed_over(self) -> Iterator[str]:
        """The fields that nothing is known of."""
        yield from _passed_over(self)


class ChatRequest(Request):
    """Asks for the next message of a conversation."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    """The conversation, oldest turn first. The last must be a user's."""
    max_completion_tokens: int | None = None
    """Most tokens of the answer; takes precedence over `max_tokens`."""

    @property
    def names(self) -> Mapping[str, str]:
        """As of any request; and which of the two limits of tokens counts."""
        limit = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        return {"context": "messages", "max_tokens": limit}

    def passed_over(self) -> Iterator[str]:
        """The fields that nothing is known of, those of messages too."""
        yield from super().passed_over()
        for position, message in enumerate(self.messages):
            yield from _passed_over(message, f"messages[{position}].")


class CompletionRequest(Request):
    """Asks for the continuation of a text, which models get as it is."""

    prompt: Annotated[
        _Text | Annotated[list[str], Tag("<list>"), Field(min_length=1, max_length=1)],
        Discriminator(_text_or_list),
    ]
    """The text, or a list of just one."""

    @property
    def text(self) -> str:
        """The text to go on with."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]


STATISTICS: Final = {one.value: one for one in Statistic}
WEIGHTINGS: Final = {one.value: one for one in Weighting}
EXIT_POLICIES: Final = {one.value: one for one in ExitKind}


def parsed(kind: type[Choice], body: bytes) -> Choice:
    """The request that the bytes of a body make.

    Raises:
        HttpProblem: it is not JSON.
        InvalidArgument: a field is wrong, or asks for what cannot be had; named as in the body.
    """
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise HttpProblem(400, f"the body is not JSON in UTF-8: {error}") from None
    if not isinstance(document, dict):
        raise HttpProblem(400, f"the body is {_kind_of(document)}; it must be a JSON object")
    _refuse_what_cannot_be_had(document)
    try:
        request = kind.model_validate(document)
    except ValidationError as error:
        raise _first(error.errors(include_url=False)) from None
    if request.stream_options is not None and not request.stream:
        _refuse("stream_options", "is given, and stream is not true; drop it", "invalid_value")
    _check_contents(request)
    return request


def _refuse_what_cannot_be_had(document: dict[str, Any]) -> None:
    _refuse_unless_harmless(document, _HARMLESS)
    messages = document.get("messages")
    for position, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict):
            _refuse_unless_harmless(message, _HARMLESS_IN_MESSAGES, f"messages[{position}].")


def _refuse_unless_harmless(
    given: dict[str, Any], harmless: Mapping[str, tuple[Any, ...]], within: str = ""
) -> None:
    for field in sorted(given.keys() & harmless.keys()):
        value = given[field]
        allowed = harmless[field]
        if value is None or any(type(value) is type(one) and value == one for one in allowed):
            continue
        may_be = " or ".join(["left out", *map(_shown, allowed)])
        shown = "given" if within else _shown(value)
        problem = f"is {shown}, which is not supported; it may only be {may_be}"
        _refuse(f"{within}{field}", problem, "unsupported_parameter")


def _check_contents(request: Request) -> None:
    """Refuses messages without text, but for an assistant's."""
    for position, message in enumerate(
        request.messages if isinstance(request, ChatRequest) else ()
    ):
        if message.content is None and message.role != "assistant":
            field = f"messages[{position}].content"
            _refuse(
                field, f"is absent; a {message.role}'s message must have text", _KINDS["missing"]
            )


def _first(errors: list[ErrorDetails]) -> InvalidArgument:
    """The first thing that pydantic found wrong."""
    error = errors[0]
    path = [part for part in error["loc"] if not str(part).startswith("<")]
    field = _dotted(path)
    kind = _KINDS.get(error["type"])
    if kind is None:
        kind = "invalid_type" if error["type"].endswith("_type") else "invalid_value"
    said = error["msg"].replace("Input should", "must").replace("Field required", "is missing")
    if error["type"] == "missing":
        return InvalidArgument(field, "is missing; it is required", **{KIND: kind})
    if error["type"] == "extra_forbidden":
        known = ", ".join((Resume if "resume" in path else Wishes).model_fields)
        return InvalidArgument(field, f"is not known; these are: {known}", **{KIND: kind})
    if error["type"] in {"too_short", "too_long"}:
        least, most = error["ctx"].get("min_length"), error["ctx"].get("max_length")
        said = f"at least {least} is needed" if least is not None else f"at most {most} are allowed"
    private = any(part in _PRIVATE for part in path) and path[-1] not in {"role", "type"}
    value = _kind_of(error["input"]) if private else _shown(error["input"])
    limits = {
        key: str(limit)
        for key, limit in error.get("ctx", {}).items()
        if key in {"ge", "le", "gt", "lt", "min_length", "max_length"}
    }
    metadata = {KIND: kind, "value": value}
    if limits:
        metadata["limit"] = next(iter(limits.values()))
    return InvalidArgument(field, f"is {value}; {said[:1].lower()}{said[1:]}", **metadata)


def _refuse(field: str, problem: str, kind: str) -> None:
    raise InvalidArgument(field, problem, **{KIND: kind})


def _dotted(path: list[int | str]) -> str:
    """`messages[2].content`."""
    dotted = "".join(
        f"[{part}]" if isinstance(part, int) else f".{_cut(part)}" for part in path
    ).removeprefix(".")
    return dotted or "body"


def _passed_over(part: BaseModel, within: str = "") -> Iterator[str]:
    for name, value in (part.model_extra or {}).items():
        if value is not None and name not in _HARMLESS and name not in _HARMLESS_IN_MESSAGES:
            yield f"{within}{name}"


def _shown(value: object) -> str:
    """A value as a message may have it: short, and all in one line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return _cut(str(value)) if abs(value) < 10**18 else f"a number beyond {10**18}"
    if isinstance(value, str):
        return repr(_cut(value))
    if value in ([], {}, ["text"], {"type": "text"}):
        return str(value).replace("'", '"')
    return _kind_of(value)


def _kind_of(value: object) -> str:
    match value:
        case str():
            return f"a string of {len(value)} characters"
        case list():
            return f"a list of {len(value)}"
        case dict():
            return f"an object of {len(value)}"
        case _:
            return _shown(value)


def _cut(text: str) -> str:
    plain = text if text.isprintable() else repr(text)[1:-1]
    return plain if len(plain) <= _SHOWN_CHARACTERS else plain[:_SHOWN_CHARACTERS] + "…"
