"""Which metrics endpoints are watched. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from specfuse.config.addresses import host_and_port
from specfuse.errors import InvalidArgument, Misconfigured

Kind = Literal["fuser", "model"]

DEFAULT_FUSER: Final = "127.0.0.1:9090"
DEFAULT_MODEL: Final = "127.0.0.1:9091"
"""Where the services have their metrics, unless their settings say otherwise."""


@dataclass(frozen=True, slots=True)
class Target:
    """A metrics endpoint at `host:port`, and what is said to be there.

    `name` is a model's, empty if it was not given. An `optional` one is not missed if nothing of
    its kind is there when the watch begins.
    """

    kind: Kind
    address: str
    name: str = ""
    optional: bool = False

    @property
    def option(self) -> str:
        """The option that gave it."""
        return f"--{self.kind}"

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind, self.name, self.address) if part)


def targets_of(fusers: Sequence[str], models: Sequence[str]) -> tuple[Target, ...]:
    """The endpoints that the options name; without any, those of services with default settings.

    Raises:
        InvalidArgument: one is not like HOST:PORT, or a model's not like NAME=HOST:PORT either; or
            one comes twice.
    """
    if not (fusers or models):
        return (Target("fuser", DEFAULT_FUSER), Target("model", DEFAULT_MODEL, optional=True))
    targets = (
        *(Target("fuser", _address(given, "--fuser")) for given in fusers),
        *(_model(given) for given in models),
    )
    seen: set[str] = set()
    for target in targets:
        if target.address in seen:
            raise InvalidArgument(target.option, f"{target.address} is given twice")
        seen.add(target.address)
    return targets


def _model(given: str) -> Target:
    name, equals, address = given.rpartition("=")
    if equals and not name:
        raise InvalidArgument("--model", f"{given!r} has no name; it is like llama=127.0.0.1:9091")
    return Target("model", _address(address, "--model"), name)


def _address(given: str, option: str) -> str:
    """The address, also if it is given as the URL that `specfuse up` shows."""
    address = given.strip().removeprefix("http://").rstrip("/").removesuffix("/metrics")
    try:
        _, port = host_and_port(address)
    except Misconfigured:
        port = 0
    if not port or "/" in address:
        problem = f"{given!r} is not the host:port of a metrics endpoint, like {DEFAULT_FUSER}"
        raise InvalidArgument(option, problem)
    return address
