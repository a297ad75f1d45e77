"""text-generation-inference: its requests and answers.

It takes text and no token ids (`texts`), and tells the probabilities of what it is sent to whom
asks for that (`prefill`): a candidate is sent with its context, and one token is generated and
ignored. Such requests use no cache of the server, neither reading nor filling it, so every
candidate costs its whole context. What it tells of generated tokens is of the distribution that
they were drawn from, after temperature and filters: only greedy ones come with the model's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

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
from model_service.backends.tgi.generation import drawing, generated, raw_logprobs
from model_service.backends.tgi.places import Places, together
from model_service.backends.tgi.prefill import check_agreement, prefilled
from model_service.backends.tgi.texts import Continued, Sent, Texts
from model_service.core.types import Sampling
from specfuse.deadline import Deadline

_PLAIN: Final = {"details": True, "return_full_text": False}
_SCORING: Final = {"decoder_input_details": True, "do_sample": False, "max_new_tokens": 1}


class TgiServer:
    """One text-generation-inference server."""

    def __init__(self, client: ServerClient, tokenizer: SegmentTokenizer) -> None:
        """Asks nothing yet.

        Raises:
            Misconfigured: the tokenizer is of a kind that the server cannot be sent text for.
        """
        self._client = client
        self._tokenizer = tokenizer
        self._texts = Texts(tokenizer)
        self._places = Places(1)

    async def identify(self, deadline: Deadline) -> Identity:
        """The model's name, its commit, and the router's version.

        The window leaves room for the token that scoring generates.
        """
        await self._client.read(Request("health", "/health"), deadline)
        info = answers.mapping(await self._client.json(Request("info", "/info"), deadline), "/info")
        places = answers.count(info.get("max_concurrent_requests"), "max_concurrent_requests")
        if places and places != self._places.count:
            self._places = Places(places)
        longest_input = answers.count(info.get("max_input_tokens"), "max_input_tokens")
        longest = answers.count(info.get("max_total_tokens"), "max_total_tokens")
        router = f"text-generation-inference {answers.text(info.get('version'), 'version')}"
        commit = info.get("model_sha")
        return Identity(
            model=answers.text(info.get("model_id"), "model_id"),
            window=max(0, min(longest_input, longest - 1)),
            version=f"{commit}, {router}" if commit else router,
        )

    async def spells(self, text: str, ids: TokenIds, deadline: Deadline) -> bool:
        """Whether it makes these ids of this text, after those that begin every text."""
        answer = await self._client.json(
            Request("tokenize", "/tokenize", {"inputs": text}), deadline
        )
        tokens = [answers.mapping(one, "a token") for one in answers.sequence(answer, "the answer")]
        found = answers.ids([token.get("id") for token in tokens], "id")
        return found == self._tokenizer.sent_ids(text) and found[-len(ids) :] == ids

    async def generate(
        self, context: TokenizedContext, tokens: int, sampling: Sampling, deadline: Deadline
    ) -> Generated:
        """Continues the context."""
        sent = await asyncio.to_thread(self._texts.context, context)
        parameters = drawing(sampling, seed_of(sampling, context))
        details = await self._details(
            "generate", sent, {"max_new_tokens": tokens, **parameters}, deadline
        )
        ids, told = generated(details, self._tokenizer.end_ids)
        logprobs = raw_logprobs(told) if sampling.greedy else None
        return Generated(
            ids, logprobs, scored_as=lambda candidate: self._texts.appended(sent, candidate).new
        )

    async def judge(
        self, context: TokenizedContext, branches: Sequence[Branch], deadline: Deadline
    ) -> Judged:
        """Sends every candidate with its context, all at the same time."""
        wholes = await asyncio.to_thread(self._continued, context, branches)
        told = await together([self._prefilled(whole, deadline) for whole in wholes])
        check_agreement(told, min(whole.shared for whole in wholes))
        return Judged(
            tuple(numbers[whole.shared - 1 :] for numbers, whole in zip(told, wholes, strict=True))
        )

    async def load(self, deadline: Deadline) -> Load | None:
        """The size of its batch, and of its queue."""
        running, waiting = "tgi_batch_current_size", "tgi_queue_size"
        return await load_of(self._client, running, waiting, deadline)

    def _continued(self, context: TokenizedContext, branches: Sequence[Branch]) -> list[Continued]:
        before = self._texts.context(context)
        return [
            self._texts.continued(before, branch.candidate, f"candidates[{index}].text")
            for index, branch in enumerate(branches)
        ]

    async def _prefilled(self, whole: Continued, deadline: Deadline) -> tuple[float, ...]:
        details = await self._details("judge", whole.sent, _SCORING, deadline)
        return await asyncio.to_thread(prefilled, details, whole)

    async def _details(
        self, operation: str, sent: Sent, parameters: Mapping[str, object], deadline: Deadline
    ) -> dict[str, Any]:
        body = {"inputs": sent.text, "parameters": {**_PLAIN, **parameters}}
        async with self._places.one(deadline):
            answer = await self._client.json(Request(operation, "/generate", body), deadline)
        return answers.mapping(answers.mapping(answer, "the answer").get("details"), "details")
