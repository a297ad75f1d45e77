"""vLLM's OpenAI-compatible server: its requests and answers.

It takes token ids. A context and its candidate are one prompt, all candidates of a call are the
prompts of one request, and each prompt's log-probabilities come with the token that completes it.
For those the server computes the whole prompt, as its cache has no log-probabilities; a proposal's
context it takes from the cache.

(Its `/inference/v1/generate` may score from the cache, by replaying tokens. That is not used: it
needs a GPU, so it was not tried, and what of it runs on a CPU ended the engine.)
"""

from __future__ import annotations

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
from model_service.backends.vllm.models import chosen
from model_service.backends.vllm.scoring import best_logprobs, branch_logprobs, portions
from model_service.core.types import Sampling
from specfuse.deadline import Deadline
from specfuse.errors import Unavailable

_PLAIN: Final[dict[str, object]] = {
    "stream": False,
    "n": 1,
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "min_tokens": 0,
    "ignore_eos": False,
    "stop": [],
    "stop_token_ids": [],
}
"""All is said, as the model's `generation_config.json` says whatever a request does not."""

_ENDED: Final = "stop"
_WHOLE: Final = frozenset({_ENDED, "length"})
"""Why a completion ends that was not broken off: by the model, or at its limit."""


class VllmServer:
    """One vLLM server."""

    def __init__(self, client: ServerClient, served_model: str | None) -> None:
        """`served_model` is the one to ask of its models; None if it has only one."""
        self._client = client
        self._model = served_model

    async def identify(self, deadline: Deadline) -> Identity:
        """The model's name and files, its window, and the server's version.

        The window is one token less than the model's: no prompt is scored without completing it.
        """
        await self._client.read(Request("health", "/health"), deadline)
        models = await self._client.json(Request("models", "/v1/models"), deadline)
        version = await self._client.json(Request("version", "/version"), deadline)
        model = chosen(models, self._model)
        self._model = model.name
        number = answers.text(answers.mapping(version, "/version").get("version"), "version")
        return Identity(model=f"{model}", window=model.window - 1, version=f"vLLM {number}")

    async def spells(self, text: str, ids: TokenIds, deadline: Deadline) -> bool:
        """Whether its vocabulary has this text for these ids."""
        body = {"model": self._model, "tokens": ids}
        answer = await self._client.json(Request("detokenize", "/detokenize", body), deadline)
        prompt = answers.mapping(answer, "the answer").get("prompt")
        return answers.text(prompt, "prompt").strip() == text.strip()

    async def generate(
        self, context: TokenizedContext, tokens: int, sampling: Sampling, deadline: Deadline
    ) -> Generated:
        """Continues the context."""
        drawing = {
            "prompt": [context.ids],
            "max_tokens": tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "seed": seed_of(sampling, context),
            "logprobs": 1,
            "return_token_ids": True,
        }
        answer = await self._completion("generate", drawing, deadline)
        (choice,) = _choices(answer, 1)
        ids = answers.ids(choice.get("token_ids"), "token_ids")
        ended = choice["finish_reason"] == _ENDED
        logprobs = _logprobs(choice, len(ids))
        best = None if logprobs is None else _best(choice, logprobs)
        return Generated(ids, logprobs, _cached(answer), ended, best)

    async def judge(
        self, context: TokenizedContext, branches: Sequence[Branch], deadline: Deadline
    ) -> Judged:
        """Has the prompts scored that the branches make of the context. None of it is cached."""
        prompts = [context.ids + branch.ids for branch in branches]
        start = len(context.ids)
        told = [
            (choice, prompt)
            for portion in portions(prompts)
            for choice, prompt in await self._scored(portion, deadline)
        ]
        return Judged(
            logprobs=tuple(branch_logprobs(choice, prompt, start) for choice, prompt in told),
            best=tuple(best_logprobs(choice, prompt, start) for choice, prompt in told),
        )

    async def load(self, deadline: Deadline) -> Load | None:
        """How many prompts it works on. Does not say with `--disable-log-stats`."""
        running, waiting = "vllm:num_requests_running", "vllm:num_requests_waiting"
        return await load_of(self._client, running, waiting, deadline)

    async def _scored(
        self, prompts: Sequence[TokenIds], deadline: Deadline
    ) -> list[tuple[dict[str, Any], TokenIds]]:
        """What is told of each prompt."""
        body = {"prompt": prompts, "max_tokens": 1, "prompt_logprobs": 1}
        answer = await self._completion("judge", body, deadline)
        return [*zip(_choices(answer, len(prompts)), prompts, strict=True)]

    async def _completion(
        self, operation: str, body: Mapping[str, object], deadline: Deadline
    ) -> dict[str, Any]:
        whole = {**_PLAIN, **body, "model": self._model}
        answer = await self._client.json(Request(operation, "/v1/completions", whole), deadline)
        return answers.mapping(answer, "the answer")


def _choices(answer: Mapping[str, Any], prompts: int) -> list[dict[str, Any]]:
    """The completion of each prompt, in the prompts' order.

    Raises:
        ModelFailure: they are not as many as the prompts.
        Unavailable: one was broken off.
    """
    found = answers.sequence(answer.get("choices"), "choices")
    choices = [answers.mapping(one, f"choices[{at}]") for at, one in enumerate(found)]
    choices.sort(key=lambda choice: answers.count(choice.get("index"), "index"))
    if [choice["index"] for choice in choices] != list(range(prompts)):
        raise answers.wrong("the number of choices", f"{prompts}", len(choices))
    if not all(choice.get("finish_reason") in _WHOLE for choice in choices):
        raise Unavailable("the server broke off a completion")
    return choices


def _logprobs(choice: Mapping[str, Any], tokens: int) -> tuple[float, ...] | None:
    if choice.get("logprobs") is None:
        return None
    place = "logprobs.token_logprobs"
    told = answers.sequence(
        answers.mapping(choice["logprobs"], "logprobs").get("token_logprobs"), place
    )
    if len(told) != tokens:
        raise answers.wrong(f"the length of {place}", f"{tokens}", len(told))
    return tuple(answers.logprob(one, f"{place}[{at}]") for at, one in enumerate(told))


def _best(choice: Mapping[str, Any], logprobs: Sequence[float]) -> tuple[float, ...]:
    """The log-probabilities of the most probable tokens, where these were generated.

    They come by the tokens' texts. Two tokens of one text are one entry, the more probable one's.
    """
    place = "logprobs.top_logprobs"
    told = answers.sequence(
        answers.mapping(choice["logprobs"], "logprobs").get("top_logprobs"), place
    )
    if len(told) != len(logprobs):
        raise answers.wrong(f"the length of {place}", f"{len(logprobs)}", len(told))
    return tuple(
        max(own, *(answers.logprob(one, place) for one in answers.mapping(top, place).values()))
        for own, top in zip(logprobs, told, strict=True)
    )


def _cached(answer: Mapping[str, Any]) -> int:
    """Tokens of the context that were cached. Not told without `--enable-prompt-tokens-details`."""
    usage = answers.mapping(answer.get("usage"), "usage")
    details = answers.mapping(usage.get("prompt_tokens_details") or {}, "prompt_tokens_details")
    return answers.count(details.get("cached_tokens") or 0, "cached_tokens")
