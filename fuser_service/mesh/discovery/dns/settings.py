"""The name that has the addresses of a member's replicas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from specfuse.config.addresses import HIGHEST_PORT
from specfuse.config.settings_file import Problem
from specfuse.config.types import Seconds, Section


class DnsSection(Section):
    """A name with an address for each replica: on Kubernetes, that of a headless Service."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?$")]
    """The name, as in `llama.models.svc.cluster.local`."""
    port: Annotated[int, Field(strict=True, ge=1, le=HIGHEST_PORT)]
    """The port that the model service listens on at each of its addresses."""
    every_seconds: Seconds = 5.0
    """How often it is resolved."""


def contradictions(section: DnsSection) -> Iterator[Problem]:
    """Whether there is such a name shows when it is resolved."""
    del section
    yield from ()
