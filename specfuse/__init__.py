"""Answers fused from several LLMs, segment by segment.

`Client` and `AsyncClient` ask a fuser; see `specfuse.client`. They are imported when first used, as
the services need none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from specfuse.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("specfuse.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
