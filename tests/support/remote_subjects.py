"""The kinds of servers that a model can run on, for tests that hold for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch

from model_service.backends.registry import open_backend, section_type
from model_service.backends.remote.backend import RemoteBackend
from model_service.core.types import Candidate, Context
from model_service.ports import BackendHost
from tests.support import tiny_models
from tests.support.fakes.sglang import FakeSglang
from tests.support.fakes.tgi import FakeTgi
from tests.support.fakes.vllm import FakeVllm
from tests.support.observers import RecordingObserver
from tests.support.tiny_models import SERVED_WINDOW

ARCHITECTURE = "llama_served"
"""The tiny model that all of them run, from the same weights."""


_TOKENIZER: Any = tiny_models.tokenizer(ARCHITECTURE)


def _text_of(context: Context) -> str:
    """All of a context as a server is sent it that puts the first token before it by itself."""
    prompt = context.prompt
    if not isinstance(prompt, str):
        turns = [{"role": one.role.value, "content": one.content} for one in prompt]
        prompt = _TOKENIZER.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return prompt.removeprefix(_TOKENIZER.bos_token) + "".join(context.committed)


@asynccontextmanager
async def made_up(kind: str) -> AsyncIterator[str]:
    """The address of a made-up server of a kind, which answers as that kind does."""
    fake: Any = _FAKES[kind]()
    async with fake:
        yield fake.url


_FAKES: dict[str, Callable[[], object]] = {
    "sglang": partial(FakeSglang, ARCHITECTURE),
    "tgi": partial(FakeTgi, ARCHITECTURE, SERVED_WINDOW),
    "vllm": partial(FakeVllm, ARCHITECTURE),
}


Regrets = list[tuple[int, float]]
"""Of each token where it begins, and its regret."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A server of one kind that runs the tiny model, and the model's directory."""

    kind: str
    url: str
    model: Path

    def section(self, url: str | None = None, **settings: Any) -> Any:
        """The settings of a backend on it, or on what stands between."""
        given = {"url": url or self.url, "tokenizer": str(self.model), "start_seconds": 30.0}
        return section_type(self.kind).model_validate(given | settings)

    def drafted(self, backend: RemoteBackend, context: Context, tokens: int) -> str:
        """What the model says next, as the text of a whole segment."""
        ids = self._context_ids(backend, context)
        output = tiny_models.reference(ARCHITECTURE).generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
        )
        draft = backend._encoder.tokenizer.draft(context)
        for token in output[0, len(ids) :].tolist():
            if token in backend._encoder.tokenizer.end_ids:
                return draft.whole().text
            draft.append(token)
        return draft.cut().text

    def scored(self, backend: RemoteBackend, context: Context, candidate: Candidate) -> list[float]:
        """The log-probabilities of a candidate's tokens in one forward pass of the model."""
        ids, own = self._branch_ids(backend, context, candidate)
        with torch.inference_mode():
            logits = tiny_models.reference(ARCHITECTURE)(torch.tensor([[*ids, *own]])).logits[0]
        logprobs = torch.log_softmax(logits.float(), -1)
        return [float(logprobs[len(ids) - 1 + at, token]) for at, token in enumerate(own)]

    def regrets(self, backend: RemoteBackend, context: Context, candidate: Candidate) -> Regrets:
        """By how much the most probable token is more so than each of a candidate's."""
        ids, own = self._branch_ids(backend, context, candidate)
        with torch.inference_mode():
            logits = tiny_models.reference(ARCHITECTURE)(torch.tensor([[*ids, *own]])).logits[0]
        logprobs = torch.log_softmax(logits.float(), -1)[len(ids) - 1 : -1]
        chosen = logprobs.gather(1, torch.tensor(own)[:, None])[:, 0]
        regrets: list[float] = (logprobs.amax(-1) - chosen).tolist()
        return [*zip(backend._encoder.tokenizer.offsets(candidate, context), regrets, strict=True)]

    def _context_ids(self, backend: RemoteBackend, context: Context) -> list[int]:
        if self.kind == "tgi":
            return _TOKENIZER(_text_of(context)).input_ids
        return [*backend._encoder.tokenizer.context_ids(context)]

    def _branch_ids(
        self, backend: RemoteBackend, context: Context, candidate: Candidate
    ) -> tuple[list[int], list[int]]:
        """The context's ids, and those that are scored for the candidate."""
        ids = self._context_ids(backend, context)
        if self.kind == "tgi":  # it is sent text, and tokenizes all of it anew
            end = str(_TOKENIZER.eos_token) if candidate.finished else ""
            whole = _TOKENIZER(_text_of(context) + candidate.text + end).input_ids
            pairs = zip(ids, whole, strict=False)
            same = len([*takewhile(lambda pair: pair[0] == pair[1], pairs)])
            return whole[:same], whole[same:]
        tokenizer = backend._encoder.tokenizer
        own = [*tokenizer.segment_ids(candidate.text, context)]
        return ids, own + ([tokenizer.end_ids[0]] if candidate.finished else [])

    @asynccontextmanager
    async def opened(
        self,
        url: str | None = None,
        observer: RecordingObserver | None = None,
        on_ready: Callable[[bool], None] = lambda _ready: None,
        **settings: Any,
    ) -> AsyncIterator[RemoteBackend]:
        """A backend on it."""
        host = BackendHost("member", observer or RecordingObserver(), on_ready=on_ready)
        backend = await open_backend(self.kind, self.section(url, **settings), host)
        assert isinstance(backend, RemoteBackend)
        try:
            yield backend
        finally:
            await backend.close()
