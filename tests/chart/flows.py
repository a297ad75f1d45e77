"""Which connections a release's NetworkPolicies let through.

https://kubernetes.io/docs/concepts/services-networking/network-policies
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

Policy = Mapping[str, Any]
Rule = Mapping[str, Any]

_OPERATORS: Final = {
    "In": lambda value, values: value in values,
    "NotIn": lambda value, values: value not in values,
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
}


@dataclass(frozen=True)
class Party:
    """Who may be at an end of a connection: a pod, or an address that is no pod's."""

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    """Of what is no pod; else empty."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """A pod's named ports."""
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    """The namespace's own, beside the one that Kubernetes gives it."""


class Port(NamedTuple):
    """Where somebody may listen."""

    number: int
    protocol: str = "TCP"


class Flow(NamedTuple):
    """A connection, by the names of its ends."""

    source: str
    destination: str
    port: Port


def flows(
    policies: Sequence[Policy], parties: Sequence[Party], ports: Iterable[Port]
) -> Iterator[Flow]:
    """Every connection between two of the parties that all policies let through."""
    for port in ports:
        for source in parties:
            for destination in parties:
                if source is not destination and _passes(policies, source, destination, port):
                    yield Flow(source.name, destination.name, port)


def _passes(policies: Sequence[Policy], source: Party, destination: Party, port: Port) -> bool:
    leaves = _lets_through(policies, "Egress", source, destination, (destination, port))
    return leaves and _lets_through(policies, "Ingress", destination, source, (destination, port))


def _lets_through(
    policies: Sequence[Policy], way: str, held: Party, other: Party, to: tuple[Party, Port]
) -> bool:
    """Whether no policy for `held` is about this way, or a rule of one fits."""
    about = [one for one in policies if _is_about(one, way, held)]
    rules = (rule for one in about for rule in one["spec"].get(way.lower()) or ())
    return not about or any(_fits(rule, way, held.namespace, other, to) for rule in rules)


def _is_about(policy: Policy, way: str, party: Party) -> bool:
    spec = policy["spec"]
    ways = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    namespace = policy["metadata"].get("namespace", "")
    return (
        way in ways
        and not party.address
        and namespace in ("", party.namespace)
        and _selects(spec["podSelector"], party.labels)
    )


def _fits(rule: Rule, way: str, namespace: str, other: Party, to: tuple[Party, Port]) -> bool:
    peers = rule.get("from" if way == "Ingress" else "to")
    ports = rule.get("ports")
    return (not peers or any(_is(peer, namespace, other) for peer in peers)) and (
        not ports or any(_is_at(one, *to) for one in ports)
    )


def _is(peer: Mapping[str, Any], namespace: str, party: Party) -> bool:
    if "ipBlock" in peer:
        return bool(party.address) and _within(peer["ipBlock"], party.address)
    if party.address:
        return False
    if "namespaceSelector" in peer:
        labels = {**party.namespace_labels, "kubernetes.io/metadata.name": party.namespace}
        here = _selects(peer["namespaceSelector"], labels)
    else:
        here = party.namespace == namespace
    return here and _selects(peer.get("podSelector", {}), party.labels)


def _within(block: Mapping[str, Any], address: str) -> bool:
    ip = ipaddress.ip_address(address)
    excepted = (ip in ipaddress.ip_network(cidr) for cidr in block.get("except", ()))
    return ip in ipaddress.ip_network(block["cidr"]) and not any(excepted)


def _is_at(allowed: Mapping[str, Any], listener: Party, port: Port) -> bool:
    if allowed.get("protocol", "TCP") != port.protocol:
        return False
    number = allowed.get("port")
    if isinstance(number, str):
        return listener.ports.get(number) == port.number
    last = allowed.get("endPort", number)
    return number is None or number <= port.number <= last


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """An empty selector selects everything."""
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _OPERATORS[one["operator"]](labels.get(one["key"]), one.get("values", ()))
        for one in selector.get("matchExpressions") or ()
    )
