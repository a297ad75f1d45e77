"""One service in this process: `specfuse model serve` and `specfuse fuser serve`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from specfuse.localmesh import ServiceAddresses
from specfuse.localmesh.handshake import announce, die_with
from specfuse.serving.signals import ignore_hangups


@dataclass(frozen=True, slots=True)
class Supervision:
    """What a supervisor asked for: a line on `ready_fd`, and to end with the process `die_with`."""

    ready_fd: int | None
    die_with: int | None

    def begin(self) -> None:
        """Ties this process to the supervisor's life, if asked for; SIGHUP does not end it."""
        ignore_hangups()
        if self.die_with is not None:
            die_with(self.die_with)

    def announce(self, running: Running) -> None:
        """Tells the supervisor where the service listens, if asked for."""
        if self.ready_fd is not None:
            addresses = ServiceAddresses(
                running.address, running.metrics_address, running.http_address
            )
            announce(addresses, self.ready_fd)


class Running(Protocol):
    """A service that serves."""

    @property
    def address(self) -> str:
        """`host:port` of its gRPC services."""

    @property
    def metrics_address(self) -> str:
        """`host:port` of its metrics."""

    @property
    def http_address(self) -> str:
        """`host:port` of its OpenAI-compatible API; empty if it has none."""


def serve_model(file: Path, overrides: Mapping[str, object], supervision: Supervision) -> None:
    """Serves a model until SIGTERM or SIGINT."""
    supervision.begin()
    from model_service.settings import Settings  # noqa: PLC0415 (heavy)
    from specfuse.serving.listening import check_free  # noqa: PLC0415

    settings = Settings.read(file, overrides)
    # Loading a model may take minutes, and its ports are bound only after that.
    check_free({"listen": settings.listen, "metrics_listen": settings.metrics_listen})
    # What serves takes longest to import, and a mistake in the file should be told before.
    from model_service.main import serve  # noqa: PLC0415
    from specfuse.serving.logs import log_to_stderr  # noqa: PLC0415

    log_to_stderr(settings.log_format)
    asyncio.run(serve(settings, supervision.announce))


def serve_fuser(file: Path, overrides: Mapping[str, object], supervision: Supervision) -> None:
    """Serves a fuser until SIGTERM or SIGINT."""
    supervision.begin()
    from fuser_service.settings.settings import Settings  # noqa: PLC0415 (heavy)
    from specfuse.serving.listening import check_free  # noqa: PLC0415

    read = partial(Settings.read, file, overrides)
    settings = read()
    listening = {"listen": settings.listen, "metrics_listen": settings.metrics_listen}
    if settings.http is not None:
        listening["http.listen"] = settings.http.listen
    check_free(listening)
    from fuser_service.main import serve  # noqa: PLC0415 (as above)
    from specfuse.serving.logs import log_to_stderr  # noqa: PLC0415

    log_to_stderr(settings.log_format)
    asyncio.run(serve(settings, supervision.announce, read))
