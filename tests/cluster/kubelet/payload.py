"""What the files of a volume are, by what a pod says of it and what the objects hold. Pure."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.cluster.api import Object
from tests.cluster.kubelet.downward import field_of, resource_of
from tests.cluster.kubelet.objects import Place

_MODE: Final = 0o644
_TOKEN_MODE: Final = 0o600


class Missing(Exception):
    """A pod needs something that there is not."""


@dataclass(frozen=True, slots=True)
class File:
    """What is in a file, and who may read it."""

    content: bytes
    mode: int = _MODE
    owner: int = 0


Files = Mapping[str, File]
"""Files by their paths within a volume."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What files are made of: the objects, the tokens by audience, and the pod's address."""

    current: Callable[[Place], Object | None]
    token: Callable[[Mapping[str, Any]], str]
    address: str


def places_of(pod: Object) -> set[Place]:
    """The objects that a pod needs for its volumes and its environment."""
    namespace = pod["metadata"]["namespace"]
    return {(plural, namespace, name) for plural, name in _names(pod)}


def files_of(volume: Mapping[str, Any], pod: Object, sources: Sources) -> Files | None:
    """The files of a volume; None if it is none of files.

    Raises:
        Missing: an object or a key of it, which is not said to be optional.
    """
    mode = _default_mode(volume)
    if "projected" in volume:
        files: dict[str, File] = {}
        for source in volume["projected"]["sources"]:
            files |= _files_of_source(source, pod, sources, mode)
        return files
    if {"configMap", "secret", "downwardAPI"} & volume.keys():
        return _files_of_source(_named_alike(volume), pod, sources, mode)
    return None


def _names(pod: Object) -> Iterator[tuple[str, str]]:
    for reference in (*_in_volumes(pod), *_in_variables(pod)):
        for kind in reference.keys() & _REFERENCES.keys():
            yield _REFERENCES[kind], reference[kind]["name"]


_REFERENCES: Final = {
    **dict.fromkeys(("configMap", "configMapRef", "configMapKeyRef"), "configmaps"),
    **dict.fromkeys(("secret", "secretRef", "secretKeyRef"), "secrets"),
}


def _in_volumes(pod: Object) -> Iterator[Mapping[str, Any]]:
    for volume in pod["spec"].get("volumes", ()):
        yield from volume.get("projected", {}).get("sources", (_named_alike(volume),))


def _in_variables(pod: Object) -> Iterator[Mapping[str, Any]]:
    for container in containers_of(pod):
        yield from (*container.get("envFrom", ()), *_value_sources(container))


def _value_sources(container: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for variable in container.get("env", ()):
        yield variable.get("valueFrom", {})


def _named_alike(volume: Mapping[str, Any]) -> dict[str, Any]:
    """A volume of one source as that source is written in a projected one."""
    source = dict(volume)
    if "secret" in volume:
        source["secret"] = volume["secret"] | {"name": volume["secret"]["secretName"]}
    return source


def _default_mode(volume: Mapping[str, Any]) -> int:
    kinds = ("projected", "configMap", "secret", "downwardAPI")
    return next((volume[kind].get("defaultMode", _MODE) for kind in kinds if kind in volume), _MODE)


def _files_of_source(
    source: Mapping[str, Any], pod: Object, sources: Sources, mode: int
) -> dict[str, File]:
    if "serviceAccountToken" in source:
        wanted = source["serviceAccountToken"]
        return {wanted["path"]: _token_file(sources.token(wanted).encode(), pod, mode)}
    if "downwardAPI" in source:
        return dict(_downward_files(source["downwardAPI"], pod, sources.address, mode))
    kind = "configMap" if "configMap" in source else "secret"
    wanted = source[kind]
    place = (f"{kind.lower()}s", pod["metadata"]["namespace"], wanted["name"])
    found = sources.current(place)
    if found is None:
        if wanted.get("optional"):
            return {}
        raise Missing(f'{kind.lower()} "{wanted["name"]}" not found')
    return dict(_chosen(contents(found), wanted, mode))


def _token_file(token: bytes, pod: Object, mode: int) -> File:
    """A token's file: for its user only, if all containers run as the same one."""
    shared = pod["spec"].get("securityContext") or {}
    users = {
        (one.get("securityContext") or {}).get("runAsUser", shared.get("runAsUser"))
        for one in containers_of(pod)
    }
    user = users.pop() if len(users) == 1 else None
    if user is None and "fsGroup" not in shared:
        return File(token, mode)
    return File(token, _TOKEN_MODE, user or 0)


def containers_of(pod: Object) -> tuple[Object, ...]:
    """All containers of a pod, those that come before the others, too."""
    return (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"])


def contents(found: Object) -> dict[str, bytes]:
    """What a ConfigMap or a Secret holds."""
    binary = {key: base64.b64decode(one) for key, one in (found.get("binaryData") or {}).items()}
    data = found.get("data") or {}
    if found.get("kind") == "Secret" or "type" in found:
        return {key: base64.b64decode(one) for key, one in data.items()}
    return {key: one.encode() for key, one in data.items()} | binary


def _chosen(
    data: Mapping[str, bytes], wanted: Mapping[str, Any], mode: int
) -> Iterator[tuple[str, File]]:
    """The files that are wanted of an object: all of its keys, or some in places of their own."""
    if "items" not in wanted:
        yield from ((key, File(content, mode)) for key, content in data.items())
        return
    for item in wanted["items"]:
        if item["key"] in data:
            yield item["path"], File(data[item["key"]], item.get("mode", mode))
        elif not wanted.get("optional"):
            raise Missing(f'references non-existent key "{item["key"]}" of {wanted["name"]}')


def _downward_files(
    wanted: Mapping[str, Any], pod: Object, address: str, mode: int
) -> Iterator[tuple[str, File]]:
    for item in wanted.get("items", ()):
        if "fieldRef" in item:
            value = field_of(pod, item["fieldRef"]["fieldPath"], address)
        else:
            value = resource_of(pod, item["resourceFieldRef"])
        yield item["path"], File(value.encode(), item.get("mode", mode))
