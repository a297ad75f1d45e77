"""Asks a metrics endpoint over HTTP, and takes no more than one would say."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import Final

import h11

from specfuse.cli.top.scrapes import NotMetrics, Scrape, check, read
from specfuse.cli.top.targets import Target
from specfuse.config.addresses import host_and_port

PATIENCE_SECONDS: Final = 5.0
"""An endpoint may take so long to answer, all in all."""

MOST_BYTES: Final = 8 * 1024 * 1024
"""Of what an endpoint says: some fifty ensembles."""

_PIECE: Final = 65_536
_SERVER_ERROR: Final = 500


class Unreachable(Exception):
    """The endpoint could not be read now, and may be later. Says why."""


async def scrape(target: Target) -> Scrape:
    """What the target's endpoint says now.

    Raises:
        Unreachable: it does not answer.
        NotMetrics: something else does.
    """
    text = await _fetched(target.address)
    found = read(text, time.monotonic())
    check(target, found)
    return found


async def _fetched(address: str) -> str:
    host, port = host_and_port(address)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection(host.strip("[]"), port)
            try:
                body = await _asked(address, reader, writer)
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise Unreachable(f"no answer within {PATIENCE_SECONDS:g} s") from None
    except (OSError, UnicodeError) as error:
        raise Unreachable(_why(error)) from error
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise NotMetrics("what it says is not text") from error


async def _asked(address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The body of the answer to one request."""
    connection = h11.Connection(h11.CLIENT)
    headers = [("Host", address), ("Accept", "text/plain; version=0.0.4"), ("Connection", "close")]
    request = h11.Request(method="GET", target="/metrics", headers=headers)
    writer.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    body = bytearray()
    while True:
        event = await _next_event(connection, reader)
        if isinstance(event, h11.Response):
            _check_status(event.status_code)
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MOST_BYTES:
                raise NotMetrics(f"it says more than {MOST_BYTES // 1024**2} MiB")
        elif isinstance(event, h11.EndOfMessage):
            return bytes(body)


async def _next_event(connection: h11.Connection, reader: asyncio.StreamReader) -> object:
    ended = False
    try:
        while (event := connection.next_event()) is h11.NEED_DATA:
            piece = await reader.read(_PIECE)
            ended = not piece
            connection.receive_data(piece)
    except h11.RemoteProtocolError as error:
        if ended:
            raise Unreachable("it closed the connection") from error
        raise NotMetrics("it does not speak HTTP; is that its gRPC address?") from error
    return event


def _check_status(status: int) -> None:
    if status >= _SERVER_ERROR:
        raise Unreachable(f"it answers HTTP {status}")
    if status != 200:  # noqa: PLR2004 (OK)
        raise NotMetrics(f"it answers HTTP {status} to /metrics; is that another of its addresses?")


def _why(error: OSError | UnicodeError) -> str:
    """What the system says, in few words."""
    if isinstance(error, UnicodeError):
        return "that is not the name of a host"
    if error.errno is None or isinstance(error, socket.gaierror):
        return (error.strerror or str(error)).lower()
    return os.strerror(error.errno).lower()
