"""What EndpointSlices say of a member's replicas. Pure.

The types have what is needed of `discovery.k8s.io/v1` and pass over the rest, as a newer API server
may say more. What may be null there may be None here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from fuser_service.mesh.discovery.port import Endpoint

PortOf = int | str
"""The number of a port, or its name."""

_FAMILIES: Final = ("IPv4", "IPv6")
"""The kinds of addresses that mean something; a pod that has both is reached by the first."""


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, alias_generator=to_camel)


class Conditions(_Said):
    """The state of an endpoint. None is unknown, and stands for what is usual."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class TargetRef(_Said):
    """The object that an endpoint is of."""

    kind: str = ""
    name: str = ""
    uid: str = ""


class SliceEndpoint(_Said):
    """An endpoint of a slice. Addresses beyond the first have no meaning."""

    addresses: tuple[str, ...] = Field(min_length=1)
    conditions: Conditions | None = None
    target_ref: TargetRef | None = None
    zone: str | None = None


class SlicePort(_Said):
    """A port of all endpoints of a slice. Without a number it stands for every port."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class Metadata(_Said):
    """An object's name, and which of its versions this is."""

    name: str = ""
    resource_version: str = Field(min_length=1)


class EndpointSlice(_Said):
    """A part of a Service's endpoints."""

    metadata: Metadata
    address_type: str
    endpoints: tuple[SliceEndpoint, ...] | None = None
    ports: tuple[SlicePort, ...] | None = None


class EndpointSliceList(_Said):
    """All slices that there are, at a version."""

    kind: Literal["EndpointSliceList"]
    metadata: Metadata
    items: tuple[EndpointSlice, ...] | None = None


class Changed(_Said):
    """A slice is there, is another than before, or is gone."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: EndpointSlice


class Versioned(_Said):
    """An object of which only its version is told."""

    metadata: Metadata


class Bookmark(_Said):
    """Nothing changed up to a version."""

    type: Literal["BOOKMARK"]
    object: Versioned


class Status(_Said):
    """What went wrong."""

    code: int
    message: str = ""


class Failed(_Said):
    """The watch ends with an error."""

    type: Literal["ERROR"]
    object: Status


News = Changed | Bookmark
"""What a watch says while all is well."""

Event = Annotated[News | Failed, Field(discriminator="type")]
"""What a watch says."""


@dataclass(frozen=True, slots=True)
class Reached:
    """An endpoint at a port: `pod` identifies whose it is, empty if nobody's in particular."""

    pod: str
    address: str
    zone: str
    conditions: Conditions

    @property
    def who(self) -> str:
        """What identifies it."""
        return self.pod or self.address

    @property
    def terminating(self) -> bool:
        """Whether it is about to end."""
        return self.conditions.terminating is True

    @property
    def serves(self) -> bool:
        """Whether it can be asked. One that terminates is not ready, but may still serve."""
        told = self.conditions.serving if self.terminating else self.conditions.ready
        return told is not False


def endpoints_of(
    slices: Iterable[EndpointSlice], port: PortOf, own_zone: str
) -> tuple[Endpoint, ...]:
    """The replicas that serve, each once, by address.

    Slices of several Services may have the same pod, and so may two of the same Service while its
    endpoints are moved from one to the other: a pod that one of them knows to be ending is ending.
    """
    reached = list(_reached(slices, port))
    ending = {one.who for one in reached if one.terminating}
    pods: dict[str, Reached] = {}
    for one in reached:
        if one.serves:
            pods.setdefault(one.who, one)
    found: dict[str, Endpoint] = {}
    for who, one in pods.items():
        endpoint = Endpoint(
            address=one.address,
            zone=one.zone,
            near=bool(own_zone) and one.zone == own_zone,
            terminating=who in ending,
        )
        # An address that another pod has by now is told of the pod that is there to stay.
        if one.address not in found or found[one.address].terminating:
            found[one.address] = endpoint
    return tuple(found[address] for address in sorted(found))


def zone_of(slices: Iterable[EndpointSlice], pod: str) -> str | None:
    """The zone of the pod of this name; empty if its node has none, None if the pod is in none."""
    for one in slices:
        for endpoint in one.endpoints or ():
            target = endpoint.target_ref
            if target is not None and (target.kind, target.name) == ("Pod", pod):
                return endpoint.zone or ""
    return None


def complaint(slices: Iterable[EndpointSlice], port: PortOf) -> str:
    """Why the slices, as they are, can have no replica at that port; empty if they can.

    A Service without pods, as of a model that is scaled to zero, has a slice without ports.
    """
    slices = tuple(slices)
    if not slices:
        return "there are none; look at the labels of the member's Service"
    usable = [one for one in slices if one.address_type in _FAMILIES]
    if not usable:
        kinds = ", ".join(sorted({one.address_type for one in slices}))
        return f"they have no addresses of {' or '.join(_FAMILIES)}, but {kinds}"
    telling = [one for one in usable if one.endpoints or one.ports]
    if not telling or any(_number(one, port) is not None for one in telling):
        return ""
    ports = (f"{known.name or '(no name)'}: {known.port}" for one in usable for known in _tcp(one))
    return f"none has the port {port}; there are: {', '.join(sorted(set(ports))) or 'none'}"


def _reached(slices: Iterable[EndpointSlice], port: PortOf) -> Iterator[Reached]:
    """The endpoints that have the port, in an order that does not depend on that of the slices."""
    for one in sorted(slices, key=lambda one: (one.address_type, one.metadata.name)):
        number = _number(one, port) if one.address_type in _FAMILIES else None
        if number is None:
            continue
        for endpoint in one.endpoints or ():
            yield Reached(
                pod=_pod(endpoint),
                address=_joined(endpoint.addresses[0], number),
                zone=endpoint.zone or "",
                conditions=endpoint.conditions or Conditions(),
            )


def _pod(endpoint: SliceEndpoint) -> str:
    target = endpoint.target_ref
    return target.uid if target is not None and target.kind == "Pod" else ""


def _number(one: EndpointSlice, port: PortOf) -> int | None:
    """The number of the port in this slice; None if the slice does not have it."""
    if isinstance(port, int):
        known = {each.port for each in _tcp(one)}
        return port if not known or port in known or None in known else None
    return next((each.port for each in _tcp(one) if (each.name or "") == port), None)


def _tcp(one: EndpointSlice) -> list[SlicePort]:
    return [each for each in one.ports or () if each.protocol in (None, "TCP")]


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
