"""Runs every bench that needs no GPU, one after another, and writes one page of it: `make bench`.

Each has settings with which all of them take less than half an hour together on two cores; to
measure one thing well, run its bench by itself. One that fails is told of at the end, and the
others run all the same. What each says on stdout, which is Markdown where that is no terminal, is
its part of the page; what it says on stderr, as its progress, goes to the terminal.
"""

from __future__ import annotations

import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import psutil
import typer
from rich.console import Console
from rich.markdown import Markdown

from bench.report import LEFT_OUT

HERE: Final = Path(__file__).parent
REPOSITORY: Final = HERE.parent
PACKAGES: Final = ("grpcio", "protobuf", "torch", "transformers", "tokenizers", "uvicorn")
_ENDING_SECONDS: Final = 20


@dataclass(frozen=True, slots=True)
class Bench:
    """A bench and its settings here; `needs` is what it is left out without."""

    file: str
    title: str
    options: tuple[str, ...] = ()
    needs: str = ""

    @property
    def command(self) -> str:
        """How to run it by itself."""
        return shlex.join((".venv/bin/python", f"bench/{self.file}", *self.options))


BENCHES: Final = (
    Bench(
        "fuser.py",
        "What a round costs the fuser",
        (
            *("--members", "2", "--members", "3", "--members", "5", "--members", "8"),
            *("--rounds", "20", "--questions", "1", "--repeats", "3"),
        ),
    ),
    Bench("footprint.py", "What a query takes of memory and network"),
    Bench(
        "scale.py",
        "How a mesh grows",
        ("--level", "0.7", "--level", "0.9", "--level", "1.1", "--seconds", "8"),
    ),
    Bench(
        "observing.py",
        "What numbers and traces cost the fuser",
        ("--rounds", "20", "--repeats", "5"),
    ),
    Bench("drafting.py", "Drafting ahead, and drafting longer", ("--questions", "2")),
    Bench(
        "start.py",
        "What starting takes",
        ("--repeats", "2", "--questions", "60"),
    ),
    Bench("member.py", "A member whose model runs elsewhere", ("--repeats", "1")),
    Bench("products.py", "Products of few rows, by how weights lie"),
    Bench("engine.py", "The torch engine", ("--repeats", "3")),
    Bench("backends.py", "A round on each backend", ("--repeats", "7")),
    Bench("llama_precision.py", "How exact llama-server is", needs="make servers"),
    Bench(
        "refusal.py",
        "What a hopeless prompt costs",
        ("capitals", "opposites", "--repeats", "1"),
    ),
)


class Outcome(StrEnum):
    """How a bench ended."""

    DONE = "done"
    LEFT_OUT = "left out"
    FAILED = "failed"
    TOO_LONG = "took too long"


@dataclass(frozen=True, slots=True)
class Run:
    """A bench that ran: how it ended, after how long, beside what load, and what it said."""

    bench: Bench
    outcome: Outcome
    seconds: float
    load: float
    said: str

    @property
    def well(self) -> bool:
        """Whether nothing went wrong."""
        return self.outcome in {Outcome.DONE, Outcome.LEFT_OUT}


def ran(bench: Bench, limit_seconds: float) -> Run:
    """Runs a bench to its end, or to the limit, when it is ended with all that it started."""
    load, began = os.getloadavg()[0], time.monotonic()
    process = subprocess.Popen(
        (sys.executable, str(HERE / bench.file), *bench.options),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | {"COLUMNS": "200"},
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=limit_seconds)
        outcome = _outcome(process.returncode)
    except subprocess.TimeoutExpired:
        said, outcome = _ended(process), Outcome.TOO_LONG
    except KeyboardInterrupt:
        _ended(process)
        raise
    return Run(bench, outcome, time.monotonic() - began, load, said.replace(f"{REPOSITORY}/", ""))


def _outcome(exit_code: int) -> Outcome:
    return {0: Outcome.DONE, LEFT_OUT: Outcome.LEFT_OUT}.get(exit_code, Outcome.FAILED)


def _ended(process: subprocess.Popen[str]) -> str:
    """Interrupts a bench, so that it ends what it started; kills it if it does not end. Returns
    what it had said."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        return process.communicate(timeout=_ENDING_SECONDS)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0]


def page(runs: Sequence[Run], facts: dict[str, str]) -> str:
    """The page of all that was measured, as Markdown."""
    return "\n".join(_page(runs, facts))


def _page(runs: Sequence[Run], facts: dict[str, str]) -> Iterator[str]:
    yield "# All benches in one run"
    yield ""
    yield "Made by"
    yield ""
    yield "    make bench"
    yield ""
    yield "one after another, with settings that are quick rather than exact. Each command below "
    yield "measures one thing again; without options it takes longer and says it better."
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    yield from (f"| {name} | {value} |" for name, value in facts.items())
    yield ""
    yield "| bench | took | load before | |"
    yield "| --- | ---: | ---: | --- |"
    for run in runs:
        cells = run.bench.file, f"{run.seconds:.0f} s", f"{run.load:.1f}", run.outcome
        yield f"| {' | '.join(cells)} |"
    for run in runs:
        yield from ("", f"## {run.bench.title}", "", f"    {run.bench.command}", "")
        yield from _said(run)
    yield ""


def _said(run: Run) -> Iterator[str]:
    match run.outcome:
        case Outcome.LEFT_OUT:
            yield f"Left out: it needs `{run.bench.needs}`."
        case Outcome.FAILED | Outcome.TOO_LONG:
            yield f"**It {run.outcome}.** What it said until then:"
            yield ""
    if run.outcome is not Outcome.LEFT_OUT:
        yield run.said.strip("\n")


def facts() -> dict[str, str]:
    """When, of what and where was measured; nothing by which the machine could be told."""
    cores = psutil.cpu_count() or 0
    memory = psutil.virtual_memory().total / (1 << 30)
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "revision": revision(),
        "machine": f"{cores} cores of {processor()}, {memory:.0f} GiB of memory",
        "versions": f"Python {platform.python_version()}, {packages}",
    }


def processor() -> str:
    """What the processor is called."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def revision() -> str:
    """The commit that is checked out, and whether anything was changed since."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return f"{commit}, with changes" if _git("status", "--porcelain") else commit
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    argv = ("git", "-C", str(REPOSITORY), *arguments)
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def chosen(names: Sequence[str]) -> list[Bench]:
    """The benches of these names, with or without `.py`; all if there are none.

    Raises:
        BadParameter: there is no bench of a name.
    """
    known = {Path(bench.file).stem: bench for bench in BENCHES}
    stems = [name.removesuffix(".py") for name in names]
    for stem in stems:
        if stem not in known:
            problem = f"there is no bench {stem}; there are {', '.join(known)}"
            raise typer.BadParameter(problem, param_hint="--only")
    return [known[stem] for stem in stems] or list(BENCHES)


def main(
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Not all of them, but these.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the page here.")] = None,
    minutes: Annotated[
        float, typer.Option(min=0.1, help="After which a bench is ended and has failed.")
    ] = 15.0,
) -> None:
    """Run every bench that needs no GPU, one after another."""
    if out and not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no directory {out.parent}", param_hint="--out")
    console, benches = Console(stderr=True, soft_wrap=True), chosen(only or ())
    about, runs = facts(), []
    for number, bench in enumerate(benches, 1):
        console.rule(f"{number} of {len(benches)}: {bench.title}")
        console.print(bench.command, style="dim", highlight=False)
        runs.append(run := ran(bench, 60 * minutes))
        console.print(Markdown(run.said))
        console.print(f"{bench.file}: {run.outcome} after {run.seconds:.0f} s")
    if out:
        out.write_text(page(runs, about), encoding="utf-8")
        console.print(f"the page is {out}")
    wrong = [run for run in runs if not run.well]
    for run in wrong:
        console.print(f"{run.bench.file} {run.outcome}", style="red")
    raise typer.Exit(1 if wrong else 0)


if __name__ == "__main__":
    typer.run(main)
