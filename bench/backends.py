"""Measures what a round costs on each backend, beside the torch engine: `python bench/backends.py`.

A round is one proposal of 10 tokens, then 5 candidates of 10 tokens scored. All backends run the
same tiny model. A cold round is the first of its query, a warm one the second, with one of the
candidates committed.

llama-server is measured where there is one (`make servers`). Other servers are measured where they
run: started with the model in the directory that `--save` wrote, and named by `--vllm` and so on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from model_service.backends.registry import BACKENDS, open_backend, section_type
from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.core.types import (
    Candidate,
    Context,
    ProposeRequest,
    ScoreRequest,
    Scores,
)
from model_service.ports import Backend, BackendHost
from specfuse.deadline import Deadline
from specfuse.errors import SpecFuseError
from tests.support import tiny_models
from tests.support.gguf_models import write_gguf
from tests.support.llama_server import executable, llama_server
from tests.support.observers import RecordingObserver
from tests.support.tokenizers import published

MODEL = "llama_served"
DRAFT_TOKENS = 10
CANDIDATES = 5
CONTEXTS = (128, 512, 900)
REPEATS = 7
SAME_SCORES = 1e-2
"""What single precision and different kernels make of one model's log-probabilities is far less."""

_NEVER = Deadline.never()
_ROUND = frozenset({"generate", "judge"})
"""Requests of these kinds are a round's; others look after the server."""

_WORDS = ("the", "fox", "jumps", "over", "lazy", "dogs", "and", "then", "sleeps", "until", "noon")


class Texts:
    """Texts of an exact number of tokens, without meaning, the same for the same seed."""

    def __init__(self, tokenizer: SegmentTokenizer) -> None:
        self._tokenizer = tokenizer

    def context(self, seed: object, tokens: int) -> Context:
        """A query's first context, unlike any other from its beginning."""
        draws = random.Random(f"{seed}")
        begin = f"{draws.randrange(10**6):06}"
        prompt = _filled(
            draws, begin, tokens, lambda text: len(self._tokenizer.context_ids(Context(text)))
        )
        return Context(prompt, session_id=f"{seed}")

    def candidates(self, seed: object, context: Context) -> tuple[Candidate, ...]:
        """What a round scores."""
        draws = random.Random(f"{seed} candidates")

        def length(text: str) -> int:
            return len(self._tokenizer.segment_ids(text, context))

        texts = (_filled(draws, "", DRAFT_TOKENS, length) for _ in range(CANDIDATES))
        return tuple(Candidate(text, finished=False) for text in texts)


def _filled(draws: random.Random, begin: str, tokens: int, length: Callable[[str], int]) -> str:
    """The beginning, words as long as they fit, and digits, each a token of its own."""
    text = begin
    while length(longer := f"{text} {draws.choice(_WORDS)}") <= tokens:
        text = longer
    while length(text) < tokens:
        text += draws.choice("0123456789")
    if length(text) != tokens:
        raise AssertionError(f"{length(text)} tokens instead of {tokens}")
    return text


@dataclass(frozen=True, slots=True)
class Cost:
    """What a round took: seconds, requests to the server, and tokens of context computed."""

    seconds: float
    calls: int
    tokens: int


class Subject:
    """A backend, and what it told of its rounds."""

    def __init__(self, name: str, backend: Backend, observer: RecordingObserver) -> None:
        self.name = name
        self.backend = backend
        self._observer = observer

    async def round(
        self, context: Context, candidates: tuple[Candidate, ...]
    ) -> tuple[Cost, Scores]:
        """What one round cost, and the scores."""
        calls, tokens = self._calls, self._observer.misses
        began = time.perf_counter()
        await self.backend.propose(ProposeRequest(context, DRAFT_TOKENS), _NEVER)
        scores = await self.backend.score(ScoreRequest(context, candidates), _NEVER)
        seconds = time.perf_counter() - began
        cost = Cost(seconds, self._calls - calls, self._observer.misses - tokens)
        return cost, scores

    @property
    def _calls(self) -> int:
        return sum(operation in _ROUND for operation, _ in self._observer.requests)


@dataclass
class Row:
    """Medians of one backend's rounds at one length of context."""

    backend: str
    context: int
    warm: bool
    seconds: float
    times_torch: float
    calls: float
    tokens: float


@dataclass
class Result:
    """What was measured. `score_errors` are the largest differences to torch's numbers."""

    repeats: int
    load_average: tuple[float, float, float]
    rows: list[Row] = field(default_factory=list)
    score_errors: dict[str, float] = field(default_factory=dict)


Key = tuple[str, int, bool]
"""A backend, a length of context, and whether the round is warm."""


class Bench:
    """Rounds on all backends in turn. The first is torch, which the others are compared with."""

    def __init__(self, subjects: list[Subject], texts: Texts) -> None:
        self._subjects = subjects
        self._texts = texts
        self._costs: dict[Key, list[Cost]] = {}
        self._errors: dict[str, float] = {}

    async def run(self, repeats: int) -> Result:
        """Measures everything, once more than it counts."""
        result = Result(repeats, os.getloadavg())
        for repeat in track(range(-1, repeats), "measuring", console=Console(stderr=True)):
            for tokens in CONTEXTS:
                await self._query((repeat, tokens), tokens)
            if repeat < 0:
                self._costs.clear()
        result.rows = [self._row(key) for key in self._costs]
        result.score_errors = self._errors
        return result

    async def _query(self, seed: object, tokens: int) -> None:
        """Two rounds of one query."""
        first = self._texts.context(seed, tokens)
        candidates = self._texts.candidates(seed, first)
        second = Context(first.prompt, (candidates[0].text,), first.session_id)
        others = self._texts.candidates((seed, "warm"), second)
        for warm, context, scored in ((False, first, candidates), (True, second, others)):
            expected: Scores | None = None
            for subject in self._subjects:
                cost, scores = await subject.round(context, scored)
                self._costs.setdefault((subject.name, tokens, warm), []).append(cost)
                expected = expected or scores
                self._note_error(subject.name, scores, expected)

    def _note_error(self, name: str, found: Scores, expected: Scores) -> None:
        error = max(
            abs(one - other)
            for score, own in zip(found.scores, expected.scores, strict=True)
            for one, other in zip(score.token_logprobs, own.token_logprobs, strict=True)
        )
        self._errors[name] = max(error, self._errors.get(name, 0.0))

    def _row(self, key: Key) -> Row:
        name, tokens, warm = key
        costs = self._costs[key]
        torch = self._costs[self._subjects[0].name, tokens, warm]
        return Row(
            backend=name,
            context=tokens,
            warm=warm,
            seconds=median(cost.seconds for cost in costs),
            times_torch=median(
                cost.seconds / own.seconds for cost, own in zip(costs, torch, strict=True)
            ),
            calls=median(cost.calls for cost in costs),
            tokens=median(cost.tokens for cost in costs),
        )


async def opened(stack: AsyncExitStack, name: str, **settings: object) -> Subject:
    """A backend until the stack is closed.

    Raises:
        Misconfigured: its server is not there, or has another tokenizer.
    """
    observer = RecordingObserver()
    section = section_type(name).model_validate(settings)
    backend = await open_backend(name, section, BackendHost("bench", observer))
    stack.push_async_callback(backend.close)
    return Subject(name, backend, observer)


async def same_model(subject: Subject, torch: Subject, texts: Texts) -> bool:
    """Whether a subject's numbers are those of the model that torch runs."""
    context = texts.context("same", CONTEXTS[0])
    candidates = texts.candidates("same", context)
    _, found = await subject.round(context, candidates)
    _, expected = await torch.round(context, candidates)
    return all(
        abs(one.logprob_sum - other.logprob_sum) < SAME_SCORES * DRAFT_TOKENS
        for one, other in zip(found.scores, expected.scores, strict=True)
    )


async def measured(
    directory: Path, urls: dict[str, str], repeats: int, say: Callable[[str], None]
) -> Result:
    """Measures the torch engine, and every server that runs the same model."""
    async with AsyncExitStack() as stack:
        torch = await opened(stack, "torch", model=str(directory), threads=1)
        texts = Texts(SegmentTokenizer(published(tiny_models.tokenizer(MODEL))))
        subjects = [torch]
        for name, url in urls.items():
            try:
                subject = await opened(stack, name, url=url, tokenizer=str(directory))
            except SpecFuseError as error:
                say(f"{name} is left out: {error.message}")
                continue
            if await same_model(subject, torch, texts):
                subjects.append(subject)
            else:
                say(f"{name} is left out: {url} runs another model than {MODEL}; see --save")
        return await Bench(subjects, texts).run(repeats)


def table(result: Result) -> Iterator[str]:
    """What was measured, as Markdown."""
    yield "| backend | context | round | of torch's time | calls | tokens computed | ms |"
    yield "| --- | ---: | --- | ---: | ---: | ---: | ---: |"
    for row in sorted(result.rows, key=lambda row: (row.context, row.warm)):
        cells = (
            row.backend,
            row.context,
            "warm" if row.warm else "cold",
            f"{row.times_torch:.2f} x",
            f"{row.calls:g}",
            f"{row.tokens:g}",
            f"{1000 * row.seconds:.0f}",
        )
        yield f"| {' | '.join(map(str, cells))} |"
    errors = ", ".join(f"{name} {error:.1e}" for name, error in result.score_errors.items())
    load = " ".join(f"{load:.1f}" for load in result.load_average)
    yield ""
    yield f"Medians of {result.repeats}, load average at the start {load}. "
    yield f"Largest difference to torch's log-probabilities: {errors}."


def _given(**urls: str | None) -> dict[str, str]:
    """The servers that were named."""
    named = {name: url for name, url in urls.items() if url is not None}
    for name in named:
        if name not in BACKENDS:
            raise typer.BadParameter(f"there is no backend {name}", param_hint=f"--{name}")
    return named


def main(
    vllm: Annotated[str | None, typer.Option(metavar="URL", help="A vLLM.")] = None,
    tgi: Annotated[str | None, typer.Option(metavar="URL", help="A TGI.")] = None,
    sglang: Annotated[str | None, typer.Option(metavar="URL", help="An SGLang.")] = None,
    save: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the model here, for a server, and end."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the numbers here.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often all is measured.")] = REPEATS,
) -> None:
    """Measure what a round costs on each backend that can be had, beside the torch engine."""
    if save is not None:
        tiny_models.save(MODEL, save)
        return
    if json_file and not json_file.parent.is_dir():
        problem = f"there is no directory {json_file.parent}"
        raise typer.BadParameter(problem, param_hint="--json")
    urls = _given(vllm=vllm, tgi=tgi, sglang=sglang)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    console = Console(stderr=True, soft_wrap=True)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="specfuse-bench-")))
        tiny_models.save(MODEL, directory)
        if executable().exists():
            write_gguf(directory, directory / "model.gguf")
            room = ("--ctx-size", "4096", "--parallel", "4")
            llama = stack.enter_context(llama_server(directory / "model.gguf", *room))
            urls = {"llama_cpp": llama, **urls}
        else:
            console.print(f"llama_cpp is left out: there is no {executable()}; make servers")
        result = asyncio.run(measured(directory, urls, repeats, console.print))
    print("\n".join(table(result)))
    if json_file:
        json_file.write_text(json.dumps(asdict(result), indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
