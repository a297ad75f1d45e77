"""What the services' settings have in common: their sections, and types of single values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from specfuse.config.addresses import HIGHEST_PORT

_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")


def _address(value: str) -> str:
    match = _ADDRESS.fullmatch(value)
    if match is None or int(match["port"]) > HIGHEST_PORT:
        raise ValueError("must be host:port, as in 127.0.0.1:50051 or [::1]:50051")
    return value


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")]
"""Letters, digits, `.`, `_` and `-`, at most 63: good as a metric's label."""
Address = Annotated[str, AfterValidator(_address)]
Count = Annotated[int, Field(strict=True, ge=1)]
Seconds = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
LogFormat = Literal["text", "json"]
"""How a service logs: lines that people read, or each a JSON object."""


class Section(BaseModel):
    """A mapping of the file: frozen, unknown keys rejected, each key described by its docstring."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )


class ServerTls(Section):
    """The certificate callers see."""

    certificate: Path
    """PEM file of the certificate chain shown to callers."""
    key: Path
    """PEM file of its private key."""
    client_ca: Path | None = None
    """PEM file of the authorities of callers' certificates, which they must show; over HTTP, where
    `tenancy` refuses who is not known, they may also show none. Absent asks for none."""
