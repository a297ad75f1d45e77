"""Addresses to listen on, `host:port`."""

from __future__ import annotations

from typing import Final

from specfuse.errors import Misconfigured

HIGHEST_PORT: Final = 65_535


def host_and_port(listen: str, setting: str = "listen") -> tuple[str, int]:
    """The parts of `host:port`.

    Raises:
        Misconfigured: it is not of that form; the message names the setting.
    """
    host, _, port = listen.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > HIGHEST_PORT:
        raise Misconfigured(
            f"{setting}: {listen!r} is not host:port with a port of 0 to {HIGHEST_PORT}; "
            "127.0.0.1:0 takes a free port, [::]:50051 listens on every interface",
            listen=listen,
        )
    return host, int(port)
