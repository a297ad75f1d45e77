"""Opens the backend of a vLLM server."""

from __future__ import annotations

from model_service.backends.remote.backend import RemoteBackend
from model_service.backends.remote.client import ServerClient
from model_service.backends.remote.opening import open_remote
from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.backends.vllm.refusals import translated
from model_service.backends.vllm.server import VllmServer
from model_service.backends.vllm.settings import VllmSection
from model_service.ports import BackendHost


async def open_backend(section: VllmSection, host: BackendHost) -> RemoteBackend:
    """Opens the backend once the server is ready.

    Raises:
        Misconfigured: the server is not there in time, or is not what the settings say.
    """

    def make_server(client: ServerClient, _tokenizer: SegmentTokenizer) -> VllmServer:
        return VllmServer(client, section.served_model)

    return await open_remote(section, host, make_server, translated)
