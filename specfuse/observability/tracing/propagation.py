"""The context of a trace in a call's headers, by W3C: `traceparent` and `tracestate`.

Whatever callers send is bounded and checked before the library reads it, which would log some of
it. What is wrong is ignored. Baggage is neither read nor passed on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PARENT: Final = "traceparent"
_STATE: Final = "tracestate"
_MOST_PARENT_CHARACTERS: Final = 128
_MOST_STATE_CHARACTERS: Final = 512
"""As much as everybody has to pass on; more is dropped."""
_MOST_MEMBERS: Final = 32
_MEMBER: Final = re.compile(
    r"[a-z0-9][_0-9a-z*/-]{0,240}(?:@[a-z][_0-9a-z*/-]{0,13})?"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_W3C: Final = TraceContextTextMapPropagator()


def incoming(headers: Iterable[tuple[str, str | bytes]]) -> Context:
    """The context that the headers, by name in lower case, bring along; an empty one if none."""
    parents, states = [], []
    for name, value in headers:
        if name == _PARENT:
            parents.append(_text(value))
        elif name == _STATE:
            states.append(_text(value))
    if len(parents) != 1 or len(parents[0]) > _MOST_PARENT_CHARACTERS:
        return Context()
    carrier = {_PARENT: parents[0]}
    if state := _sound(",".join(states)):
        carrier[_STATE] = state
    return _W3C.extract(carrier, Context())


def outgoing() -> tuple[tuple[str, str], ...]:
    """The headers that give the current context to whoever is called; none if there is none."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return tuple(carrier.items())


def _sound(state: str) -> str:
    """The list of a `tracestate`; empty if anything is wrong with it."""
    if len(state) > _MOST_STATE_CHARACTERS:
        return ""
    members = [member for each in state.split(",") if (member := each.strip(" \t"))]
    if len(members) > _MOST_MEMBERS or not all(map(_MEMBER.fullmatch, members)):
        return ""
    return ",".join(members)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
