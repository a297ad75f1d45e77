"""Numbers and texts out of a server's JSON, which may hold anything.

Each function raises `ModelFailure`, which names the place in the answer, if it is not what is
asked for. None is ever a number, nor is NaN, an infinity, or a boolean.
"""

from __future__ import annotations

import math
from typing import Any

from specfuse.errors import ModelFailure


def mapping(value: Any, place: str) -> dict[str, Any]:  # noqa: ANN401
    """A JSON object."""
    if not isinstance(value, dict):
        raise wrong(place, "an object", value)
    return value


def sequence(value: Any, place: str) -> list[Any]:  # noqa: ANN401
    """A JSON array."""
    if not isinstance(value, list):
        raise wrong(place, "a list", value)
    return value


def text(value: Any, place: str) -> str:  # noqa: ANN401
    """A string."""
    if not isinstance(value, str):
        raise wrong(place, "text", value)
    return value


def count(value: Any, place: str) -> int:  # noqa: ANN401
    """A whole number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise wrong(place, "a count", value)
    return value


def ids(value: Any, place: str) -> tuple[int, ...]:  # noqa: ANN401
    """A list of token ids."""
    return tuple(count(one, f"{place}[{at}]") for at, one in enumerate(sequence(value, place)))


def logprob(value: Any, place: str) -> float:  # noqa: ANN401
    """The natural logarithm of a probability. That it is at most 0 is checked with the scores."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise wrong(place, "a log-probability", value)
    return float(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all that a float holds
        return False


def wrong(place: str, wanted: str, found: Any) -> ModelFailure:  # noqa: ANN401
    """The error for an answer that has something else in a place. Never quotes text."""
    kind = "nothing" if found is None else f"a {type(found).__name__}"
    said = f"{found}" if isinstance(found, int | float) else kind
    return ModelFailure(f"the server's answer has {said} for {place}, which must be {wanted}")
