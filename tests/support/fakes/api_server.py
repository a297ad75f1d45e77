"""A Kubernetes API server that has nothing but EndpointSlices, over HTTPS.

It does what the API's reference says of listing and watching: versions that only grow, watches that
begin after one, selectors (of equality), bookmarks, 410 for versions that are no longer kept, the
`Status` of every refusal, and service account tokens. What it does wrong, a test says.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from tests.support.certificates import Authority

PATH = "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
PATIENCE_SECONDS = 20.0
GROUP = "endpointslices.discovery.k8s.io"


def endpoint(
    address: str,
    *,
    pod: str | None = None,
    uid: str | None = None,
    zone: str | None = None,
    **conditions: bool | None,
) -> dict[str, Any]:
    """An endpoint as the EndpointSlice controller writes it; ready, unless said otherwise."""
    name = pod or f"pod-{address}"
    usual: dict[str, bool | None] = {"ready": True, "serving": True, "terminating": False}
    said: dict[str, Any] = {
        "addresses": [address],
        "conditions": {k: v for k, v in (usual | conditions).items() if v is not None},
        "nodeName": "node-1",
        "targetRef": {"kind": "Pod", "namespace": "models", "name": name, "uid": uid or name},
    }
    return said if zone is None else said | {"zone": zone}


def endpoint_slice(
    name: str,
    *endpoints: dict[str, Any],
    labels: dict[str, str] | None = None,
    ports: list[dict[str, Any]] | None = None,
    family: str = "IPv4",
) -> dict[str, Any]:
    """An EndpointSlice as the controller writes it. One without endpoints has null there."""
    return {
        "metadata": {
            "name": name,
            "namespace": "models",
            "uid": f"uid-of-{name}",
            "generation": 1,
            "labels": {
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": name,
                **(labels or {"specfuse.io/member": "llama"}),
            },
        },
        "addressType": family,
        "endpoints": list(endpoints) or None,
        "ports": [{"name": "grpc", "port": 50051, "protocol": "TCP"}] if ports is None else ports,
    }


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: its namespace and parameters, the token that it brought, and when it came."""

    namespace: str
    query: dict[str, str]
    token: str
    at: float = field(default_factory=time.monotonic)

    @property
    def watches(self) -> bool:
        return self.query.get("watch") == "true"


@dataclass
class ApiServer:
    """Serves once its context is entered. `folder` is for its certificates and the account's files.

    `tokens` are those it takes. A verb, `list` or `watch`, in `refusals` is refused with that
    status; one in `raw` is answered with that status and those bytes; one in `hangs` never is. A
    watch in `silent` is accepted and says nothing, not even that it is over.
    """

    folder: Path
    slices: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=lambda: {"first"})
    refusals: dict[str, int] = field(default_factory=dict)
    raw: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    hangs: set[str] = field(default_factory=set)
    silent: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    gone_as_status: bool = False
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._version = 100
        self._oldest = 0
        self._log: list[tuple[int, str, dict[str, Any], dict[str, Any] | None]] = []
        self._moved = asyncio.Condition()
        self._watching: dict[web.StreamResponse, asyncio.Transport] = {}
        self._connections: set[asyncio.Transport] = set()
        self._stack = AsyncExitStack()
        self._port = 0
        self._authority = Authority.create(self.folder)
        self._identity = self._authority.issue("apiserver")
        self.account = self.folder / "serviceaccount"
        self.account.mkdir()
        (self.account / "namespace").write_text("models")
        (self.account / "ca.crt").write_bytes(self._authority.certificate.read_bytes())
        self.mount_token("first")

    @property
    def environment(self) -> dict[str, str]:
        """What a pod has in its environment."""
        return {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self._port),
            "HOSTNAME": "fuser-0",
        }

    def mount_token(self, token: str) -> None:
        """Has the pod's file hold this token, swapped as the kubelet does."""
        new = self.account / "..token"
        new.write_text(token)
        new.replace(self.account / "token")

    async def put(self, *slices: dict[str, Any]) -> None:
        """Creates or replaces slices."""
        async with self._moved:
            for one in slices:
                name = one["metadata"]["name"]
                before = self.slices.get(name)
                self._note("ADDED" if before is None else "MODIFIED", one, before)
                self.slices[name] = one
            self._moved.notify_all()

    async def delete(self, name: str) -> None:
        async with self._moved:
            self._note("DELETED", self.slices.pop(name), None)
            self._moved.notify_all()

    async def compact(self) -> None:
        """Something else changes, and no version before that is kept."""
        async with self._moved:
            self._version += 10
            self._oldest = self._version

    async def reset(self) -> None:
        """Breaks every watch in the middle of a line, once there is one."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._moved:
            await self._moved.wait_for(lambda: self._watching)
        for response, transport in list(self._watching.items()):
            with suppress(ConnectionError):
                await response.write(b'{"type":"MODIFIED","obj')
            transport.abort()

    async def bookmark(self) -> None:
        """Tells every watch that allows it of the current version."""
        async with self._moved:
            self._version += 1
            self._log.append((self._version, "BOOKMARK", {}, None))
            self._moved.notify_all()

    async def until_asked(self, count: int, *, watches: bool = False) -> None:
        """Returns once there were so many requests, of watches or of lists."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._moved:
            await self._moved.wait_for(
                lambda: sum(one.watches is watches for one in self.asked) >= count
            )

    def pauses(self, *, watches: bool = False) -> list[float]:
        """How many seconds were between requests, of watches or of lists."""
        times = [one.at for one in self.asked if one.watches is watches]
        return [after - before for before, after in pairwise(times)]

    async def away(self, attempts: int) -> None:
        """Goes away; returns once so many connections were tried in vain."""
        await self.stop()
        tried = asyncio.Semaphore(0)

        def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()
            tried.release()

        async with await asyncio.start_server(refuse, "127.0.0.1", self._port):
            async with asyncio.timeout(PATIENCE_SECONDS):
                for _ in range(attempts):
                    await tried.acquire()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Serves, again where it did before."""
        application = web.Application()
        application.router.add_get(PATH, self._answer)
        runner = web.AppRunner(application, access_log=None, handler_cancellation=True)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._identity.certificate, self._identity.key)
        site = web.TCPSite(runner, "127.0.0.1", self._port, ssl_context=context, reuse_address=True)
        await site.start()
        self._port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Goes away: every connection ends."""
        for transport in self._connections:
            transport.abort()
        self._connections.clear()
        await self._stack.aclose()

    def _note(self, kind: str, one: dict[str, Any], before: dict[str, Any] | None) -> None:
        self._version += 1
        one["metadata"]["resourceVersion"] = str(self._version)
        self._log.append((self._version, kind, json.loads(json.dumps(one)), before))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Accept"].startswith("application/json"), request.headers["Accept"]
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        asked = Asked(request.match_info["namespace"], dict(request.query), token)
        self._connections.add(_transport(request))
        async with self._moved:
            self.asked.append(asked)
            self._moved.notify_all()
        verb = "watch" if asked.watches else "list"
        if verb in self.hangs:
            await asyncio.Event().wait()
        if verb in self.raw:
            status, body = self.raw[verb]
            return web.Response(status=status, body=body, content_type="text/html")
        if scheme.lower() != "bearer" or token not in self.tokens:
            return self._refused(401, "Unauthorized")
        if verb in self.refusals:
            user = "system:serviceaccount:models:fuser"
            message = f'{GROUP} is forbidden: User "{user}" cannot {verb} resource "endpointslices"'
            return self._refused(self.refusals[verb], message)
        if verb == "watch":
            return await self._watch(request, asked)
        items = [one for one in self.slices.values() if _selected(one, asked)]
        return web.json_response(
            {
                "kind": "EndpointSliceList",
                "apiVersion": "discovery.k8s.io/v1",
                "metadata": {"resourceVersion": str(self._version)},
                "items": items,
            }
        )

    async def _watch(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        since = int(asked.query["resourceVersion"])
        if since < self._oldest and self.gone_as_status:
            return self._refused(410, f"too old resource version: {since} ({self._oldest})")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        async with self._moved:
            self._watching[response] = _transport(request)
            self._moved.notify_all()
        try:
            if self.silent:
                await asyncio.Event().wait()
            if since < self._oldest:
                message = f"too old resource version: {since} ({self._oldest})"
                await _send(response, "ERROR", _status(410, message, "Expired"))
                return response
            seconds = float(asked.query.get("timeoutSeconds", 1800))
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stream(response, asked, since)
        finally:
            del self._watching[response]
        return response

    async def _stream(self, response: web.StreamResponse, asked: Asked, since: int) -> None:
        while True:
            async with self._moved:
                while self._version <= since:
                    await self._moved.wait()
                news = [one for one in self._log if one[0] > since]
                since = self._version
            for version, kind, one, before in news:
                told = _told(kind, one, before, asked)
                if told == "BOOKMARK":
                    await _send(response, told, _versioned(version))
                elif told:
                    await _send(response, told, _object(one))

    def _refused(self, status: int, message: str) -> web.Response:
        reason = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 410: "Expired"}
        body = _status(status, message, reason.get(status, "InternalError"))
        return web.json_response(body, status=status, headers=self.headers)


def _transport(request: web.Request) -> asyncio.Transport:
    assert isinstance(request.transport, asyncio.Transport)
    return request.transport


def _told(
    kind: str, one: dict[str, Any], before: dict[str, Any] | None, asked: Asked
) -> str | None:
    """The type of the event that a watch is sent: to its selector, a new label is a new object."""
    if kind == "BOOKMARK":
        return kind if asked.query.get("allowWatchBookmarks") == "true" else None
    if kind == "DELETED":
        return kind if _selected(one, asked) else None
    was = before is not None and _selected(before, asked)
    match was, _selected(one, asked):
        case False, True:
            return "ADDED"
        case True, True:
            return "MODIFIED"
        case True, False:
            return "DELETED"
    return None


def _selected(one: dict[str, Any], asked: Asked) -> bool:
    if one["metadata"]["namespace"] != asked.namespace:
        return False
    wanted = (part.split("=") for part in asked.query.get("labelSelector", "").split(",") if part)
    return all(one["metadata"]["labels"].get(key) == value for key, value in wanted)


def _object(one: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", **one}


def _versioned(version: int) -> dict[str, Any]:
    """The object of a bookmark, in which Go leaves all else at nothing."""
    metadata = {"resourceVersion": str(version), "creationTimestamp": None}
    return _object({"metadata": metadata, "addressType": "", "endpoints": None, "ports": None})


def _status(code: int, message: str, reason: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


async def _send(response: web.StreamResponse, kind: str, one: dict[str, Any]) -> None:
    await response.write(json.dumps({"type": kind, "object": one}).encode() + b"\n")
