"""SGLang's server: its requests and answers.

It takes token ids. A context and its candidate are one input, all candidates of a call are the
inputs of one request, and log-probabilities are wanted from the context's last token on. Up to
there the server takes the inputs from its cache.
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
from model_service.backends.sglang.logprobs import (
    input_best,
    input_logprobs,
    output_best,
    output_logprobs,
)
from model_service.backends.text.encoders import TokenIds
from model_service.core.types import Sampling
from specfuse.deadline import Deadline
from specfuse.errors import ModelFailure, Unavailable

_PLAIN: Final[dict[str, object]] = {
    "n": 1,
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "min_new_tokens": 0,
    "ignore_eos": False,
    "stop": [],
    "stop_token_ids": [],
}
"""All is said, as the server's `--preferred-sampling-params` say whatever a request does not."""

_ENDED: Final = "stop"
_WHOLE: Final = frozenset({_ENDED, "length"})
"""Why a request ends that was not broken off: by the model, or at its limit."""


class SglangServer:
    """One SGLang server."""

    def __init__(self, client: ServerClient) -> None:
        self._client = client

    async def identify(self, deadline: Deadline) -> Identity:
        """The model's files, its weights' version, its window, and the server's version.

        The scheduler answers for it. (`/health` takes a second at least, and longer than we wait
        while a long prompt is computed.)
        """
        model = await self._told("model_info", "/model_info", deadline)
        server = await self._told("server_info", "/server_info", deadline)
        number = answers.text(server.get("version"), "version")
        weights = model.get("weight_version")
        return Identity(
            model=answers.text(model.get("model_path"), "model_path"),
            window=_window(server),
            version=f"SGLang {number}, weights {answers.text(weights, 'weight_version')}",
        )

    async def spells(self, text: str, ids: TokenIds, deadline: Deadline) -> bool:
        """Whether its vocabulary has this text for these ids."""
        body = {"tokens": ids, "skip_special_tokens": False}
        answer = await self._client.json(Request("detokenize", "/detokenize", body), deadline)
        spelt = answers.mapping(answer, "the answer").get("text")
        return answers.text(spelt, "text").strip() == text.strip()

    async def generate(
        self, context: TokenizedContext, tokens: int, sampling: Sampling, deadline: Deadline
    ) -> Generated:
        """Continues the context. A seed counts with `--enable-deterministic-inference` only."""
        drawing = {
            "max_new_tokens": tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k or -1,
            "sampling_seed": seed_of(sampling, context),
        }
        body = {"input_ids": [context.ids], "sampling_params": {**_PLAIN, **drawing}}
        (answer,) = await self._answers("generate", body, 1, deadline)
        ids = answers.ids(answer.get("output_ids"), "output_ids")
        _check_counted(answer, "prompt_tokens", len(context.ids))
        _check_counted(answer, "completion_tokens", len(ids))
        ended = _finish(answer) == _ENDED
        logprobs = output_logprobs(_meta(answer), ids)
        best = None if logprobs is None else output_best(_meta(answer), len(ids))
        return Generated(ids, logprobs, _cached(answer), ended, best)

    async def judge(
        self, context: TokenizedContext, branches: Sequence[Branch], deadline: Deadline
    ) -> Judged:
        """Has the inputs scored that the branches make of the context."""
        last = len(context.ids) - 1
        body = {
            "input_ids": [context.ids + branch.ids for branch in branches],
            "sampling_params": {**_PLAIN, "max_new_tokens": 0},
            "logprob_start_len": last,
        }
        judged = await self._answers("judge", body, len(branches), deadline)
        return Judged(
            logprobs=tuple(
                input_logprobs(_meta(answer), (context.ids[last], *branch.ids))
                for answer, branch in zip(judged, branches, strict=True)
            ),
            cached_tokens=min(map(_cached, judged)),
            best=tuple(
                input_best(_meta(answer), len(branch.ids))
                for answer, branch in zip(judged, branches, strict=True)
            ),
        )

    async def load(self, deadline: Deadline) -> Load | None:
        """How many inputs it works on. Says so only with `--enable-metrics`."""
        running, waiting = "sglang:num_running_reqs", "sglang:num_queue_reqs"
        return await load_of(self._client, running, waiting, deadline)

    async def _answers(
        self, operation: str, body: Mapping[str, object], inputs: int, deadline: Deadline
    ) -> list[dict[str, Any]]:
        """What comes of each input, in order.

        Raises:
            ModelFailure: they are not as many as the inputs, or the model had no numbers for one.
            Unavailable: one was broken off.
        """
        whole = {**body, "stream": False, "return_logprob": True, "top_logprobs_num": 1}
        found = await self._client.json(Request(operation, "/generate", whole), deadline)
        if len(answers.sequence(found, "the answer")) != inputs:
            raise answers.wrong("the number of answers", f"{inputs}", len(found))
        told = [answers.mapping(one, f"[{at}]") for at, one in enumerate(found)]
        if not all(_finish(answer) in _WHOLE for answer in told):
            raise Unavailable("the server broke off a request")
        return told

    async def _told(self, operation: str, path: str, deadline: Deadline) -> dict[str, Any]:
        return answers.mapping(await self._client.json(Request(operation, path), deadline), path)


def _window(server: Mapping[str, Any]) -> int:
    """The server takes inputs that are shorter than what it says."""
    place = "max_req_input_len"
    return max(0, answers.count(server.get(place), place) - 1)


def _meta(answer: Mapping[str, Any]) -> dict[str, Any]:
    return answers.mapping(answer.get("meta_info"), "meta_info")


def _finish(answer: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Why a request ended. It is asked to stop at no string; NaN looks as if it had been."""
    finish = answers.mapping(_meta(answer).get("finish_reason"), "meta_info.finish_reason")
    if isinstance(finish.get("matched"), str):
        raise ModelFailure("the server's model gave something that is not a probability")
    return finish.get("type")


def _check_counted(answer: Mapping[str, Any], key: str, tokens: int) -> None:
    """The server counts tokens besides listing them: two that differ are not to be believed."""
    counted = answers.count(_meta(answer).get(key), f"meta_info.{key}")
    if counted != tokens:
        raise answers.wrong(f"meta_info.{key}", f"{tokens}", counted)


def _cached(answer: Mapping[str, Any]) -> int:
    return answers.count(_meta(answer).get("cached_tokens"), "meta_info.cached_tokens")
