"""Opens the backend of a llama-server."""

from __future__ import annotations

from model_service.backends.llama_cpp.refusals import translated
from model_service.backends.llama_cpp.server import LlamaServer
from model_service.backends.llama_cpp.settings import LlamaCppSection
from model_service.backends.remote.backend import RemoteBackend
from model_service.backends.remote.opening import open_remote
from model_service.ports import BackendHost


async def open_backend(section: LlamaCppSection, host: BackendHost) -> RemoteBackend:
    """Opens the backend once the server is ready.

    Raises:
        Misconfigured: the server is not there in time, or is not what the settings say.
    """
    return await open_remote(section, host, LlamaServer, translated)
