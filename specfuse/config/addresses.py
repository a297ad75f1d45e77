"""Addresses to listen on, `host:port`."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import ExitStack
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


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches `host:port`. Of names, that is known of localhost alone."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens at the first address of the host, which may be in brackets.

    Raises:
        OSError: there is no such host, or the system refuses.
    """
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except UnicodeError as error:  # a..b
        raise socket.gaierror(socket.EAI_NONAME, "not the name of a host") from error
    family, kind, protocol, _, address = found[0]
    with ExitStack() as undo:
        sock = undo.enter_context(socket.socket(family, kind, protocol))
        # Connections that ended do not count as users of the port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen()
        undo.pop_all()
    return sock
