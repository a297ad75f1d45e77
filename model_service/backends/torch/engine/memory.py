"""Telling a lack of memory from other failures of a forward pass."""

from __future__ import annotations

import torch

from specfuse.errors import ModelFailure, Overloaded, SpecFuseError

_ALLOCATION_FAILURES = ("out of memory", "can't allocate memory", "not enough memory")


def failure_of(error: Exception) -> SpecFuseError:
    """The error that a call gets for what its forward pass raised.

    Only the kind of the original is named: its text may quote the request.
    """
    if isinstance(error, SpecFuseError):
        return error
    if _is_lack_of_memory(error):
        return Overloaded("there is not enough memory for this call now")
    return ModelFailure(f"the model's forward pass raised {type(error).__name__}")


def _is_lack_of_memory(error: Exception) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _ALLOCATION_FAILURES)
