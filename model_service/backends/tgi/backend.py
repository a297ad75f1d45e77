"""Opens the backend of a text-generation-inference server."""

from __future__ import annotations

from model_service.backends.remote.backend import RemoteBackend
from model_service.backends.remote.opening import open_remote
from model_service.backends.tgi.refusals import translated
from model_service.backends.tgi.server import TgiServer
from model_service.backends.tgi.settings import TgiSection
from model_service.ports import BackendHost


async def open_backend(section: TgiSection, host: BackendHost) -> RemoteBackend:
    """Opens the backend once the server is ready.

    Raises:
        Misconfigured: the server is not there in time, is not what the settings say, or was started
            without what scoring needs.
    """
    return await open_remote(section, host, TgiServer, translated)
