"""Fakes of inference servers, with what a backend needs to know of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from model_service.backends.remote.settings import RemoteSection
from model_service.backends.sglang.settings import SglangSection
from model_service.backends.vllm.settings import VllmSection
from tests.support import tiny_models
from tests.support.fakes.server import FakeServer
from tests.support.fakes.sglang import FakeSglang
from tests.support.fakes.vllm import FakeVllm
from tests.support.served_model import ServedModel

ARCHITECTURE: Final = "llama_served"
SECTIONS: Final[dict[type[FakeServer], type[RemoteSection]]] = {
    FakeSglang: SglangSection,
    FakeVllm: VllmSection,
}


def faked(fake: FakeServer, tokenizer: Path, **settings: Any) -> ServedModel:
    """A fake as a backend is told of it; `settings` are further ones of its section."""
    told = {"url": fake.url, "tokenizer": str(tokenizer), "start_seconds": 5.0, **settings}
    section = SECTIONS[type(fake)].model_validate(told)
    return ServedModel(section, tiny_models.reference(ARCHITECTURE))
