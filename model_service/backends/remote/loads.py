"""How busy a server is, by its own metrics."""

from __future__ import annotations

from model_service.backends.remote.client import Request, ServerClient
from model_service.backends.remote.gauges import gauges
from model_service.backends.remote.server import Load
from specfuse.deadline import Deadline
from specfuse.errors import Misconfigured


async def load_of(
    client: ServerClient, running: str, waiting: str, deadline: Deadline
) -> Load | None:
    """What two gauges say; None if the server has no metrics, or not the first of them.

    Raises:
        Unavailable, Overloaded, ModelFailure, DeadlineExceeded: as for `Server`.
    """
    try:
        told = gauges(await client.read(Request("metrics", "/metrics"), deadline))
    except Misconfigured:
        return None
    return Load(int(told[running]), int(told.get(waiting, 0))) if running in told else None
