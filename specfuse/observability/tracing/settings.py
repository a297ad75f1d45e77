"""The settings of a service's traces."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from specfuse.config.addresses import HIGHEST_PORT
from specfuse.config.settings_file import Contradictions, Problem
from specfuse.config.types import Flag, Section

_RECEIVER = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")


def _receiver(value: str) -> str:
    match = _RECEIVER.fullmatch(value)
    if match is None or not 0 < int(match["port"]) <= HIGHEST_PORT:
        raise ValueError(
            "must be host:port of a receiver of OTLP over gRPC, as in otel-collector:4317, "
            "without http:// before it"
        )
    return value


class ReceiverTls(Section):
    """How the receiver is authenticated, and the certificate it is shown."""

    ca: Path | None = None
    """PEM file of the authorities behind the receiver's certificate. Absent: the public ones."""
    certificate: Path | None = None
    """PEM file of the certificate chain shown to it, if it asks for one. Needs `key`."""
    key: Path | None = None
    """PEM file of its private key. Needs `certificate`."""
    server_name: str = ""
    """The name in the receiver's certificate, where that is not the host of the endpoint."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            problem = "certificate and key go together; give both or neither"
            raise Contradictions([Problem((), problem)])
        return self


class Tracing(Section):
    """Where traces go. What callers record is recorded here, and nothing else."""

    endpoint: Annotated[str, AfterValidator(_receiver)]
    """`host:port` of a receiver of OTLP over gRPC: an OpenTelemetry Collector, Tempo, Jaeger."""
    tls: ReceiverTls | None = None
    """Absent means plain text."""


class EdgeTracing(Tracing):
    """Of a service where traces begin: which are recorded, too."""

    sample_ratio: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.01
    """Which share of the requests is recorded whose callers have not decided that: 0 to 1."""
    trust_callers: Flag = True
    """Whether a caller's `traceparent` counts: its trace goes on here, recorded if the caller says
    so. Else each request begins a trace, which links to the caller's."""
