"""Probes of a container, and what they say of it over time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import grpc
import httpx2
from grpc_health.v1 import health_pb2, health_pb2_grpc

_GOOD: Final = range(200, 400)

Look = Callable[[], Awaitable[bool]]
"""Looks once. It may raise, or take for ever: then it failed."""

Execute = Callable[[list[str]], Awaitable[bool]]
"""Runs a command in the container; whether it ended with 0."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is probed: the pod's address, the container's named ports, and a way into it."""

    address: str
    ports: Mapping[str, int]
    execute: Execute

    def port(self, given: int | str) -> int:
        """The number of a port."""
        return given if isinstance(given, int) else self.ports[given]


async def keep_probing(
    probe: Mapping[str, Any], look: Look, tell: Callable[[bool], Awaitable[None]]
) -> None:
    """Probes until it is cancelled. Tells what it has come to whenever a threshold is reached."""
    thresholds = {True: probe.get("successThreshold", 1), False: probe.get("failureThreshold", 3)}
    period, longest = probe.get("periodSeconds", 10), probe.get("timeoutSeconds", 1)
    latest, in_a_row = None, 0
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    while True:
        good = await _is_good(look, longest)
        in_a_row = in_a_row + 1 if good == latest else 1
        latest = good
        if in_a_row >= thresholds[good]:
            await tell(good)
        await asyncio.sleep(period)


def look_of(probe: Mapping[str, Any], target: Target) -> Look:
    """What a probe does."""
    if "grpc" in probe:
        service = probe["grpc"].get("service", "")
        return lambda: _serves(f"{target.address}:{probe['grpc']['port']}", service)
    if "httpGet" in probe:
        return lambda: answers(probe["httpGet"], target)
    if "tcpSocket" in probe:
        return lambda: _accepts(target.address, target.port(probe["tcpSocket"]["port"]))
    return lambda: target.execute(probe["exec"]["command"])


async def answers(get: Mapping[str, Any], target: Target) -> bool:
    """Whether an HTTP GET is answered well. Certificates are not looked at."""
    scheme = get.get("scheme", "HTTP").lower()
    host = get.get("host", target.address)
    url = f"{scheme}://{host}:{target.port(get['port'])}{get.get('path', '/')}"
    headers = {one["name"]: one["value"] for one in get.get("httpHeaders", ())}
    headers = {"user-agent": "kube-probe/1.36", "connection": "close"} | headers
    async with httpx2.AsyncClient(verify=False, trust_env=False) as http:
        return (await http.get(url, headers=headers)).status_code in _GOOD


async def _is_good(look: Look, longest: float) -> bool:
    with suppress(TimeoutError, OSError, grpc.RpcError, httpx2.TransportError):
        async with asyncio.timeout(longest):
            return await look()
    return False


async def _serves(address: str, service: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _accepts(address: str, port: int) -> bool:
    _, writer = await asyncio.open_connection(address, port)
    writer.close()
    return True
