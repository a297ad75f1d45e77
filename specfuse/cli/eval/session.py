"""An evaluation on the command line: its progress, an interruption, the exit code."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from specfuse.cli.complaints import INTERRUPTED
from specfuse.cli.eval.options import Options
from specfuse.cli.eval.results import command_line, tell
from specfuse.errors import SpecFuseError
from specfuse.eval.asking import Mesh
from specfuse.eval.evaluation import Evaluation, Plan
from specfuse.eval.records import ResultsFile
from specfuse.eval.report import Report, report_on

_FAILED = 1


def carried_out(options: Options, run: Callable[[Session], None]) -> int:
    """Asks, then reports. Returns the exit code: 1 if questions failed, 130 if interrupted."""
    console = Console(stderr=True, soft_wrap=True)
    with ResultsFile(options.out, options.suite.name, options.seed) as results:
        session = Session(options, results, console)
        try:
            run(session)
        except KeyboardInterrupt:
            console.print(session.interruption())
            if results.records:
                tell(session.report(), options)
            return INTERRUPTED
        tell(session.report(), options)
    return session.verdict()


class Session:
    """An evaluation with its progress on a console."""

    def __init__(self, options: Options, results: ResultsFile, console: Console) -> None:
        self._options = options
        self._results = results
        self._console = console
        self._plan: Plan | None = None
        self._evaluation: Evaluation | None = None

    def due(self, plan: Plan) -> int:
        """How many answers of the plan are missing. From now on it is the session's plan."""
        self._plan = plan
        return plan.due(self._results)

    async def ask(self, mesh: Mesh, plan: Plan) -> None:
        """Asks everything that has no answer yet."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._evaluation = evaluation = Evaluation(plan, mesh, self._results)
        with Progress(*columns, console=self._console) as progress:
            bar = progress.add_task("answers", total=self.due(plan))
            await evaluation.run(lambda: progress.advance(bar))

    def interruption(self) -> str:
        """How far it got, and how to go on."""
        if self._options.out is None:
            return "Interrupted. With --out FILE nothing would be lost."
        kept = f"{len(self._results.records)} answers are kept in {self._options.out}"
        return f"Interrupted. {kept}; to go on: {command_line()}"

    def report(self) -> Report:
        """The report on all records of the plan."""
        options, systems = self._options, self._plan.systems if self._plan else ()
        return report_on(options.suite, options.seed, systems, self._results.records)

    def verdict(self) -> int:
        """The exit code; says on the console what failed."""
        failures: list[SpecFuseError] = self._evaluation.failures if self._evaluation else []
        if not failures:
            return 0
        self._console.print(
            f"{len(failures)} questions failed, the last one so: {failures[-1].message}. "
            "Run it again to ask them again."
        )
        return _FAILED
