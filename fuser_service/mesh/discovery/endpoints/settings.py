"""The list of a member's replicas in the settings file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field

from specfuse.config.settings_file import Problem
from specfuse.config.types import Address


def _not_any_port(address: str) -> str:
    if address.endswith(":0"):
        raise ValueError("must have the port that the model service listens on, 1 to 65535")
    return address


Endpoints = Annotated[
    tuple[Annotated[Address, AfterValidator(_not_any_port)], ...],
    Field(min_length=1, max_length=1024),
]


def contradictions(endpoints: tuple[str, ...]) -> Iterator[Problem]:
    """Addresses that are right one by one and wrong together."""
    for position, endpoint in enumerate(endpoints):
        if endpoint in endpoints[:position]:
            yield Problem((position,), f"{endpoint} is listed twice")
