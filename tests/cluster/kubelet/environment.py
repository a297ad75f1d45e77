"""A container's environment and command line. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from tests.cluster.api import Object
from tests.cluster.kubelet.downward import field_of, resource_of
from tests.cluster.kubelet.images import Image
from tests.cluster.kubelet.payload import Missing, Sources, contents

_REFERENCE: Final = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")

Environment = dict[str, str]


def environment_of(
    container: Mapping[str, Any], pod: Object, sources: Sources, given: Mapping[str, str]
) -> Environment:
    """The environment of a container, upon what is `given` to every one.

    Raises:
        Missing: what a variable is to hold does not exist.
    """
    environment = dict(given)
    for source in container.get("envFrom", ()):
        environment |= _all_of(source, pod, sources)
    for variable in container.get("env", ()):
        value = _value_of(variable, container, pod, sources)
        if value is not None:
            environment[variable["name"]] = expanded(value, environment)
    return environment


def command_line_of(
    container: Mapping[str, Any], image: Image, environment: Mapping[str, str]
) -> list[str]:
    """What a container runs."""
    command = container.get("command") or image.entrypoint
    return [expanded(word, environment) for word in (*command, *container.get("args", ()))]


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """The text with `$(NAME)` replaced where there is such a variable; `$$` is a dollar sign."""

    def replacement(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else environment.get(found[1], found[0])

    return _REFERENCE.sub(replacement, text)


def _value_of(
    variable: Mapping[str, Any], container: Mapping[str, Any], pod: Object, sources: Sources
) -> str | None:
    """What a variable is to hold; None if that is optional and not there."""
    source = variable.get("valueFrom")
    if source is None:
        return str(variable.get("value", ""))
    if "fieldRef" in source:
        return field_of(pod, source["fieldRef"]["fieldPath"], sources.address)
    if "resourceFieldRef" in source:
        return resource_of(pod, source["resourceFieldRef"], container["name"])
    kind = "configMap" if "configMapKeyRef" in source else "secret"
    wanted = source[f"{kind}KeyRef"]
    found = _contents_of(kind, wanted, pod, sources).get(wanted["key"])
    if found is None and not wanted.get("optional"):
        raise Missing(f"couldn't find key {wanted['key']} in {kind} {wanted['name']}")
    return None if found is None else found.decode()


def _all_of(source: Mapping[str, Any], pod: Object, sources: Sources) -> Environment:
    kind = "configMap" if "configMapRef" in source else "secret"
    found = _contents_of(kind, source[f"{kind}Ref"], pod, sources)
    prefix = source.get("prefix", "")
    return {f"{prefix}{key}": value.decode() for key, value in found.items()}


def _contents_of(
    kind: str, wanted: Mapping[str, Any], pod: Object, sources: Sources
) -> dict[str, bytes]:
    place = (f"{kind.lower()}s", pod["metadata"]["namespace"], wanted["name"])
    found = sources.current(place)
    if found is not None:
        return contents(found)
    if wanted.get("optional"):
        return {}
    raise Missing(f'{kind.lower()} "{wanted["name"]}" not found')
