"""Whose name a caller asks for, where only this machine may ask.

A page from anywhere can have its own name resolved to 127.0.0.1 (DNS rebinding), and its browser
then lets it ask and read, as of its own server. What it cannot do is to ask for another name.
"""

from __future__ import annotations

import re
from typing import Any, Final

from starlette.datastructures import Headers

from fuser_service.doors.openai.errors import HttpProblem
from specfuse.config.addresses import is_loopback
from specfuse.http.bodies import Receive, Send
from specfuse.http.server import Application

_HOST: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(:\d*)?")


class LoopbackOnly:
    """An ASGI application of which others than this machine's own names are refused."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:  # noqa: ANN401
        """Has the application answer, if the request is for a loopback name.

        Raises:
            HttpProblem: it is for another.
        """
        host = Headers(scope=scope).get("host")
        if host is not None and not _is_own(host):  # browsers send one, always
            said = (
                "the host header must be localhost or a loopback address: this service has no "
                "`tenancy` and so answers this machine alone; `tenancy: {anonymous: allow}` in its "
                "settings has it answer under every name"
            )
            raise HttpProblem(403, said)
        await self._application(scope, receive, send)


def _is_own(host: str) -> bool:
    found = _HOST.fullmatch(host.strip().lower())
    return found is not None and is_loopback(f"{found['host']}:0")
