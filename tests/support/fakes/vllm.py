"""vLLM's server as version 0.32.0 was seen to answer, over a tiny model.

`tests/servers/test_vllm_real.py` makes the same checks of the real one.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from tests.support.fakes.running_model import Drawing, Drawn, RunningModel
from tests.support.fakes.server import Answer, Asked, FakeServer

_VERSION: Final = "0.32.0"
_BLOCK: Final = 128
"""Contexts are cached in blocks of so many tokens."""

_DEFAULT_MAX_TOKENS: Final = 16
_LOWEST: Final = -9999.0
"""What it says for a generated token that had probability 0."""

_MOST_TEMPERATURE: Final = 2.0
_METRICS: Final = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="{name}"}} {running}.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{engine="0",model_name="{name}"}} 0.0
"""


class FakeVllm(FakeServer):
    """A vLLM server. Its troubles besides those of all are

    nan      a log-probability is NaN
    fewer    there is a log-probability less than there are tokens
    missing  there are none
    others   they are of other tokens
    aborted  a completion is broken off by the server
    dead     the engine has died
    """

    work = frozenset({"/v1/completions"})
    troubles = FakeServer.troubles | {"nan", "fewer", "missing", "others", "aborted", "dead"}
    open_paths: ClassVar[frozenset[str]] = frozenset(
        {"/health", "/version", "/metrics", "/tokenize", "/detokenize"}
    )
    """What it answers without a key."""

    def __init__(self, architecture: str = "llama_served", *, name: str = "tiny") -> None:
        super().__init__()
        self.model = RunningModel(architecture)
        self.name = name
        self.adapters: tuple[str, ...] = ()
        """Names of models that it has besides."""
        self.processed_logprobs = False
        """`--logprobs-mode processed_logprobs`."""
        self.prompt_tokens_details = True
        """`--enable-prompt-tokens-details`."""
        self.most_queued: int | None = None
        """`--max-num-queued-reqs`, of one request's prompts alone."""
        self.logs_stats = True
        """Without `--disable-log-stats`."""
        self.generation_config: dict[str, Any] = {}
        """What the model's own file says of sampling, for requests that do not."""

    def overloaded(self) -> Answer:
        message = "The engine is currently busy and cannot accept new requests."
        return _refused(503, message, "Service Unavailable")

    async def answer(self, asked: Asked) -> Answer:
        if asked.path not in self.open_paths and not self.knows(asked):
            return Answer({"error": "Unauthorized"}, 401)
        if (asked.method, asked.path) == ("POST", "/v1/completions"):
            return await self._completions(asked.body)
        told = {
            ("GET", "/health"): lambda _: Answer(b"", 503 if self.trouble == "dead" else 200),
            ("GET", "/version"): lambda _: Answer({"version": _VERSION}),
            ("GET", "/v1/models"): lambda _: Answer({"object": "list", "data": self._cards()}),
            ("GET", "/metrics"): lambda _: self._metrics(),
            ("POST", "/detokenize"): self._detokenized,
        }.get((asked.method, asked.path))
        return Answer({"detail": "Not Found"}, 404) if told is None else told(asked.body)

    def _detokenized(self, body: dict[str, Any]) -> Answer:
        return Answer({"prompt": self.model.tokenizer.decode(body["tokens"])})

    def _cards(self) -> list[dict[str, Any]]:
        base = {"id": self.name, "object": "model", "owned_by": "vllm", "parent": None}
        own = {"root": f"/models/{self.model.architecture}", "max_model_len": self.model.window}
        adapters = [
            {"id": name, "root": f"/adapters/{name}", "parent": self.name, "max_model_len": None}
            for name in self.adapters
        ]
        return [base | own, *(base | adapter for adapter in adapters)]

    def _metrics(self) -> Answer:
        text = _METRICS.format(name=self.name, running=self.working) if self.logs_stats else ""
        return Answer(text.encode())

    async def _completions(self, body: dict[str, Any]) -> Answer:
        if self.trouble == "dead":
            return _refused(500, "EngineCore encountered an issue.", "InternalServerError")
        refusal = self._refusal(body)
        if refusal is not None:
            return refusal
        prompts = body["prompt"]
        cached = 0 if "prompt_logprobs" in body else sum(map(self._cached, prompts))
        choices = [await self._choice(at, prompt, body) for at, prompt in enumerate(prompts)]
        details = {"cached_tokens": cached} if self.prompt_tokens_details else None
        usage = {"prompt_tokens": sum(map(len, prompts)), "prompt_tokens_details": details}
        return Answer({"object": "text_completion", "choices": choices[::-1], "usage": usage})

    def _refusal(self, body: dict[str, Any]) -> Answer | None:
        if body.get("model", self.name) not in (self.name, *self.adapters):
            message = f"The model `{body['model']}` does not exist."
            return _refused(404, message, "NotFoundError", "model")
        if self.most_queued is not None and len(body["prompt"]) > self.most_queued:
            return self.overloaded()
        return self._mistake(body)

    def _mistake(self, body: dict[str, Any]) -> Answer | None:
        prompts = body["prompt"]
        longest = max(map(len, prompts))
        if longest > self.model.window:
            message = (
                f"This model's maximum context length is {self.model.window} tokens. However, "
                f"your prompt contains {longest} input tokens, which exceeds this limit even "
                "without any output tokens."
            )
            return _refused(400, message, "BadRequestError", "input_tokens")
        if longest == self.model.window:
            message = "max_tokens must be at least 1, got 0."
            return _refused(400, message, "BadRequestError", "max_tokens")
        if not 0 <= body.get("temperature", 1.0) <= _MOST_TEMPERATURE:
            return _refused(400, "temperature must be in [0, 2]", "BadRequestError", "temperature")
        if max(map(max, prompts)) >= self.model.vocabulary:
            return _refused(400, "Token id is out of vocabulary", "BadRequestError")
        return None

    def _cached(self, prompt: list[int]) -> int:
        blocks = (len(prompt) - 1) // _BLOCK * _BLOCK
        return min(self.model.cached(prompt) // _BLOCK * _BLOCK, blocks)

    async def _choice(self, index: int, prompt: list[int], body: dict[str, Any]) -> dict[str, Any]:
        said = {**self.generation_config, **body}
        drawing = Drawing(
            said.get("temperature", 1.0),
            said.get("top_p", 1.0),
            said.get("top_k", 0),
            said.get("seed", 0),
        )
        room = self.model.window - len(prompt)
        most = min(body.get("max_tokens", _DEFAULT_MAX_TOKENS), room)
        drawn = [one async for one in self.model.continuation(prompt, drawing, most)]
        ended = drawn[-1].token == self.model.end
        ids = [one.token for one in drawn]
        return {
            "index": index,
            "text": self.model.tokenizer.decode(ids, skip_special_tokens=True),
            "logprobs": None
            if body.get("logprobs") is None
            else self._logprobs(drawn, body["logprobs"]),
            "finish_reason": self._finish(ended=ended),
            "stop_reason": None,
            "token_ids": ids if body.get("return_token_ids") else None,
            "prompt_logprobs": self._prompt(prompt, body["prompt_logprobs"])
            if "prompt_logprobs" in body
            else None,
        }

    def _finish(self, *, ended: bool) -> str:
        if self.trouble == "aborted":
            return "abort"
        return "stop" if ended else "length"

    def _logprobs(self, drawn: list[Drawn], most: int) -> dict[str, Any] | None:
        if self.trouble == "missing":
            return None
        return {
            "token_logprobs": self._spoiled([self._number(one) for one in drawn]),
            "top_logprobs": [self._top(one, most) for one in drawn],
        }

    def _top(self, drawn: Drawn, most: int) -> dict[str, float]:
        """By text: what was drawn, then the most probable, which may spell the same."""
        told = [drawn, drawn.best][: most + 1]
        return {
            self.model.tokenizer.decode([one.token]): max(self._number(one), _LOWEST)
            for one in told
            if one is not None
        }

    def _number(self, drawn: Drawn) -> float:
        return drawn.processed if self.processed_logprobs else drawn.raw

    def _prompt(self, prompt: list[int], most: int) -> list[Any] | None:
        if self.trouble == "missing":
            return None
        shift = 1 if self.trouble == "others" else 0
        scored = self._spoiled(self.model.prompt_logprobs(prompt)[1:])
        pairs = zip(prompt[1:], scored, strict=False)
        entries = [{str(token + shift): {"logprob": told}} for token, told in pairs]
        best = self.model.prompt_best(prompt) if most else []
        for entry, (token, told) in zip(entries, best, strict=False):
            entry.setdefault(str(token), {"logprob": told, "rank": 1})
        return [None, *entries]

    def _spoiled(self, numbers: list[Any]) -> list[Any]:
        match self.trouble:
            case "nan":
                return [*numbers[:-1], float("nan")]
            case "fewer":
                return numbers[:-1]
            case _:
                return numbers


def _refused(status: int, message: str, kind: str, param: str | None = None) -> Answer:
    error = {"message": message, "type": kind, "param": param, "code": status}
    return Answer({"error": error}, status)
