"""The settings of a text-generation-inference server."""

from __future__ import annotations

from typing import ClassVar

from model_service.backends.remote.settings import RemoteSection


class TgiSection(RemoteSection):
    """For `backend: tgi`, which asks Hugging Face's text-generation-inference.

    Its launcher needs `--enable-prefill-logprobs`, and on a CPU `--max-batch-size 1`.
    """

    kind: ClassVar[str] = "tgi"
