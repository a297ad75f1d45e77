"""The settings of a vLLM server."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from model_service.backends.remote.settings import RemoteSection


class VllmSection(RemoteSection):
    """For `backend: vllm`, which asks vLLM's OpenAI-compatible server."""

    kind: ClassVar[str] = "vllm"

    served_model: Annotated[str, Field(min_length=1)] | None = None
    """Which of the server's models: its `--served-model-name`, or an adapter's name. Absent: the
    only one it has."""
