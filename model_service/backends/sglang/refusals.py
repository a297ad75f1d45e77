"""What SGLang's refusals mean."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from model_service.backends.remote.refusals import Refusal
from specfuse.errors import ContextTooLong, SpecFuseError

_TOO_LONG: Final = re.compile(
    r"\((?P<tokens>\d+) tokens\) (?:exceeds|is longer than).* length \((?P<window>\d+) tokens\)"
)
"""Its refusals have no names, only words."""


def translated(refusal: Refusal) -> SpecFuseError | None:
    """The error that a refusal stands for, where it is not the usual one."""
    said = _TOO_LONG.search(refusal.words)
    if refusal.status != HTTPStatus.BAD_REQUEST or said is None:
        return None
    return ContextTooLong(tokens=int(said["tokens"]), window=int(said["window"]))
