"""Which EndpointSlices have a member's replicas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field

from specfuse.config.addresses import HIGHEST_PORT
from specfuse.config.settings_file import Problem
from specfuse.config.types import Section

_DNS_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_KEY: Final = rf"(?:[a-z0-9](?:[a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_NAME}"
_VALUES: Final = rf"\(\s*(?:{_NAME})?(?:\s*,\s*(?:{_NAME})?)*\s*\)"
_OPERATION: Final = rf"(?:\s*(?:==?|!=)\s*(?:{_NAME})?|\s+(?:in|notin)\s*{_VALUES})"
_REQUIREMENT: Final = rf"\s*(?:!\s*{_KEY}|{_KEY}{_OPERATION}?)\s*"
_SELECTOR: Final = re.compile(rf"{_REQUIREMENT}(?:,{_REQUIREMENT})*")


def _label_selector(value: str) -> str:
    if not _SELECTOR.fullmatch(value):
        raise ValueError(
            "must be a label selector, as in specfuse.io/member=llama or app in (a, b), !canary"
        )
    return value


def _port(value: Any) -> int | str:  # noqa: ANN401 (whatever the file holds)
    if isinstance(value, str) and re.fullmatch(rf"({_DNS_LABEL})?", value):
        return value
    if type(value) is int and 1 <= value <= HIGHEST_PORT:  # not True
        return value
    raise ValueError(f"must be the name of a port, as in grpc, or its number, 1 to {HIGHEST_PORT}")


class KubernetesSection(Section):
    """The EndpointSlices of a namespace that have a label: those of a Service, or of several."""

    selector: Annotated[str, AfterValidator(_label_selector)]
    """A label selector, as in `specfuse.io/member=llama`. They have the labels of their Service."""
    port: Annotated[int | str, BeforeValidator(_port)] = "grpc"
    """The port of the model service: its name in the Service, or its number at each pod."""
    namespace: Annotated[str, Field(pattern=rf"^{_DNS_LABEL}$")] | None = None
    """Where the EndpointSlices are. Absent: where the fuser itself is."""


def contradictions(section: KubernetesSection) -> Iterator[Problem]:
    """What there is shows when the API server is asked."""
    del section
    yield from ()
