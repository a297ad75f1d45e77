"""SGLang's server as the sources of version 0.5.23 have it, over a tiny model.

`tests/servers/test_sglang_real.py` makes the same checks of a real one, where there is one.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from tests.support.fakes.running_model import Drawing, Drawn, RunningModel
from tests.support.fakes.server import Answer, Asked, FakeServer

_VERSION: Final = "0.5.23"
_RESERVED: Final = 6
"""It takes inputs that are shorter than the window by more than this."""

_NOT_FOUND: Final = Answer({"detail": "Not Found"}, 404)
_DEFAULT_MAX_TOKENS: Final = 128
_METRICS: Final = """\
# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{{model_name="{name}"}} {running}.0
# HELP sglang:num_queue_reqs The number of requests in the waiting queue.
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{{model_name="{name}"}} 0.0
"""


class FakeSglang(FakeServer):
    """An SGLang server. Its troubles besides those of all are

    nan      a log-probability is NaN, which it writes as null
    fewer    there is a log-probability less than there are tokens
    missing  there are none
    others   they are of other tokens
    aborted  a request is broken off by the server
    """

    work = frozenset({"/generate"})
    troubles = FakeServer.troubles | {"nan", "fewer", "missing", "others", "aborted"}
    open_paths: ClassVar[frozenset[str]] = frozenset({"/health", "/metrics"})
    """What it answers without a key."""

    def __init__(self, architecture: str = "llama_served") -> None:
        super().__init__()
        self.model = RunningModel(architecture)
        self.original_logprobs = False
        """`SGLANG_RETURN_ORIGINAL_LOGPROB=1` in its environment."""
        self.metrics = True
        """`--enable-metrics`."""
        self.weight_version = "default"
        """It changes when weights are exchanged in the running server."""
        self.preferred: dict[str, Any] = {}
        """`--preferred-sampling-params`, for requests that do not say."""

    @property
    def max_req_input_len(self) -> int:
        """Inputs must be shorter than this."""
        return self.model.window - _RESERVED

    def overloaded(self) -> Answer:
        return _failed(503, "The request queue is full.")

    async def answer(self, asked: Asked) -> Answer:
        if asked.path not in self.open_paths and not self.knows(asked):
            return Answer({"error": "Unauthorized"}, 401)
        if (asked.method, asked.path) == ("POST", "/generate"):
            return await self._generate(asked.body)
        told = {
            ("GET", "/model_info"): lambda _: Answer(self._model_info()),
            ("GET", "/server_info"): lambda _: Answer(self._server_info()),
            ("GET", "/metrics"): lambda _: self._metrics(),
            ("POST", "/detokenize"): self._detokenized,
        }.get((asked.method, asked.path))
        return _NOT_FOUND if told is None else told(asked.body)

    def _model_info(self) -> dict[str, Any]:
        return {
            "model_path": f"/models/{self.model.architecture}",
            "served_model_name": self.model.architecture,
            "is_generation": True,
            "weight_version": self.weight_version,
        }

    def _server_info(self) -> dict[str, Any]:
        return {"version": _VERSION, "max_req_input_len": self.max_req_input_len}

    def _metrics(self) -> Answer:
        if not self.metrics:
            return _NOT_FOUND
        text = _METRICS.format(name=self.model.architecture, running=self.working)
        return Answer(text.encode())

    def _detokenized(self, body: dict[str, Any]) -> Answer:
        skipping = body.get("skip_special_tokens", True)
        decoded = self.model.tokenizer.decode(body["tokens"], skip_special_tokens=skipping)
        return Answer({"text": decoded})

    async def _generate(self, body: dict[str, Any]) -> Answer:
        inputs = body["input_ids"]
        single = not isinstance(inputs[0], list)
        sequences = [inputs] if single else inputs
        longest = max(map(len, sequences))
        if longest >= self.max_req_input_len:
            said = f"Input length ({longest} tokens) exceeds the maximum allowed length "
            return _refused(f"{said}({self.max_req_input_len} tokens). Use a shorter input.")
        problem = _problem(body["sampling_params"])
        if problem is not None:
            return _refused(problem)
        told = [await self._told(ids, body) for ids in sequences]
        return Answer(told[0] if single else told)

    async def _told(self, ids: list[int], body: dict[str, Any]) -> dict[str, Any]:
        said = {**self.preferred, **body["sampling_params"]}
        temperature = said.get("temperature", 1.0)
        drawing = Drawing(
            temperature,
            said.get("top_p", 1.0),
            max(0, said.get("top_k", -1)),
            said.get("sampling_seed", 0),
        )
        most = said.get("max_new_tokens", _DEFAULT_MAX_TOKENS)
        start = body.get("logprob_start_len", len(ids))
        cached = min(self.model.cached(ids), start, len(ids) - 1)
        # Of the token that it computes and does not generate, it tells the probability as well.
        drawn = [one async for one in self.model.continuation(ids, drawing, max(1, most))]
        meta = {
            "id": "0123456789abcdef",
            "finish_reason": self._finish(drawn, most),
            "prompt_tokens": len(ids),
            "completion_tokens": min(most, len(drawn)),
            "cached_tokens": cached,
            "weight_version": self.weight_version,
        }
        output_ids = [one.token for one in drawn[:most]]
        if body.get("return_logprob") and self.trouble != "missing":
            meta["input_token_logprobs"] = self._inputs(ids, start)
            meta["output_token_logprobs"] = self._outputs(drawn, temperature)
            if body.get("top_logprobs_num"):
                meta["input_top_logprobs"] = self._input_tops(ids, start)
                meta["output_top_logprobs"] = self._output_tops(drawn, temperature)
        text = self.model.tokenizer.decode(output_ids, skip_special_tokens=True)
        return {"text": text, "output_ids": output_ids, "meta_info": meta}

    def _finish(self, drawn: list[Drawn], most: int) -> dict[str, Any]:
        if self.trouble == "nan":
            return {"type": "stop", "matched": "NaN happened"}
        if self.trouble == "aborted":
            return {"type": "abort", "message": "Unknown error", "status_code": None}
        if most and drawn[-1].token == self.model.end:
            return {"type": "stop", "matched": self.model.end}
        return {"type": "length", "length": most}

    def _inputs(self, ids: list[int], start: int) -> list[Any]:
        scored = self.model.prompt_logprobs(ids)[start + 1 :]
        numbers = [None, *scored] if start < len(ids) else []
        shift = 1 if self.trouble == "others" else 0
        pairs = zip(numbers, ids[start:], strict=True)
        return self._spoiled([[told, self._named(token + shift), None] for told, token in pairs])

    def _input_tops(self, ids: list[int], start: int) -> list[Any]:
        tops = self.model.prompt_best(ids)[start:]
        told = [None, *([[logprob, token, None]] for token, logprob in tops)]
        return told if start < len(ids) else []

    def _output_tops(self, drawn: list[Drawn], temperature: float) -> list[Any]:
        raw = self.original_logprobs or temperature == 0
        return [[[_number(one.best, raw=raw), one.best.token, None]] for one in drawn if one.best]

    def _named(self, token: int) -> int:
        """It says 0 for the last id of the vocabulary."""
        return token if token < self.model.vocabulary - 1 else 0

    def _outputs(self, drawn: list[Drawn], temperature: float) -> list[Any]:
        raw = self.original_logprobs or temperature == 0
        return self._spoiled([[_number(one, raw=raw), one.token, None] for one in drawn])

    def _spoiled(self, entries: list[Any]) -> list[Any]:
        match self.trouble:
            case "nan" if entries:
                return [*entries[:-1], [None, *entries[-1][1:]]]
            case "fewer":
                return entries[:-1]
            case _:
                return entries


def _number(drawn: Drawn, *, raw: bool) -> float:
    return drawn.raw if raw else drawn.tempered


def _problem(sampling: dict[str, Any]) -> str | None:
    """What is wrong with how tokens are to be drawn."""
    top_k, top_p = sampling.get("top_k", -1), sampling.get("top_p", 1.0)
    if top_k != -1 and top_k < 1:
        return f"top_k must be -1 (disable) or at least 1, got {top_k}."
    if not 0 < top_p <= 1:
        return f"top_p must be in (0, 1], got {top_p}."
    return None


def _refused(message: str) -> Answer:
    return Answer({"error": {"message": message}}, 400)


def _failed(status: int, message: str) -> Answer:
    body = {"object": "error", "message": message, "type": f"{status}", "param": None}
    return Answer(body | {"code": status}, status)
