"""A made-up text-generation-inference: its router's messages and rules, and a tiny model's numbers.

What it does like the real one, also where that is a trap:

- every text is begun by the tokenizer's own tokens, and parsed for special tokens, whoever wrote it
- what it tells of generated tokens is after temperature and filters, of sent ones before
- an end token that is the last one allowed makes it say `length`
- without `--enable-prefill-logprobs` it tells nothing of what it is sent, and gives no error
- with `pads`, as on a CPU, what is not the longest of its batch has its numbers shifted by one
- it ends work on requests whose caller has gone, and refuses more at a time than it is set to take
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from pydantic import ValidationError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tests.support import tiny_models
from tests.support.fakes.server import Answer, Asked, FakeServer
from tests.support.fakes.tgi_wire import (
    Details,
    ErrorResponse,
    FinishReason,
    GenerateRequest,
    GenerateResponse,
    Info,
    Parameters,
    PrefillToken,
    SimpleToken,
    Token,
)

_TURNS: Final = 50
"""Turns of the event loop in which requests that were sent together arrive for one batch."""

_METRICS: Final = """\
# TYPE tgi_queue_size gauge
tgi_queue_size {waiting}
# TYPE tgi_batch_current_size gauge
tgi_batch_current_size {running}
# TYPE tgi_request_count counter
tgi_request_count 1
"""


class Refused(Exception):
    """A refusal in the router's own form."""

    def __init__(self, status: int, error: str, error_type: str, **headers: str) -> None:
        content = ErrorResponse(error=error, error_type=error_type).model_dump()
        self.answer = Answer(content, status, headers)


@dataclass(eq=False)
class _Job:
    """A request in the queue."""

    ids: list[int]
    parameters: Parameters
    details: asyncio.Future[Details]


class FakeTgi(FakeServer):
    """One server. All that is public may be changed while it runs. Its own troubles are

    nonsense      an answer's parts are of other types
    nan           every number is missing
    fewer         one number is missing
    other_tokens  it takes a text for other tokens than it should
    loading       it is not ready, which is its health's trouble, too
    generation    the model failed
    incomplete    the model broke off
    malformed     it finds the request no such JSON
    """

    work: ClassVar[frozenset[str]] = frozenset({"/generate"})
    troubles: ClassVar[frozenset[str]] = FakeServer.troubles | {
        *("nonsense", "nan", "fewer", "other_tokens"),
        *("loading", "generation", "incomplete", "malformed"),
    }

    def __init__(
        self,
        architecture: str = "llama",
        window: int = tiny_models.WINDOW,
        directory: Path | None = None,
        port: int = 0,
    ) -> None:
        """Runs a tiny model, or the one in a directory. Port 0 takes a free one."""
        super().__init__(port)
        self._model_id = f"tiny/{architecture}" if directory is None else str(directory)
        self._tokenizer, self._model = (
            (tiny_models.tokenizer(architecture), tiny_models.reference(architecture))
            if directory is None
            else _loaded(directory)
        )
        self._queue: list[_Job] = []
        self._running: list[_Job] = []
        self._filled = asyncio.Event()
        self._batches: asyncio.Task[None] | None = None
        self._end = self._tokenizer.eos_token_id
        self.refused_health = asyncio.Event()
        """Set once it has said that it is not ready."""
        self.prefill_logprobs = True
        self.pads = False
        self.max_batch_size: int | None = None
        self.model_sha: str | None = "0123abcd"
        self.max_concurrent_requests = 128
        self.max_input_tokens = window - 1
        self.max_total_tokens = window
        self.generations: list[GenerateRequest] = []
        """All requests to /generate, in order."""

    async def start(self) -> None:
        """Listens, and runs what comes in batches."""
        await super().start()
        self._batches = asyncio.create_task(self._batching())

    async def stop(self) -> None:
        """Goes away, and leaves what it was at."""
        await super().stop()
        if self._batches is not None:
            self._batches.cancel()
            with suppress(asyncio.CancelledError):
                await self._batches

    def ids(self, text: str) -> list[int]:
        """What it makes of a text."""
        ids: list[int] = self._tokenizer(text)["input_ids"]
        return ids

    async def answer(self, asked: Asked) -> Answer:
        """What the router answers."""
        routes: dict[tuple[str, str], Callable[[Any], Awaitable[Answer]]] = {
            ("GET", "/health"): self._health,
            ("GET", "/info"): self._info,
            ("GET", "/metrics"): self._metrics,
            ("POST", "/tokenize"): self._tokenized,
            ("POST", "/generate"): self._generated,
        }
        if not self.knows(asked):
            return Answer(b"", HTTPStatus.UNAUTHORIZED)
        route = routes.get((asked.method, asked.path))
        if route is None:
            return Answer(b"", HTTPStatus.NOT_FOUND)
        try:
            return await route(asked.body)
        except Refused as refused:
            return refused.answer

    def overloaded(self) -> Answer:
        """What the router answers when it is full."""
        headers = {"retry-after": "7"}
        return Refused(
            HTTPStatus.TOO_MANY_REQUESTS, "Model is overloaded", "overloaded", **headers
        ).answer

    async def _health(self, _body: object) -> Answer:
        if self.trouble == "loading":
            self.refused_health.set()
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "unhealthy", "healthcheck")
        return Answer(b"")

    async def _info(self, _body: object) -> Answer:
        info = Info(
            model_id=self._model_id,
            model_sha=self.model_sha,
            max_concurrent_requests=self.max_concurrent_requests,
            max_input_tokens=self.max_input_tokens,
            max_total_tokens=self.max_total_tokens,
        )
        return Answer(info.model_dump())

    async def _metrics(self, _body: object) -> Answer:
        numbers = {"waiting": len(self._queue), "running": len(self._running)}
        return _text(_METRICS.format(**numbers))

    async def _tokenized(self, body: object) -> Answer:
        encoding = self._tokenizer(_request(body).inputs, return_offsets_mapping=True)
        pairs = zip(encoding["input_ids"], encoding["offset_mapping"], strict=True)
        return Answer(
            [
                SimpleToken(id=token, text=self._text(token), start=start, stop=stop).model_dump()
                for token, (start, stop) in pairs
            ]
        )

    async def _generated(self, body: object) -> Answer:
        request = _request(body)
        self.generations.append(request)
        if self.trouble in _TROUBLES:
            return _TROUBLES[self.trouble]()
        unanswered = [job for job in self._queue + self._running if not job.details.done()]
        if len(unanswered) >= self.max_concurrent_requests:
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, "Model is overloaded", "overloaded")
        details = await self._scheduled(request)
        words = [token.id for token in details.tokens if not token.special]
        text = self._tokenizer.decode(words)
        answer = GenerateResponse(
            generated_text=request.inputs + text if request.parameters.return_full_text else text,
            details=details if request.parameters.details else None,
        )
        return Answer(self._troubled(answer.model_dump(mode="json")))

    async def _scheduled(self, request: GenerateRequest) -> Details:
        ids = self._validated(request)
        if self.trouble == "other_tokens":
            ids = [*ids[:-1], (ids[-1] + 1) % len(self._tokenizer)]
        job = _Job(ids, request.parameters, asyncio.get_running_loop().create_future())
        self._queue.append(job)
        self._filled.set()
        return await job.details

    def _validated(self, request: GenerateRequest) -> list[int]:
        """The ids of a request that asks for nothing wrong."""
        parameters = request.parameters
        _check_parameters(parameters)
        if not request.inputs:
            raise _invalid("`inputs` cannot be empty")
        ids = self.ids(request.inputs)
        more = parameters.max_new_tokens or 0
        if len(ids) + more > self.max_total_tokens:
            raise _invalid(
                f"`inputs` tokens + `max_new_tokens` must be <= {self.max_total_tokens}. "
                f"Given: {len(ids)} `inputs` tokens and {more} `max_new_tokens`"
            )
        if len(ids) > self.max_input_tokens:
            raise _invalid(
                f"`inputs` must have less than {self.max_input_tokens} tokens. Given: {len(ids)}"
            )
        return ids

    def _troubled(self, answer: dict[str, Any]) -> dict[str, Any]:
        details = answer["details"]
        told = details["prefill"] + details["tokens"]
        if self.trouble == "nan":
            for token in told:
                token["logprob"] = None
        if self.trouble == "fewer":
            del details["prefill"][-1:]
            del details["tokens"][-1]["logprob"]
        return answer

    async def _batching(self) -> None:
        """Runs what is in the queue, in batches."""
        while True:
            await self._filled.wait()
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            waiting = [job for job in self._queue if not job.details.cancelled()]
            self._running = waiting[: self.max_batch_size]
            self._queue = waiting[len(self._running) :]
            if not self._queue:
                self._filled.clear()
            await self._run_batch()
            self._running = []

    async def _run_batch(self) -> None:
        longest = max((len(job.ids) for job in self._running), default=0)
        for job in self._running:
            shifted = self.pads and len(job.ids) < longest
            details = await self._run(job, shifted=shifted)
            if not job.details.cancelled():
                job.details.set_result(details)

    async def _run(self, job: _Job, *, shifted: bool) -> Details:
        tokens: list[Token] = []
        generator = torch.Generator().manual_seed(job.parameters.seed or 0)
        while not job.details.cancelled():
            ids = job.ids + [token.id for token in tokens]
            logits = await asyncio.to_thread(self._logits, ids)
            tokens.append(self._drawn(logits[-1], job.parameters, generator))
            finish = self._finish(tokens, job.parameters)
            if finish is not None:
                break
        else:
            finish = "length"
        return Details(
            finish_reason=finish,
            generated_tokens=len(tokens),
            seed=job.parameters.seed,
            prefill=self._prefill(job, shifted=shifted),
            tokens=tokens,
        )

    def _finish(self, tokens: list[Token], parameters: Parameters) -> FinishReason | None:
        if len(tokens) == parameters.max_new_tokens:  # before the end token is looked for
            return "length"
        return "eos_token" if tokens[-1].id == self._end else None

    def _prefill(self, job: _Job, *, shifted: bool) -> list[PrefillToken]:
        if not job.parameters.decoder_input_details or not self.prefill_logprobs:
            return []
        logprobs = torch.log_softmax(self._logits(job.ids), -1)
        own = [float(logprobs[at, token]) for at, token in enumerate(job.ids[1:])]
        padding = [float(logprobs[0, job.ids[0]])] if shifted else []
        # The router pairs from the left, and drops what is left over.
        return [
            PrefillToken(id=token, text=self._text(token), logprob=logprob)
            for token, logprob in zip(job.ids, [None, *padding, *own], strict=False)
        ]

    def _logits(self, ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = self._model(torch.tensor([ids])).logits[0].float()
        return logits

    def _drawn(
        self, logits: torch.Tensor, parameters: Parameters, generator: torch.Generator
    ) -> Token:
        logprobs = torch.log_softmax(_warped(logits, parameters), -1)
        if parameters.do_sample:
            token = int(torch.multinomial(logprobs.exp(), 1, generator=generator))
        else:
            token = int(logprobs.argmax())
        special = token in self._tokenizer.all_special_ids
        return Token(
            id=token, text=self._text(token), logprob=float(logprobs[token]), special=special
        )

    def _text(self, token: int) -> str:
        return str(self._tokenizer.decode([token]))


def _text(content: str, status: int = HTTPStatus.OK) -> Answer:
    return Answer(content.encode(), status, {"content-type": "text/plain; charset=utf-8"})


def _nonsense() -> Answer:
    return Answer({"generated_text": "a", "details": {"prefill": "a", "tokens": [3, None]}})


def _loading() -> Answer:
    raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "unhealthy", "healthcheck")


def _failing() -> Answer:
    error = "Request failed during generation: Server error: CUDA out of memory"
    raise Refused(HTTPStatus.FAILED_DEPENDENCY, error, "generation")


def _incomplete() -> Answer:
    error, kind = "Incomplete generation", "incomplete_generation"
    raise Refused(HTTPStatus.INTERNAL_SERVER_ERROR, error, kind)


def _malformed() -> Answer:
    text = "Failed to deserialize the JSON body into the target type: missing field `inputs`"
    return _text(text, HTTPStatus.UNPROCESSABLE_ENTITY)


_TROUBLES: Final[dict[str | None, Callable[[], Answer]]] = {
    "nonsense": _nonsense,
    "loading": _loading,
    "generation": _failing,
    "incomplete": _incomplete,
    "malformed": _malformed,
}


def _request(body: object) -> GenerateRequest:
    try:
        return GenerateRequest.model_validate(body)
    except ValidationError as error:  # the framework's answer, not the router's
        refused = Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "", "")
        refused.answer = _text(str(error), HTTPStatus.UNPROCESSABLE_ENTITY)
        raise refused from error


def _check_parameters(parameters: Parameters) -> None:
    single = torch.tensor([parameters.temperature or 0, parameters.top_p or 0], dtype=torch.float32)
    temperature, top_p = single.tolist()
    if parameters.temperature is not None and not temperature > 0:
        raise _invalid("`temperature` must be strictly positive")
    if parameters.top_p is not None and not 0 < top_p < 1:
        raise _invalid("`top_p` must be > 0.0 and < 1.0")
    if parameters.top_k is not None and parameters.top_k <= 0:
        raise _invalid("`top_k` must be strictly positive")
    if parameters.max_new_tokens == 0:
        raise _invalid("`max_new_tokens` must be strictly positive")


def _warped(logits: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    logits = logits / (parameters.temperature or 1.0)
    if parameters.top_k is not None:
        least = logits.topk(min(parameters.top_k, len(logits))).values[-1]
        logits = logits.masked_fill(logits < least, -math.inf)
    if parameters.top_p is not None:
        ordered, order = logits.sort()
        low = ordered.softmax(-1).cumsum(-1) <= 1 - parameters.top_p
        low[-1] = False
        logits = logits.masked_fill(torch.zeros_like(low).scatter(0, order, low), -math.inf)
    return logits


def _invalid(problem: str) -> Refused:
    error = f"Input validation error: {problem}"
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, error, "validation")


def _loaded(directory: Path) -> tuple[PreTrainedTokenizerFast, PreTrainedModel]:
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    return AutoTokenizer.from_pretrained(directory), model
