"""The settings of an SGLang server."""

from __future__ import annotations

from typing import ClassVar

from model_service.backends.remote.settings import RemoteSection


class SglangSection(RemoteSection):
    """For `backend: sglang`, which asks SGLang's server."""

    kind: ClassVar[str] = "sglang"
