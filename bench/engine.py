"""Measures the torch engine: `python bench/engine.py`.

Side by side, in one run, interleaved, medians of several repeats:

- a round at growing contexts, by our engine and by recomputing everything, as published;
- a round against the decoding steps in it alone, and the time to a first segment;
- sessions at the same time, and as many that only draft, against transformers' continuous batching
  drafting as many tokens (of which, as in ours, one a round is not kept) and scoring none;
- memory of the cache against what the model's shape says;
- on a GPU also five models of 7 to 9 billion random parameters on one device.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer
from fleet import fleet_or_reason
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from subjects import (
    DRAFT_TOKENS,
    KEPT_TOKENS,
    OTHERS,
    Ours,
    Recompute,
    Shape,
    TransformersBatching,
    Words,
    llama_35m,
    llama_tiny,
)

from bench.ratios import median_ratio
from bench.report import show
from model_service.core.types import Candidate, Context, ScoreRequest
from specfuse.deadline import Deadline

CONTEXTS = (128, 512, 1024, 2048)
SESSIONS = (1, 2, 4, 8, 16)
SESSION_TOKENS = 32
SESSION_ROUNDS = 10
REPEATS = 7
NEVER = Deadline.never()


@dataclass
class Result:
    """What was measured. Lists go with `contexts` or `sessions`; times are medians, in ms."""

    model: str
    parameters: int
    device: str
    threads: int
    compiled: bool
    repeats: int
    draft_tokens: int = DRAFT_TOKENS
    candidates: int = OTHERS + 1
    contexts: list[int] = field(default_factory=list)
    round_ms: list[float] = field(default_factory=list)
    recompute_round_ms: list[float] = field(default_factory=list)
    decode_ms: list[float] = field(default_factory=list)
    first_segment_ms: list[float] = field(default_factory=list)
    speedup: list[float] = field(default_factory=list)
    flatness: float = 0.0
    verify_overheads: list[float] = field(default_factory=list)
    verify_overhead: float = 0.0
    sessions: list[int] = field(default_factory=list)
    tokens_per_s: list[float] = field(default_factory=list)
    share_of_transformers: list[float] = field(default_factory=list)
    drafting_tokens_per_s: list[float] = field(default_factory=list)
    drafting_share_of_transformers: list[float] = field(default_factory=list)
    transformers_cb_tokens_per_s: list[float] = field(default_factory=list)
    max_score_error: float = 0.0
    kv_bytes_per_token: float = 0.0
    kv_bytes_per_token_in_theory: int = 0
    peak_cache_bytes: int = 0
    peak_process_bytes: int = 0
    fleet: dict[str, object] | str = ""


@dataclass(frozen=True)
class Way:
    """How to measure."""

    threads: int
    compiled: bool
    repeats: int


class Bench:
    """The measurements that need one model."""

    def __init__(self, shape: Shape, way: Way, step: Callable[[], None]) -> None:
        self._shape = shape
        self._repeats = way.repeats
        self._step = step
        self._words = Words(shape.config.vocab_size)
        self._ours = Ours(shape, self._words, way.threads, compiled=way.compiled)
        plain = shape.built()
        self._recompute = Recompute(plain)
        self._batching = TransformersBatching(shape.built())
        self._tokenizer = self._ours.tokenizer
        self.result = Result(
            model=f"{shape.config.model_type}, {str(shape.dtype).removeprefix('torch.')}",
            parameters=sum(weights.numel() for weights in plain.parameters()),
            device=str(shape.device),
            threads=way.threads,
            compiled=way.compiled,
            repeats=way.repeats,
        )

    async def run(self, contexts: tuple[int, ...], sessions: tuple[int, ...]) -> Result:
        """Measures everything."""
        await self._cache_size(max(contexts))
        await self._rounds(contexts)
        await self._score_error(contexts)
        await self._concurrency(sessions)
        self.result.peak_cache_bytes = self._ours.listener.peak_bytes
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.result.peak_process_bytes = kilobytes * 1024
        await self._ours.backend.close()
        return self.result

    async def _rounds(self, contexts: tuple[int, ...]) -> None:
        measured = {tokens: _Rounds() for tokens in contexts}
        for repeat in range(-1, self._repeats):  # the first is to warm up
            for tokens, rounds in measured.items():
                await self._round(tokens, repeat, _Rounds() if repeat < 0 else rounds)
                self._step()
        result = self.result
        for tokens, rounds in measured.items():
            result.contexts.append(tokens)
            result.round_ms.append(_ms(rounds.ours))
            result.recompute_round_ms.append(_ms(rounds.recompute))
            result.decode_ms.append(_ms(rounds.decode))
            result.first_segment_ms.append(_ms(rounds.first))
            result.speedup.append(median_ratio(rounds.recompute, rounds.ours))
            result.verify_overheads.append(median_ratio(rounds.ours, rounds.decode))
        result.flatness = result.round_ms[-1] / result.round_ms[0]
        result.verify_overhead = max(result.verify_overheads)

    async def _round(self, tokens: int, repeat: int, rounds: _Rounds) -> None:
        name = (tokens, repeat)
        fresh = Context(self._words.text((name, "first"), tokens))
        first, _ = await self._ours.round(fresh, name)
        rounds.first.append(first.whole)
        context = await self._ours.warm(name, tokens)
        ours, _ = await self._ours.round(context, name)
        rounds.ours.append(ours.whole)
        rounds.decode.append(
            await self._ours.decode(await self._ours.warm((name, "decode"), tokens))
        )
        ids = self._tokenizer.context_ids(context)
        others = [self._ids((name, other), context) for other in range(OTHERS)]
        rounds.recompute.append(self._recompute.round(ids, others).whole)

    async def _score_error(self, contexts: tuple[int, ...]) -> None:
        worst = 0.0
        for tokens in contexts:
            context = await self._ours.warm(("error", tokens), tokens)
            texts = [self._words.text(("error", other), KEPT_TOKENS) for other in range(4)]
            candidates = tuple(Candidate(text, finished=False) for text in texts)
            scores = await self._ours.backend.score(ScoreRequest(context, candidates), NEVER)
            ids = self._tokenizer.context_ids(context)
            for text, found in zip(texts, scores.scores, strict=True):
                own = self._recompute.scored_plainly(
                    ids, self._tokenizer.segment_ids(text, context)
                )
                pairs = zip(found.token_logprobs, own, strict=True)
                worst = max(worst, *(abs(one - other) for one, other in pairs))
        self.result.max_score_error = worst

    async def _concurrency(self, sessions: tuple[int, ...]) -> None:
        """Tokens of answers per second. Either way drafts as many tokens, and loses the same."""
        measured = {count: _Sessions() for count in sessions}
        for repeat in range(self._repeats):
            for count, rates in measured.items():
                await self._sessions(count, repeat, rates)
                self._step()
        result = self.result
        for count, rates in measured.items():
            result.sessions.append(count)
            result.tokens_per_s.append(median(rates.ours))
            result.share_of_transformers.append(median_ratio(rates.ours, rates.theirs))
            result.drafting_tokens_per_s.append(median(rates.drafting))
            result.drafting_share_of_transformers.append(median_ratio(rates.drafting, rates.theirs))
            result.transformers_cb_tokens_per_s.append(median(rates.theirs))

    async def _sessions(self, count: int, repeat: int, rates: _Sessions) -> None:
        kept, drafted = SESSION_ROUNDS * KEPT_TOKENS, SESSION_ROUNDS * DRAFT_TOKENS
        name = ("sessions", repeat, count)
        size = (count, SESSION_TOKENS, SESSION_ROUNDS)
        rates.ours.append(count * kept / await self._ours.sessions(name, *size))
        rates.drafting.append(count * kept / await self._ours.drafts(("alone", *name), *size))
        prompts = [
            self._tokenizer.context_ids(Context(self._words.text((name, number), SESSION_TOKENS)))
            for number in range(count)
        ]
        rates.theirs.append(count * kept / self._batching.sessions(prompts, drafted))

    async def _cache_size(self, tokens: int) -> None:
        """What an answer of a tenth of its context's length takes, of the cache's growth."""
        config = self._shape.config
        heads, layers = config.num_key_value_heads, config.num_hidden_layers
        size = config.hidden_size // config.num_attention_heads
        self.result.kv_bytes_per_token_in_theory = (
            2 * layers * heads * size * self._shape.dtype.itemsize
        )
        before = self._ours.listener.used_bytes
        context = Context(self._words.text("cache", tokens))
        for number in range(max(1, tokens // 10 // KEPT_TOKENS)):
            _, context = await self._ours.round(context, ("cache", number))
        held = self._ours.listener.used_bytes - before
        length = len(self._tokenizer.context_ids(context))
        self.result.kv_bytes_per_token = held / length

    def _ids(self, seed: object, context: Context) -> tuple[int, ...]:
        return self._tokenizer.segment_ids(self._words.text(seed, KEPT_TOKENS), context)


@dataclass
class _Rounds:
    """Seconds at one context, an entry a repeat."""

    ours: list[float] = field(default_factory=list)
    recompute: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)


@dataclass
class _Sessions:
    """Tokens of answers a second at one number of sessions, an entry a repeat."""

    ours: list[float] = field(default_factory=list)
    drafting: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)


def _ms(seconds: list[float]) -> float:
    return 1000 * median(seconds)


def _rounds_table(result: Result) -> Table:
    table = Table(title=f"A round: {DRAFT_TOKENS} draft tokens, {result.candidates} candidates")
    for column in ("context", "ours", "recompute", "speed-up", "of its decoding", "first segment"):
        table.add_column(column, justify="right")
    rows = zip(
        result.contexts,
        result.round_ms,
        result.recompute_round_ms,
        result.speedup,
        result.verify_overheads,
        result.first_segment_ms,
        strict=True,
    )
    for tokens, ours, recompute, speedup, overhead, first in rows:
        table.add_row(
            str(tokens),
            f"{ours:.0f} ms",
            f"{recompute:.0f} ms",
            f"{speedup:.1f} x",
            f"{overhead:.2f} x",
            f"{first:.0f} ms",
        )
    table.caption = (
        f"flatness {result.flatness:.2f}, largest score error {result.max_score_error:.1e}"
    )
    return table


def _sessions_table(result: Result) -> Table:
    table = Table(title="Sessions at the same time, tokens per second")
    columns = ("sessions", "ours, fused", "of one session's", "of transformers'")
    for column in (*columns, "ours, drafts only", "of transformers'", "transformers, drafts only"):
        table.add_column(column, justify="right")
    rows = zip(
        result.sessions,
        result.tokens_per_s,
        result.share_of_transformers,
        result.drafting_tokens_per_s,
        result.drafting_share_of_transformers,
        result.transformers_cb_tokens_per_s,
        strict=True,
    )
    for count, fused, share, drafting, drafting_share, theirs in rows:
        table.add_row(
            str(count),
            f"{fused:.0f}",
            f"{fused / result.tokens_per_s[0]:.2f} x",
            f"{share:.2f}",
            f"{drafting:.0f}",
            f"{drafting_share:.2f}",
            f"{theirs:.0f}",
        )
    return table


def _report(console: Console, result: Result) -> None:
    console.print(
        f"{result.model}, {result.parameters / 1e6:.1f}M parameters on {result.device}, "
        f"{result.threads} thread(s), medians of {result.repeats}"
        + (", compiled" if result.compiled else "")
    )
    show(_rounds_table(result), _sessions_table(result))
    console.print(
        f"cache: {result.kv_bytes_per_token:.0f} bytes a token, "
        f"{result.kv_bytes_per_token_in_theory} in theory; at most "
        f"{result.peak_cache_bytes / 2**20:.0f} MiB of it, "
        f"process {result.peak_process_bytes / 2**20:.0f} MiB"
    )
    console.print(f"fleet: {result.fleet}")


def _plot(result: Result, path: Path) -> None:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - only needed for --plot
    except ImportError as error:
        raise typer.BadParameter("--plot needs matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(10, 4), layout="constrained")
    rounds, sessions = figure.subplots(1, 2)
    rounds.plot(result.contexts, result.recompute_round_ms, "o-", label="recompute")
    rounds.plot(result.contexts, result.round_ms, "o-", label="ours")
    rounds.set(xlabel="context, tokens", ylabel="ms a round", yscale="log")
    sessions.plot(
        result.sessions,
        result.transformers_cb_tokens_per_s,
        "o-",
        label="transformers, drafts only",
    )
    sessions.plot(result.sessions, result.drafting_tokens_per_s, "o-", label="ours, drafts only")
    sessions.plot(result.sessions, result.tokens_per_s, "o-", label="ours, fused")
    sessions.set(xlabel="sessions", ylabel="tokens/s")
    for axes in (rounds, sessions):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path)


def _place(device: str) -> torch.device:
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise typer.BadParameter("no CUDA device here", param_hint="--device")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        problem = f"{device!r} is no device of this machine"
        raise typer.BadParameter(problem, param_hint="--device") from error


def main(  # noqa: PLR0913, PLR0917 - the options of a command line
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the numbers here.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw them here, as PNG.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 1,
    repeats: Annotated[
        int, typer.Option(min=1, help="How often each thing is measured.")
    ] = REPEATS,
    compiled: Annotated[bool, typer.Option("--compile", help="Our engine compiled.")] = False,  # noqa: FBT002
    quick: Annotated[bool, typer.Option("--quick", help="Try it on a toy.")] = False,  # noqa: FBT002
) -> None:
    """Measure the torch engine against recomputing and against transformers' own batching."""
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)
    torch.set_num_threads(threads)
    place = _place(device)
    for option, file in (("--json", json_file), ("--plot", plot)):
        if file and not file.parent.is_dir():
            raise typer.BadParameter(f"there is no directory {file.parent}", param_hint=option)
    dtype = torch.float32 if place.type == "cpu" else torch.bfloat16
    shape = Shape(llama_tiny() if quick else llama_35m(), place, dtype)
    contexts = CONTEXTS[:2] if quick else CONTEXTS
    sessions = SESSIONS[:2] if quick else SESSIONS
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        steps = len(contexts) * (repeats + 1) + len(sessions) * repeats
        task = progress.add_task("measuring", total=steps)
        bench = Bench(shape, Way(threads, compiled, repeats), lambda: progress.advance(task))
        result = asyncio.run(bench.run(contexts, sessions))
    result.fleet = fleet_or_reason(place, repeats)
    _report(Console(soft_wrap=True), result)
    if json_file:
        json_file.write_text(json.dumps(asdict(result), indent=2) + "\n")
    if plot:
        _plot(result, plot)


if __name__ == "__main__":
    typer.run(main)
