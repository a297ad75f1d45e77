"""From a directory, or a name on the hub, to a tokenizer."""

from __future__ import annotations

import ctypes

from model_service.backends.text.files import ModelFiles, as_misconfiguration
from model_service.backends.text.published import configured_ends, read_tokenizer
from model_service.backends.text.tokenizer import SegmentTokenizer
from specfuse.errors import Misconfigured


def load_tokenizer(files: ModelFiles) -> SegmentTokenizer:
    """The tokenizer of a model that runs elsewhere. Reads no weights, runs no code of the model's.

    Raises:
        Misconfigured: it cannot be found or loaded, or has no `tokenizer.json`.
    """
    with as_misconfiguration(files.key, files.model):
        directory = files.directory()
        try:
            tokenizer = SegmentTokenizer(read_tokenizer(directory), configured_ends(directory))
        except Misconfigured as error:
            raise Misconfigured(f"{files.key}: {files.model!r}: {error.message}") from error
    give_back_memory()
    return tokenizer


def give_back_memory() -> None:
    """Has the C library return what reading took: for a vocabulary of 128,000 tokens some 40 MB.

    glibc keeps freed memory that lies between what is still used until it is told to.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
