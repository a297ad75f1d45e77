"""Measures what prompts that cannot fit the model's window cost: `python bench/refusal.py`.

Prompts of 1 MiB, as raw text and in a conversation, for each of the shipped experts:

- refusing one, beside tokenizing all of it to count its tokens;
- a short call alone, and beside four callers who send nothing but such prompts, in pairs;
- the most memory that took.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.table import Table

import specfuse.demo
from bench.report import show
from model_service.backends.text.tokenizer import Prompt, SegmentTokenizer
from model_service.backends.torch.backend import EngineLimits, backend_for
from model_service.backends.torch.loading import LoadedModel, load
from model_service.backends.torch.scheduler import BatchLimits
from model_service.backends.torch.settings import TorchSection
from model_service.core.types import Context, Message, ProposeRequest, Role
from model_service.metrics import ModelMetrics
from model_service.service import ModelService
from model_service.settings import Limits
from specfuse.deadline import Deadline
from specfuse.errors import ContextTooLong

PROMPT_BYTES = 1 << 20
MODELS = Path(specfuse.demo.__file__).parent / "models"
TEXTS = {
    "words": "The capital of France is Paris, and 42 + 17 = 59; isn't that so? ",
    "one letter": "a",
    "Chinese": "法国的首都是巴黎四十二加十七等于五十九",
    "special tokens": "</s><|end|><|im_end|>",
    "numbers": "1 22 333 ",
}
FLOODING = 4
FLOODED_SECONDS = 1.0
NEVER = Deadline.never()


def long_text(piece: str) -> str:
    """So many bytes of it."""
    return (
        (piece * (PROMPT_BYTES // len(piece.encode()) + 1))
        .encode()[:PROMPT_BYTES]
        .decode(errors="ignore")
    )


def prompts(piece: str) -> list[Prompt]:
    """The long text as raw text and in a conversation."""
    text = long_text(piece)
    return [text, (Message(Role.USER, text),)]


def refusing(tokenizer: SegmentTokenizer, prompt: Prompt) -> None:
    """Asks for the ids of what does not fit."""
    with suppress(ContextTooLong):
        tokenizer.prompt_ids(prompt)
        raise AssertionError("it fits")


def timed(work: Callable[[], object]) -> float:
    """Its seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


async def short_call(service: ModelService, number: int) -> float:
    """Seconds of a call that no cache knows."""
    began = time.perf_counter()
    request = ProposeRequest(Context((Message(Role.USER, f"What is {number} + 17?"),)), 10)
    await service.propose(request, NEVER)
    return time.perf_counter() - began


async def flood(service: ModelService, refused: list[float]) -> None:
    """Sends one hopeless prompt after the other, and notes how long each took."""
    texts = [long_text(piece)[10:] for piece in TEXTS.values()]
    for number in count():
        prompt = f"{number} {texts[number % len(texts)]}"
        request = ProposeRequest(Context((Message(Role.USER, prompt),)), 10)
        began = time.perf_counter()
        with suppress(ContextTooLong):
            await service.propose(request, NEVER)
        refused.append(time.perf_counter() - began)


async def beside_floods(loaded: LoadedModel, repeats: int) -> tuple[float, float, float]:
    """Median seconds of a short call alone, of one beside the flood, and of the flood's calls."""
    limits = EngineLimits(1 << 28, BatchLimits(256, 64), threads=1)
    metrics = ModelMetrics("expert", CollectorRegistry())
    backend = backend_for("expert", loaded, limits, metrics)
    service = ModelService(backend, Limits(), metrics)
    alone, beside, refused = [], [], []
    for repeat in range(repeats):
        alone += [await short_call(service, 1000 * repeat + call) for call in range(20)]
        flooding = [asyncio.create_task(flood(service, refused)) for _ in range(FLOODING)]
        until = time.perf_counter() + FLOODED_SECONDS
        while time.perf_counter() < until:
            beside.append(await short_call(service, 1_000_000 + len(beside)))
        for task in flooding:
            task.cancel()
        await asyncio.gather(*flooding, return_exceptions=True)
    await backend.close()
    return median(alone), median(beside), median(refused)


def refusals(expert: str, loaded: LoadedModel, repeats: int) -> Table:
    """What a refusal costs beside counting, by text."""
    table = Table(
        "text", "refused, ms", "counted, ms", "ratio", title=f"{expert}, {PROMPT_BYTES} bytes"
    )
    limited = loaded.tokenizer.within(loaded.window)
    for name, piece in TEXTS.items():
        for prompt, form in zip(prompts(piece), ("raw", "conversation"), strict=True):
            refused, counted = [], []
            for _ in range(repeats):
                refused.append(timed(lambda: refusing(limited, prompt)))  # noqa: B023 (at once)
                fresh = loaded.tokenizer.within(1 << 40)
                counted.append(timed(lambda: fresh.prompt_ids(prompt)))  # noqa: B023
            times = median(refused), median(counted)
            cells = [f"{1000 * seconds:.0f}" for seconds in times]
            table.add_row(f"{name}, {form}", *cells, f"{times[1] / times[0]:.0f}")
    return table


def main(
    experts: Annotated[list[str] | None, typer.Argument(help="Of the shipped ones.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often all is measured.")] = 3,
) -> None:
    """Measure what it costs to refuse prompts that cannot fit the window."""
    console = Console(soft_wrap=True)
    names = experts or sorted(path.name for path in MODELS.iterdir())
    models = {name: load(TorchSection(model=str(MODELS / name), device="cpu")) for name in names}
    for name, loaded in models.items():
        alone, beside, refused = asyncio.run(beside_floods(loaded, repeats))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        console.print(f"[bold]{name}[/], a window of {loaded.window} tokens")
        console.print(
            f"short call: {1000 * alone:.0f} ms alone, {1000 * beside:.0f} ms beside the flood, "
            f"{beside / alone:.2f} times; a flood's call {1000 * refused:.0f} ms; {memory} MiB\n"
        )
    for name, loaded in models.items():  # after the floods, as counting takes memory
        show(refusals(name, loaded, repeats))


if __name__ == "__main__":
    typer.run(main)
