"""What the contract allows in the fields that both services take, and how anything else is refused.

A refusal names the field, its value, and what it may be. None repeats text of a prompt or answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NoReturn

from specfuse.errors import InvalidArgument

MAX_MESSAGES: Final = 1024
MAX_COMMITTED_SEGMENTS: Final = 4096
MAX_SESSION_ID_BYTES: Final = 128
MAX_STOPS: Final = 16
MAX_STOP_BYTES: Final = 256
MAX_TEMPERATURE: Final = 2
MAX_TOP_K: Final = 1000
MAX_SEED: Final = 2**64 - 1


def check_turns(field: str, turns: Sequence[tuple[str, str]]) -> None:
    """Checks a conversation: its messages' roles (`system`, `user`, `assistant`) and contents.

    Raises:
        InvalidArgument: there are too few or too many; a system message is not the first; a user's
            is empty; or the last is not a user's.
    """
    between(field, len(turns), 1, MAX_MESSAGES, "messages")
    for index, (role, content) in enumerate(turns):
        if role == "system" and index:
            raise InvalidArgument(
                f"{field}[{index}].role", "is system; only the first message may be"
            )
        if role == "user" and not content:
            raise InvalidArgument(
                f"{field}[{index}].content", "is empty; a user's message must have text"
            )
    last, _ = turns[-1]
    if last != "user":
        raise InvalidArgument(
            f"{field}[{len(turns) - 1}].role", f"is {last}; the last message must be a user's"
        )


def check_sampling(*, temperature: float, top_p: float, top_k: int) -> None:
    """Checks how tokens are to be drawn.

    Raises:
        InvalidArgument: a value is out of its range.
    """
    between("sampling.temperature", temperature, 0, MAX_TEMPERATURE)
    if not 0.0 < top_p <= 1.0:
        refuse("sampling.top_p", top_p, "must be above 0 and at most 1", 1)
    between("sampling.top_k", top_k, 0, MAX_TOP_K)


def check_stop(stop: Sequence[str]) -> None:
    """Checks stop strings.

    Raises:
        InvalidArgument: there are too many; or one is empty, too long or no valid Unicode.
    """
    between("stop", len(stop), 0, MAX_STOPS, "strings")
    for index, string in enumerate(stop):
        field = f"stop[{index}]"
        between(field, utf8_bytes(field, string), 1, MAX_STOP_BYTES, "bytes")


def utf8_bytes(field: str, text: str) -> int:
    """The text's length in bytes of UTF-8.

    Raises:
        InvalidArgument: it has none, because of a lone surrogate.
    """
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        problem = f"is not valid Unicode: a lone surrogate at position {error.start}"
        raise InvalidArgument(field, problem) from None


def between(field: str, value: float, low: float, high: float, unit: str = "") -> None:
    """Refuses what is outside [low, high], NaN included.

    Raises:
        InvalidArgument: it is.
    """
    if not low <= value <= high:
        refuse(field, value, f"must be {low} to {high}", low if value < low else high, unit)


def refuse(field: str, value: float, allowed: str, limit: float, unit: str = "") -> NoReturn:
    """Refuses a value, saying to machines too what it is and which limit it breaks.

    Raises:
        InvalidArgument: always.
    """
    shown = f"{value} {unit}".rstrip()
    raise InvalidArgument(field, f"is {shown}; {allowed}", value=str(value), limit=str(limit))
