"""llama-server: its requests and answers.

It takes token ids. It scores nothing that it is handed (llama.cpp's issue 27174), but tells the
probability of what it generates, as the model gave it, before any sampler; so candidates are forced
upon it (`forcing`). Each is generated token by token, one after another, on the session's own slot,
where the context is computed once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count
from typing import Any, Final

from model_service.backends.llama_cpp.forcing import is_whole
from model_service.backends.llama_cpp.judge import Judge, best, cached, told
from model_service.backends.llama_cpp.slots import Slots
from model_service.backends.remote import answers
from model_service.backends.remote.client import Request, ServerClient
from model_service.backends.remote.loads import load_of
from model_service.backends.remote.seeds import seed_of
from model_service.backends.remote.server import (
    Branch,
    Generated,
    Identity,
    Judged,
    Load,
    TokenizedContext,
)
from model_service.backends.text.encoders import TokenIds
from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.core.types import Sampling
from specfuse.deadline import Deadline
from specfuse.errors import Misconfigured

_PLAIN: Final[dict[str, object]] = {
    "cache_prompt": True,
    "n_cache_reuse": 0,
    "return_tokens": True,
    "n_probs": 1,
    "post_sampling_probs": False,
    "temperature": 0.0,
    "samplers": ["temperature", "top_k", "top_p"],
    "dynatemp_range": 0.0,
    "mirostat": 0,
    "min_keep": 0,
    "ignore_eos": False,
    "logit_bias": [],
    "stop": [],
    "response_fields": [
        "tokens",
        "stop_type",
        "timings/cache_n",
        "completion_probabilities",
        "generation_settings/speculative.types",
        "model",
    ],
}
"""Overrules what the server's command line says of sampling, and of a cache that is moved about,
which gives other numbers. The prompt is not echoed."""


class LlamaServer:
    """One llama-server."""

    def __init__(self, client: ServerClient, tokenizer: SegmentTokenizer) -> None:
        self._client = client
        self._tokenizer = tokenizer
        self._slots = Slots(1)
        self._decoy = next(filter(self._is_literal, count()))
        self._name: str | None = None
        """What the server first called its model, and puts on every answer."""

    async def identify(self, deadline: Deadline) -> Identity:
        """The model's file, its size, and the server's build."""
        await self._client.json(Request("health", "/health"), deadline)
        answer = await self._client.json(Request("props", "/props"), deadline)
        props = answers.mapping(answer, "/props")
        settings = answers.mapping(
            props.get("default_generation_settings"), "default_generation_settings"
        )
        slots = max(1, answers.count(props.get("total_slots"), "total_slots"))
        if len(self._slots) != slots:
            self._slots = Slots(slots)
        if self._name is None:
            self._name = props.get("model_alias")
        return Identity(
            model=answers.text(props.get("model_path"), "model_path"),
            window=answers.count(settings.get("n_ctx"), "n_ctx"),
            version=f"{props.get('model_ftype', '')} {props.get('build_info', '')}".strip(),
        )

    async def spells(self, text: str, ids: TokenIds, deadline: Deadline) -> bool:
        """Whether its vocabulary has this text for these ids."""
        answer = await self._client.json(
            Request("detokenize", "/detokenize", {"tokens": ids}), deadline
        )
        content = answers.mapping(answer, "the answer").get("content")
        return answers.text(content, "content").strip() == text.strip()

    async def generate(
        self, context: TokenizedContext, tokens: int, sampling: Sampling, deadline: Deadline
    ) -> Generated:
        """Continues the context."""
        drawing = {
            "n_predict": tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": 0.0,
            "seed": seed_of(sampling, context),
        }
        async with self._slots.of(context.context.session_id) as slot:
            answer = await self._completion("generate", slot, deadline)(context.ids, drawing)
        ids = answers.ids(answer.get("tokens"), "tokens")
        logprobs = told(answer)
        # Nothing is told of tokens that are no whole characters.
        complete = tuple(token for token, _ in logprobs) == ids
        numbers = tuple(logprob for _, logprob in logprobs) if complete else None
        ended = answer.get("stop_type") == "eos"
        return Generated(ids, numbers, cached(answer), ended, tuple(best(answer)))

    async def judge(
        self, context: TokenizedContext, branches: Sequence[Branch], deadline: Deadline
    ) -> Judged:
        """Forces the branches upon the model, one after another."""
        async with self._slots.of(context.context.session_id) as slot:
            complete = self._completion("judge", slot, deadline)
            judge = Judge(complete, self._is_literal, self._decoy)
            judged = [await judge.judged(context.ids, branch.ids) for branch in branches]
        return Judged(
            logprobs=tuple(tuple(own for own, _ in numbers) for numbers in judged),
            cached_tokens=judge.cached or 0,
            best=tuple(tuple(most for _, most in numbers) for numbers in judged),
        )

    async def load(self, deadline: Deadline) -> Load | None:
        """How many of its slots are at work. Of its queue it tells only with `--metrics`."""
        running, waiting = "llamacpp:requests_processing", "llamacpp:requests_deferred"
        return await load_of(self._client, running, waiting, deadline)

    def _completion(
        self, operation: str, slot: int, deadline: Deadline
    ) -> Callable[[TokenIds, Mapping[str, object]], Awaitable[dict[str, Any]]]:
        """Completes prompts in one slot."""

        async def complete(prompt: TokenIds, body: Mapping[str, object]) -> dict[str, Any]:
            whole = {**_PLAIN, **body, "id_slot": slot, "prompt": prompt}
            found = await self._client.json(Request(operation, "/completion", whole), deadline)
            answer = answers.mapping(found, "the answer")
            self._check_name(answer)
            return answer

        return complete

    def _check_name(self, answer: Mapping[str, Any]) -> None:
        """Checks who answered: at one address there may be several servers."""
        if answer.get("model", self._name) != self._name:
            raise Misconfigured(
                "url: a server with another model answers there, too; give the address of one"
            )

    def _is_literal(self, token: int) -> bool:
        """Whether a grammar can name this token: it is whole characters, and not special."""
        return is_whole(self._tokenizer.spell(token)) and token not in self._tokenizer.end_ids
