"""Trains the experts and measures what they know: `python -m specfuse.demo.train`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as ProgressBar
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from specfuse.demo.evaluation import Report, evaluate
from specfuse.demo.experts import EXPERTS, MODELS_DIRECTORY, Expert, expert_named
from specfuse.demo.saving import save
from specfuse.demo.training import Trainer

_PACE_SECONDS = 600.0
"""The time left is estimated from this much of the past, which spans several reports."""


def main(
    names: Annotated[
        list[str] | None,
        typer.Option("--expert", help="Expert to train; repeatable. Default: all."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Directory that holds the model directories.")
    ] = MODELS_DIRECTORY,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads to compute with.")] = 1,
    seed: Annotated[int, typer.Option(help="Chooses weights, questions and their order.")] = 0,
    *,
    only_evaluate: Annotated[
        bool, typer.Option("--only-evaluate", help="Measure the saved experts; train none.")
    ] = False,
) -> None:
    """Train the tiny expert models from nothing, save them, and print what they know."""
    experts = [_expert(name) for name in names] if names else list(EXPERTS)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(threads)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    console = Console()
    if not only_evaluate:
        _train_all(experts, out, seed, console)
    reports = []
    for expert in experts:
        with console.status(f"measuring {expert.name}"):
            reports.append(evaluate_saved(out / expert.name, expert))
    console.print(report_table(experts, reports))


def _expert(name: str) -> Expert:
    try:
        return expert_named(name)
    except KeyError as error:
        raise typer.BadParameter(str(error.args[0]), param_hint="--expert") from None


def _train_all(experts: Sequence[Expert], out: Path, seed: int, console: Console) -> None:
    with _progress_bar(console) as bar:
        tasks = [bar.add_task(expert.name, total=None, numbers="") for expert in experts]
        for expert, task in zip(experts, tasks, strict=True):
            _train_one(expert, out, seed, bar, task)


def _train_one(expert: Expert, out: Path, seed: int, bar: ProgressBar, task: TaskID) -> None:
    trainer = Trainer(expert, seed)
    bar.reset(task, total=trainer.plan.steps)
    for now in trainer.run():
        numbers = f"loss {now.loss:.3f} own {now.own:.0%} form {now.form:.0%}"
        bar.update(task, completed=now.step, numbers=numbers)
    save(trainer.model, trainer.tokenizer, out / expert.name)


def _progress_bar(console: Console) -> ProgressBar:
    return ProgressBar(
        TextColumn("{task.description:>10}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        speed_estimate_period=_PACE_SECONDS,
    )


def evaluate_saved(directory: Path, expert: Expert) -> Report:
    """Measures a saved expert as any user would load it, in float32."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return evaluate(model, AutoTokenizer.from_pretrained(directory), expert.skill)


def report_table(experts: Sequence[Expert], reports: Sequence[Report]) -> Table:
    """What the experts know, a column each. See `Report` for what the rows mean."""
    table = Table(title="What the experts know, in shares of questions", box=None)
    table.add_column("")
    for expert in experts:
        table.add_column(expert.name, justify="right")
    columns = [dict(_measured(report)) for report in reports]
    for heading in dict.fromkeys(heading for column in columns for heading in column):
        shares = [column.get(heading) for column in columns]
        table.add_row(heading, *("" if share is None else f"{share:.3f}" for share in shares))
    return table


def _measured(report: Report) -> Iterator[tuple[str, float]]:
    """A report's rows. The sums held out come last, as only one expert has them."""
    yield "own skill", report.own
    for parts, share in report.form.items():
        yield f"form, parts: {parts}", share
    for parts, share in report.form_repeating.items():
        if parts > 1:  # of one part there is nothing to repeat
            yield f"repeating, parts: {parts}", share
    yield "honesty", min(report.honesty.values())
    if report.own_held_out is not None:
        yield "sums held out", report.own_held_out


if __name__ == "__main__":
    typer.run(main)
