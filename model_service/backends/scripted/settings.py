"""The script of a scripted model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from model_service.backends.section import BackendSection
from specfuse.config.types import Count, Flag, Section

Probability = Annotated[float, Field(strict=True, gt=0, le=1)]


class Line(Section):
    """How a scripted model behaves for some prompts. The first line that applies counts."""

    when: str = ""
    """Applies to prompts whose last message, or raw text, contains this."""
    after_segments: Annotated[int, Field(strict=True, ge=0)] = 0
    """Applies once this many segments are committed."""
    answer: str = ""
    """What it writes, word by word: the part that the answer does not have yet, then the end."""
    own_probability: Probability = 0.9
    """What it gives each word of a candidate that it would have written itself."""
    other_probability: Probability = 0.1
    """What it gives every other word."""
    seconds: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 0.0
    """How long it takes over a call."""
    token_seconds: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = 0.0
    """How long it takes over each token that it drafts, beside that."""
    hangs: Flag = False
    """Whether it never answers."""
    fails: Literal["", "unavailable", "overloaded", "model_failure"] = ""
    """The error that it answers with."""


class ScriptedSection(BackendSection):
    """The script of a scripted model."""

    lines: Annotated[tuple[Line, ...], Field(min_length=1)]
    """Per prompt, what it does. A prompt to which no line applies is an invalid argument."""
    context_window: Count = 4096
    """Most words of context and segment together."""
