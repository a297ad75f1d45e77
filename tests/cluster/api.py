"""The API of a cluster over HTTP. Objects are the dictionaries that they are as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

import httpx2

from tests.support.certificates import Identity

Object = dict[str, Any]
Objects = Mapping[str, Object]
"""Objects by `namespace/name`, or by `name` where they have no namespace."""

PATIENCE_SECONDS: Final = 300.0
"""How long something may take to come about. Never reached unless something is wrong."""

_AGAIN_SECONDS: Final = 0.3
_ANSWER_SECONDS: Final = 30.0
_MERGE: Final = "application/merge-patch+json"
_STRATEGIC: Final = "application/strategic-merge-patch+json"
_APPLY: Final = "application/apply-patch+yaml"
_GROUPS: Final = {
    "apis/apps/v1": ("deployments", "replicasets"),
    "apis/batch/v1": ("jobs",),
    "apis/coordination.k8s.io/v1": ("leases",),
    "apis/discovery.k8s.io/v1": ("endpointslices",),
    "apis/networking.k8s.io/v1": ("networkpolicies", "ingresses"),
    "apis/policy/v1": ("poddisruptionbudgets",),
    "apis/autoscaling/v2": ("horizontalpodautoscalers",),
    "apis/rbac.authorization.k8s.io/v1": (
        "roles",
        "rolebindings",
        "clusterroles",
        "clusterrolebindings",
    ),
}
_GROUP_OF: Final = {plural: group for group, all_ in _GROUPS.items() for plural in all_}
"""The group of every resource that is not in the core one."""

_logger = logging.getLogger(__name__)


class ApiError(Exception):
    """The server refused. `code` is HTTP's status, `reason` the word for it."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message


class Unreachable(Exception):
    """The server cannot be asked now."""


class Api:
    """Asks the API server as one user."""

    def __init__(self, url: str, authority: str, identity: Identity) -> None:
        """The user is whom the certificate names; `authority` is the file of who vouches."""
        trust = ssl.create_default_context(cafile=authority)
        trust.load_cert_chain(identity.certificate, identity.key)
        self._http = httpx2.AsyncClient(
            base_url=url,
            verify=trust,
            trust_env=False,
            timeout=_ANSWER_SECONDS,
            limits=httpx2.Limits(max_connections=None),
        )

    async def close(self) -> None:
        """Closes all connections."""
        await self._http.aclose()

    async def answers(self, path: str) -> bool:
        """Whether this path is answered with 200."""
        try:
            return (await self._http.get(path)).status_code == httpx2.codes.OK
        except httpx2.TransportError:
            return False

    async def get(self, plural: str, name: str, namespace: str = "") -> Object:
        """The object.

        Raises:
            ApiError: above all 404. Unreachable: nobody answers. As all methods.
        """
        return await self._ask("GET", path_of(plural, namespace, name))

    async def list(self, plural: str, namespace: str = "", **selectors: str) -> Objects:
        """All objects that the selectors (`labelSelector`, `fieldSelector`) select."""
        found = await self._ask("GET", path_of(plural, namespace), params=selectors)
        return {key_of(one): one for one in found["items"]}

    async def create(self, plural: str, body: Object, namespace: str = "", sub: str = "") -> Object:
        """Creates an object, or posts to what is below one: `sub` is `NAME/what`."""
        return await self._ask("POST", path_of(plural, namespace, sub), json=body)

    async def apply(self, body: Object, namespace: str = "") -> Object:
        """Has the object be as given, whether it is there or not."""
        path = path_of(plural_of(body["kind"]), namespace, body["metadata"]["name"])
        params = {"fieldManager": "tests", "force": "true"}
        return await self._ask("PATCH", path, params=params, json=body, kind=_APPLY)

    async def merge(self, plural: str, path: str, body: Object, namespace: str = "") -> Object:
        """Changes the fields of an object that are given; lists are replaced.

        `path` is the object's name, and what is below it, if it is that: `NAME/scale`.
        """
        return await self._ask("PATCH", path_of(plural, namespace, path), json=body, kind=_MERGE)

    async def report(self, plural: str, name: str, status: Object, namespace: str = "") -> Object:
        """Changes the status of an object; conditions are merged by their type."""
        path = path_of(plural, namespace, f"{name}/status")
        return await self._ask("PATCH", path, json=status, kind=_STRATEGIC)

    async def replace(self, plural: str, body: Object, namespace: str = "") -> Object:
        """Puts the object in the place of the one of its name, if that is as it was read."""
        path = path_of(plural, namespace, body["metadata"]["name"])
        return await self._ask("PUT", path, json=body)

    async def delete(
        self,
        plural: str,
        name: str,
        namespace: str = "",
        *,
        grace: int | None = None,
        uid: str | None = None,
    ) -> Object:
        """Deletes the object, if it is the one of this uid."""
        options: Object = {"propagationPolicy": "Background"}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        return await self._ask("DELETE", path_of(plural, namespace, name), json=options)

    async def everything(self, namespace: str) -> set[str]:
        """All objects of a namespace, as `resource/name`, whatever kinds there are."""
        found: set[str] = set()
        for path in await self._groups():
            for resource in (await self._ask("GET", path))["resources"]:
                if resource["namespaced"] and "list" in resource["verbs"]:
                    plural = resource["name"]
                    listed = await self._ask("GET", f"{path}/namespaces/{namespace}/{plural}")
                    found |= {f"{plural}/{one['metadata']['name']}" for one in listed["items"]}
        return found

    async def version(self) -> str:
        """The server's version."""
        return str((await self._ask("GET", "/version"))["gitVersion"])

    async def mirror(
        self, plural: str, namespace: str = "", **selectors: str
    ) -> AsyncIterator[Objects]:
        """What there is now, and again after every change, for as long as it is iterated over.

        While the server is away there are no changes. The same dictionary is yielded every time.
        """
        path = path_of(plural, namespace)
        while True:
            try:
                async with aclosing(self._watched(path, selectors)) as watched:
                    async for objects in watched:
                        yield objects
            except (ApiError, Unreachable) as error:
                _logger.debug("%s: %s", path, error)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def until(
        self,
        plural: str,
        happened: Callable[[Objects], bool],
        namespace: str = "",
        seconds: float = PATIENCE_SECONDS,
        **selectors: str,
    ) -> Objects:
        """What there is as soon as it is so; looks after every change.

        Raises:
            AssertionError: it did not come about in this time. Says what there was.
        """
        objects: Objects = {}
        try:
            async with (
                asyncio.timeout(seconds),
                aclosing(self.mirror(plural, namespace, **selectors)) as mirror,
            ):
                async for objects in mirror:
                    if happened(objects):
                        return dict(objects)
        except TimeoutError:
            pass
        shown = json.dumps(list(objects.values()), indent=1)
        raise AssertionError(f"{plural} never came to be so in {seconds} s: {shown}")

    async def _groups(self) -> list[str]:
        """Where the resources of each group are described."""
        groups = (await self._ask("GET", "/apis"))["groups"]
        return ["/api/v1", *(f"/apis/{one['preferredVersion']['groupVersion']}" for one in groups)]

    async def _watched(self, path: str, selectors: Mapping[str, str]) -> AsyncIterator[Objects]:
        """Lists and watches until the server ends it."""
        found = await self._ask("GET", path, params=selectors)
        objects = {key_of(one): one for one in found["items"]}
        yield objects
        params = dict(selectors) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": found["metadata"]["resourceVersion"],
        }
        try:
            async with self._http.stream("GET", path, params=params, timeout=_FOREVER) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise _error_of(answer)
                async with aclosing(answer.aiter_lines()) as lines:
                    async for line in lines:
                        if _took(objects, json.loads(line)):
                            yield objects
        except httpx2.TransportError as error:
            raise Unreachable(str(error)) from error

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Object | None = None,
        kind: str = "application/json",
    ) -> Object:
        try:
            answer = await self._http.request(
                method, path, params=params, json=json, headers={"content-type": kind}
            )
        except httpx2.TransportError as error:
            raise Unreachable(str(error)) from error
        if answer.is_error:
            raise _error_of(answer)
        found: Object = answer.json()
        return found


_FOREVER: Final = httpx2.Timeout(_ANSWER_SECONDS, read=None)


def path_of(plural: str, namespace: str = "", name: str = "") -> str:
    """Where a resource, an object, or what is below it is."""
    group = _GROUP_OF.get(plural, "api/v1")
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"/{group}{within}/{plural}" + (f"/{name}" if name else "")


def plural_of(kind: str) -> str:
    """The resource of a kind."""
    lower = kind.lower()
    if lower.endswith("y"):
        return f"{lower[:-1]}ies"
    return f"{lower}es" if lower.endswith("s") else f"{lower}s"


def key_of(one: Object) -> str:
    """The key of an object among others."""
    metadata = one["metadata"]
    within = metadata.get("namespace")
    return f"{within}/{metadata['name']}" if within else str(metadata["name"])


def _took(objects: dict[str, Object], event: Object) -> bool:
    """Takes an event of a watch; whether it changed anything.

    Raises:
        ApiError: the watch is over.
    """
    one = event["object"]
    match event["type"]:
        case "ERROR":
            raise ApiError(one.get("code", 0), one.get("reason", ""), one.get("message", ""))
        case "BOOKMARK":
            return False
        case "DELETED":
            objects.pop(key_of(one), None)
        case _:
            objects[key_of(one)] = one
    return True


def _error_of(answer: httpx2.Response) -> ApiError:
    try:
        status = answer.json()
    except ValueError:
        status = {"message": answer.text}
    return ApiError(answer.status_code, status.get("reason", ""), status.get("message", ""))
