"""What a model service is told at its start: one YAML file, one frozen object.

    name: llama
    listen: 0.0.0.0:50051
    metrics_listen: 0.0.0.0:9091
    torch:
      model: /models/llama

Everything not said has a default, and `Settings.model_json_schema()` describes every key. An
unknown key, a value out of range and a contradiction are each reported with line and remedy.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from specfuse.rpc import settings_file
from specfuse.rpc.settings_file import Contradictions, Problem
from specfuse.rpc.settings_types import Address, Count, Flag, Name, Seconds, Section, ServerTls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Probability = Annotated[float, Field(strict=True, gt=0, le=1)]
Bytes = Count


class BackendKind(StrEnum):
    """What runs the model."""

    TORCH = "torch"
    """A Hugging Face causal language model in this process."""
    SCRIPTED = "scripted"
    """No model: answers from a script, for tests of everything around it."""


class TorchSettings(Section):
    """Which model the torch backend runs, and with what means."""

    model: Annotated[str, Field(min_length=1)]
    """A directory with a Hugging Face causal language model, or its id on the hub."""
    revision: str | None = None
    """Branch, tag or commit on the hub. Absent: the default branch."""
    local_files_only: Flag = False
    """Whether the hub is never asked: the model must be a directory or in the cache."""
    trust_remote_code: Flag = False
    """Whether Python code that comes with the model may run here. Leave off unless you read it."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Numbers of weights and cache. `auto`: float32 on a CPU, the model's own elsewhere."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """`cpu`, `cuda`, `cuda:1`. `auto`: the first CUDA device if there is one."""
    tensor_parallel: Count = 1
    """Processes that the model's layers are split over, each on its own CUDA device (0, 1, ...) if
    there are any. Must divide the model's heads and key-value heads."""
    quantization: dict[str, Any] | None = None
    """What transformers takes: `{quant_method: bitsandbytes, load_in_8bit: true}`, or others."""
    max_context_tokens: Count | None = None
    """Most tokens of context and segment. Absent: as many as the model was made for."""
    kv_cache_bytes: Bytes = 1 << 30
    """Memory for keys and values of contexts, in bytes, in each process. More keeps more sessions
    warm."""
    compile: Flag = False
    """Whether the model runs through `torch.compile`: minutes to start, some percent faster."""
    max_batch_tokens: Annotated[int, Field(strict=True, ge=16)] | None = None
    """Most tokens that one forward pass takes, over all calls. Fewer: a long prompt delays others
    less. Absent: 256 on a CPU, 2048 elsewhere."""
    max_running_calls: Count = 64
    """Most calls that share one forward pass."""
    threads: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = None
    """CPU threads that torch computes with, in each process. Absent: torch's own choice, one per
    core, or its share of them."""


class Line(Section):
    """How a scripted model behaves for some prompts. The first line that applies counts."""

    when: str = ""
    """Applies to prompts whose last message, or raw text, contains this."""
    after_segments: Annotated[int, Field(strict=True, ge=0)] = 0
    """Applies once so many segments are committed."""
    answer: str = ""
    """What it writes: word by word, as far as the answer has not got yet, and then it ends."""
    own_probability: Probability = 0.9
    """What it gives each word of a candidate that it would have written itself."""
    other_probability: Probability = 0.1
    """What it gives every other word."""
    seconds: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 0.0
    """How long it takes over a call."""
    hangs: Flag = False
    """Whether it never answers."""
    fails: Literal["", "unavailable", "overloaded", "model_failure"] = ""
    """The error that it answers with."""


class ScriptedSettings(Section):
    """The script of a scripted model."""

    lines: Annotated[tuple[Line, ...], Field(min_length=1)]
    """Per prompt, what it does. A prompt to which no line applies is an invalid argument."""
    context_window: Count = 4096
    """Most words of context and segment together."""


class Limits(Section):
    """What one process takes on. Beyond them a call is refused at once."""

    running_calls: Count = 64
    """Most calls given to the backend at the same time."""
    waiting_calls: Annotated[int, Field(strict=True, ge=0)] = 256
    """Most calls that wait for that; further ones get RESOURCE_EXHAUSTED."""
    call_seconds: Seconds = 120.0
    """Most time for a call. The caller's own deadline counts if it is earlier."""
    prompt_bytes: Bytes = 1_048_576
    """Most UTF-8 bytes of a prompt, all messages together."""
    committed_bytes: Bytes = 1_048_576
    """Most UTF-8 bytes of the committed segments together."""
    segment_tokens: Annotated[int, Field(strict=True, ge=1, le=512)] = 512
    """Most tokens that a proposal may be asked to have."""
    candidates: Annotated[int, Field(strict=True, ge=1, le=64)] = 64
    """Most candidates of a scoring call."""
    candidate_bytes: Annotated[int, Field(strict=True, ge=1, le=16_384)] = 16_384
    """Most UTF-8 bytes of each."""


class Settings(Section):
    """Everything a model service is told."""

    name: Name
    """What the model is called in ensembles and metrics."""
    listen: Address = "127.0.0.1:50051"
    """`host:port` of the gRPC service. Port 0 takes a free one."""
    metrics_listen: Address = "127.0.0.1:9091"
    """`host:port` of the Prometheus endpoint, `/metrics` over HTTP. Port 0 takes a free one."""
    tls: ServerTls | None = None
    """Absent means plain text."""
    backend: BackendKind = BackendKind.TORCH
    """What runs the model: `torch` or `scripted`. Its section below is required."""
    torch: TorchSettings | None = None
    """For `backend: torch`."""
    scripted: ScriptedSettings | None = None
    """For `backend: scripted`."""
    limits: Limits = Limits()
    """What one process takes on."""
    drain_seconds: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 30.0
    """How long calls in flight may take to finish at shutdown."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        problems = tuple(_contradictions(self))
        if problems:
            raise Contradictions(problems)
        return self

    @classmethod
    def read(cls, path: Path, overrides: Mapping[str, object] | None = None) -> Self:
        """The settings in the YAML file at `path`; `overrides` replace its top-level keys.

        Raises:
            Misconfigured: the file cannot be read, or its content is wrong.
        """
        return settings_file.read(path, cls, overrides)

    @classmethod
    def parse(cls, text: str, *, source: str) -> Self:
        """The settings that the YAML document `text` holds; `source` names it in errors.

        Raises:
            Misconfigured: the content is wrong.
        """
        return settings_file.parse(text, cls, source=source)


def _contradictions(settings: Settings) -> Iterator[Problem]:
    """Values that are right one by one and wrong together."""
    sections = {BackendKind.TORCH: settings.torch, BackendKind.SCRIPTED: settings.scripted}
    for kind, section in sections.items():
        if kind is settings.backend and section is None:
            yield Problem((kind.value,), f"is required by backend: {kind}")
        if kind is not settings.backend and section is not None:
            yield Problem((kind.value,), f"contradicts backend: {settings.backend}; drop one")
    if settings.torch is not None and settings.torch.tensor_parallel > 1:
        yield from _not_in_several_processes(settings.torch)


def _not_in_several_processes(torch: TorchSettings) -> Iterator[Problem]:
    several = f"torch.tensor_parallel: {torch.tensor_parallel}"
    if torch.quantization is not None:
        yield Problem(("torch", "quantization"), f"contradicts {several}; drop one")
    if torch.compile:
        yield Problem(("torch", "compile"), f"true: contradicts {several}; drop one")
    if ":" in torch.device:
        yield Problem(
            ("torch", "device"),
            f"{torch.device!r}: contradicts {several}, as parts take cuda:0, cuda:1, ...; drop one",
        )
