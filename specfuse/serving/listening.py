"""Whether services will be able to listen, found out before anything slow is begun for them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final

from specfuse.config.addresses import host_and_port, listening_socket
from specfuse.errors import Misconfigured

_FATAL: Final = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES})
"""Other errors are left to the service itself: gRPC can do without IPv6, for one."""


def check_free(addresses: Mapping[str, str]) -> None:
    """Checks that every `host:port`, keyed by its setting, can be listened on, all at once.

    Port 0 stands for any free one. A port may still be taken between this check and the service.

    Raises:
        Misconfigured: an address is malformed, taken (if only by another of them), or not this
            machine's; the message names the setting.
    """
    with ExitStack() as held:
        for setting, listen in addresses.items():
            host, port = host_and_port(listen, setting)
            try:
                held.enter_context(listening_socket(host, port))
            except OSError as error:
                if error.errno in _FATAL or isinstance(error, socket.gaierror):
                    raise Misconfigured(
                        f"{setting}: cannot bind {listen}: {error.strerror}; choose another "
                        "address, or port 0 for a free port",
                        listen=listen,
                    ) from error
