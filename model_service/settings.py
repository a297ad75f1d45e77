"""What a model service is told at its start: one YAML file, one frozen object.

    name: llama
    listen: 0.0.0.0:50051
    metrics_listen: 0.0.0.0:9091
    torch:
      model: /models/llama

Everything left out has a default, and `Settings.model_json_schema()` describes every key. An
unknown key, a value out of range and a contradiction are each reported with line and remedy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from model_service.backends.registry import BACKENDS, BackendName, Backends
from model_service.backends.section import BackendSection
from specfuse.config import settings_file
from specfuse.config.settings_file import Contradictions, Problem
from specfuse.config.types import Address, Count, LogFormat, Name, Seconds, Section, ServerTls
from specfuse.observability.tracing.settings import Tracing


class Limits(Section):
    """What one process takes on. Beyond them a call is refused at once."""

    running_calls: Count = 64
    """Most calls given to the backend at the same time."""
    waiting_calls: Annotated[int, Field(strict=True, ge=0)] = 256
    """Most calls that wait for that; further ones get RESOURCE_EXHAUSTED."""
    call_seconds: Seconds = 120.0
    """Most time for a call. The caller's own deadline counts if it is earlier."""
    prompt_bytes: Count = 1_048_576
    """Most UTF-8 bytes of a prompt, all messages together."""
    committed_bytes: Count = 1_048_576
    """Most UTF-8 bytes of the committed segments together."""
    segment_tokens: Annotated[int, Field(strict=True, ge=1, le=512)] = 512
    """Most tokens that a proposal may be asked to have."""
    candidates: Annotated[int, Field(strict=True, ge=1, le=64)] = 64
    """Most candidates of a scoring call."""
    candidate_bytes: Annotated[int, Field(strict=True, ge=1, le=16_384)] = 16_384
    """Most UTF-8 bytes of each."""


class Settings(Backends):
    """Everything a model service is told."""

    name: Name
    """What the model is called in ensembles and metrics."""
    listen: Address = "127.0.0.1:50051"
    """`host:port` of the gRPC service. Port 0 takes a free one."""
    metrics_listen: Address = "127.0.0.1:9091"
    """`host:port` of the Prometheus endpoint, `/metrics` over HTTP. Port 0 takes a free one."""
    tls: ServerTls | None = None
    """Absent means plain text."""
    backend: BackendName = "torch"
    """What runs the model. The section of this name is required."""
    limits: Limits = Limits()
    """What one process takes on."""
    tracing: Tracing | None = None
    """Where traces go: of what callers record. Absent means there are none."""
    log_format: LogFormat = "text"
    """How lines of the log, on stderr, are written: `text` for people, `json` an object each."""
    linger_seconds: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 0.0
    """How long it serves on as before when it is told to end, at most: until no call came for 2 s.
    For where callers know that it ends and send no new session, as Kubernetes tells a fuser."""
    drain_seconds: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 30.0
    """How long calls in flight may take to finish at shutdown."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        problems = tuple(_contradictions(self))
        if problems:
            raise Contradictions(problems)
        return self

    @property
    def chosen(self) -> BackendSection:
        """The section of the backend that runs the model."""
        section = self.section(self.backend)
        assert section is not None  # noqa: S101 (settings agree with themselves)
        return section

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
    for name in BACKENDS:
        section = settings.section(name)
        if name == settings.backend and section is None:
            yield Problem((name,), f"is required by backend: {name}")
        if name != settings.backend and section is not None:
            yield Problem((name,), f"contradicts backend: {settings.backend}; drop one")
        for problem in section.contradictions() if section is not None else ():
            yield Problem((name, *problem.key), problem.text)
