"""The settings of a llama-server."""

from __future__ import annotations

from typing import ClassVar

from model_service.backends.remote.settings import RemoteSection


class LlamaCppSection(RemoteSection):
    """For `backend: llama_cpp`, which asks llama.cpp's llama-server."""

    kind: ClassVar[str] = "llama_cpp"
