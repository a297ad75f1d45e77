"""Does fusing pay? `specfuse eval`."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specfuse.cli.complaints import INTERRUPTED
from specfuse.cli.connection import TlsCa, TlsCert, TlsKey, tls_of
from specfuse.errors import InvalidArgument, Misconfigured, SpecFuseError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from rich.console import Console

    from specfuse.eval.asking import Mesh
    from specfuse.eval.configurations import Configuration
    from specfuse.eval.evaluation import Evaluation, Plan
    from specfuse.eval.records import ResultsFile
    from specfuse.eval.report import Report
    from specfuse.eval.suites import Suite

_FAILED = 1
_ABLATION_DIRECTORY = Path("docs/results")
_WIDTH = 200
"""Columns that all tables fit into: a narrow terminal wraps their lines, but no number is lost."""
_WHOM, _HOW, _RESULTS = "Who is asked", "What and how", "Results"


def evaluate(  # noqa: PLR0913 (an option each)
    *,
    suite: Annotated[
        str,
        typer.Option(
            metavar="compound|FILE",
            help='Generated questions of the demo, or a file with {"prompt", "answer"} on a line.',
            rich_help_panel=_HOW,
        ),
    ] = "compound",
    match: Annotated[
        str,
        typer.Option(
            metavar="exact|contains",
            help="When an answer to a file is right.",
            rich_help_panel=_HOW,
        ),
    ] = "exact",
    questions: Annotated[
        int | None,
        typer.Option(min=1, help="How many: 100 of compound, a file's all.", rich_help_panel=_HOW),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Chooses the generated questions.", rich_help_panel=_HOW)
    ] = 0,
    concurrency: Annotated[
        int,
        typer.Option(min=1, max=64, help="Questions under way at a time.", rich_help_panel=_HOW),
    ] = 8,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of an answer.", rich_help_panel=_HOW)
    ] = None,
    address: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="The fuser of a running mesh. Without it a mesh is started.",
            rich_help_panel=_WHOM,
        ),
    ] = "",
    mesh: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Start the models of this mesh file instead of the demo's.",
            rich_help_panel=_WHOM,
        ),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Compare only these: configurations, or a running mesh's ensembles. "
            "May be given several times.",
            rich_help_panel=_WHOM,
        ),
    ] = None,
    member: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=HOST:PORT",
            help="A model service of a running mesh, to judge whole responses. "
            "Give one for each member.",
            rich_help_panel=_WHOM,
        ),
    ] = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    ablate: Annotated[
        bool,
        typer.Option(
            "--ablate",
            help="Vary each choice of the default instead; the table and charts go to "
            f"{_ABLATION_DIRECTORY} unless --plot says otherwise.",
            rich_help_panel=_WHOM,
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Append every answer here, and go on from what is there already.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=_RESULTS)
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write charts here, and the tables in Markdown.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
) -> int:
    """Measure quality, calls and time: members alone, the best whole response, and fused.

    Example: [bold]specfuse eval --questions 200 --out results.jsonl --plot charts[/bold]
    """
    if address and (mesh or ablate):
        raise InvalidArgument("--address", "excludes --mesh and --ablate, which start a mesh")
    if member and not address:
        raise InvalidArgument("--member", "a started mesh knows its members; drop it")
    tls = tls_of(tls_ca, tls_cert, tls_key)
    if tls and not address:
        raise InvalidArgument("--address", "is missing; a started mesh speaks no TLS")
    options = Options(
        suite=suite_of(suite, match, questions, seed),
        seed=seed,
        concurrency=concurrency,
        max_tokens=max_tokens,
        configurations=tuple(config or ()),
        ablate=ablate,
        out=out,
        as_json=as_json,
        plot=plot or (_ABLATION_DIRECTORY if ablate else None),
    )
    _check_charts(options.plot)
    if address:
        from specfuse.eval.asking import Mesh  # noqa: PLC0415 (heavy)

        return _over_running_mesh(Mesh(address, addresses_of(member or ()), tls), options)
    return _over_own_mesh(mesh, options)


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked, how, and where the results go."""

    suite: Suite
    seed: int
    concurrency: int
    max_tokens: int | None
    configurations: tuple[str, ...]
    ablate: bool
    out: Path | None
    as_json: bool
    plot: Path | None


def suite_of(name: str, match: str, questions: int | None, seed: int) -> Suite:
    """The suite that the options name.

    Raises:
        InvalidArgument, Misconfigured: there is none.
    """
    from specfuse.eval.suites import COMPOUND, CompoundSuite, FileSuite, Match  # noqa: PLC0415

    if name == COMPOUND:
        return CompoundSuite(seed, questions or 100)
    if match not in Match.__members__.values():
        raise InvalidArgument("--match", f"{match!r} is not one of {', '.join(Match)}")
    return FileSuite(Path(name), Match(match), questions)


def addresses_of(members: Iterable[str]) -> dict[str, str]:
    """The addresses of model services, by member.

    Raises:
        InvalidArgument: one is not NAME=HOST:PORT, or a name comes twice.
    """
    addresses: dict[str, str] = {}
    for one in members:
        name, equals, address = one.partition("=")
        if not (name and equals and address):
            raise InvalidArgument("--member", f"{one!r} is not like llama=127.0.0.1:50051")
        if name in addresses:
            raise InvalidArgument("--member", f"{name} is given twice")
        addresses[name] = address
    return addresses


def _check_charts(directory: Path | None) -> None:
    """Says before anything is measured, rather than after, that charts cannot be written."""
    if directory is None:
        return
    if find_spec("matplotlib") is None:
        raise Misconfigured("--plot: needs the Python package matplotlib: pip install matplotlib")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise _unwritable(directory, error) from error


def _unwritable(directory: Path, error: OSError) -> Misconfigured:
    return Misconfigured(f"--plot {directory}: cannot be written: {error.strerror}")


# --- whom to ask ----------------------------------------------------------------------------------


def _over_own_mesh(file: Path | None, options: Options) -> int:
    import yaml  # noqa: PLC0415 (heavy, as all below)

    from specfuse.cli.mesh_run import Interrupted  # noqa: PLC0415
    from specfuse.cli.up import DEMO_MESH, MeshOptions, with_mesh  # noqa: PLC0415
    from specfuse.eval.asking import Mesh  # noqa: PLC0415
    from specfuse.eval.configurations import PRESETS, ablations  # noqa: PLC0415
    from specfuse.eval.meshes import fingerprints, located, mesh_for  # noqa: PLC0415

    file = file or DEMO_MESH
    chosen = _chosen(ablations() if options.ablate else PRESETS, options.configurations)
    document = mesh_for(file, chosen)
    plan = _plan(
        options,
        () if options.ablate else tuple(document["models"]),
        [one.name for one in chosen],
        fingerprints(document, options.max_tokens),
    )

    def run(session: _Session) -> None:
        if not session.due(plan):
            return
        with tempfile.TemporaryDirectory(prefix="specfuse-eval-") as directory:
            generated = Path(directory) / "mesh.yaml"
            movable = yaml.safe_dump(located(document, file.parent), sort_keys=False)
            generated.write_text(movable, encoding="utf-8")

            async def work(endpoints: Any) -> None:  # noqa: ANN401 (MeshEndpoints, imported late)
                judges = {name: at.address for name, at in endpoints.models.items()}
                async with Mesh(endpoints.fuser.address, judges) as mesh:
                    await session.ask(mesh, plan)

            try:
                with_mesh(MeshOptions(generated), work)
            except Interrupted:
                raise KeyboardInterrupt from None

    return _carried_out(options, run)


def _chosen(known: Iterable[Configuration], names: tuple[str, ...]) -> tuple[Configuration, ...]:
    """The configurations of these names, or all if there are none."""
    by_name = {one.name: one for one in known}
    for name in names:
        if name not in by_name:
            problem = f"there is no {name!r}; there are {', '.join(by_name)}"
            raise InvalidArgument("--config", problem)
    return tuple(by_name[name] for name in names or by_name)


def _over_running_mesh(mesh: Mesh, options: Options) -> int:
    async def ask(session: _Session) -> None:
        async with mesh:
            plan = running_plan(options, await mesh.ensembles(), mesh.judges)
            if session.due(plan):
                await session.ask(mesh, plan)

    def run(session: _Session) -> None:
        asyncio.run(ask(session))

    return _carried_out(options, run)


def running_plan(
    options: Options, ensembles: Mapping[str, tuple[str, ...]], judges: Collection[str]
) -> Plan:
    """Ensembles of one member are singles; of the others all are compared, or those chosen.

    Raises:
        InvalidArgument: a chosen ensemble does not exist, or some members cannot judge.
    """
    singles = {members[0]: name for name, members in ensembles.items() if len(members) == 1}
    several = [name for name, members in ensembles.items() if len(members) > 1]
    for name in options.configurations:
        if name not in ensembles:
            problem = f"there is no ensemble {name!r}; there are {', '.join(ensembles)}"
            raise InvalidArgument("--config", problem)
    if judges and set(judges) != set(singles):
        raise InvalidArgument(
            "--member",
            "whole responses need an ensemble of each member alone, and its address: "
            f"alone there are {', '.join(singles) or 'none'}",
        )
    fused = list(options.configurations) or several
    # A fuser does not tell by which rules its ensembles answer, only who is in them.
    settings = {name: f"{members} {options.max_tokens}" for name, members in ensembles.items()}
    return _plan(options, tuple(singles.values()), fused, settings, best_response=bool(judges))


def _plan(
    options: Options,
    singles: tuple[str, ...],
    fused: list[str],
    settings: Mapping[str, str],
    *,
    best_response: bool = True,
) -> Plan:
    from specfuse.eval.evaluation import Plan  # noqa: PLC0415

    return Plan(
        suite=options.suite,
        singles=singles,
        best_response=best_response and bool(singles),
        fused=tuple(fused),
        settings=settings,
        max_tokens=options.max_tokens,
        concurrency=options.concurrency,
    )


# --- asking, and telling --------------------------------------------------------------------------


def _carried_out(options: Options, run: Callable[[_Session], None]) -> int:
    """Asks, then reports. Returns the exit code: 1 if questions failed, 130 if interrupted."""
    from rich.console import Console  # noqa: PLC0415

    from specfuse.eval.records import ResultsFile  # noqa: PLC0415

    console = Console(stderr=True, soft_wrap=True)
    with ResultsFile(options.out, options.suite.name, options.seed) as results:
        session = _Session(options, results, console)
        try:
            run(session)
        except KeyboardInterrupt:
            console.print(session.interruption())
            if results.records:
                _tell(session.report(), options)
            return INTERRUPTED
        _tell(session.report(), options)
    return session.verdict()


class _Session:
    """An evaluation with its progress on a console."""

    def __init__(self, options: Options, results: ResultsFile, console: Console) -> None:
        self._options = options
        self._results = results
        self._console = console
        self._plan: Plan | None = None
        self._evaluation: Evaluation | None = None

    def due(self, plan: Plan) -> int:
        """How many answers of the plan, which from now on is the session's, there are not yet."""
        self._plan = plan
        return plan.due(self._results)

    async def ask(self, mesh: Mesh, plan: Plan) -> None:
        """Asks everything that has no answer yet."""
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        from specfuse.eval.evaluation import Evaluation  # noqa: PLC0415

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
        return f"Interrupted. {kept}; to go on: {command()}"

    def report(self) -> Report:
        """What all records of the plan come to."""
        from specfuse.eval.report import report_on  # noqa: PLC0415

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


def command() -> str:
    """The command line that runs."""
    return shlex.join(["specfuse", *sys.argv[1:]])


def _tell(report: Report, options: Options) -> None:
    from rich.console import Console  # noqa: PLC0415

    from specfuse.eval import tables  # noqa: PLC0415

    if options.as_json:
        json.dump(report.to_document(), sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        console = Console(highlight=False, width=_WIDTH)
        console.print(tables.terminal_table(tables.main_rows(report)))
        console.print()
        console.print(tables.terminal_table(tables.error_rows(report)))
    if options.plot is not None:
        _write(report, options.plot, "ablation" if options.ablate else "evaluation")


def _write(report: Report, directory: Path, stem: str) -> None:
    from specfuse.eval.charts import draw  # noqa: PLC0415
    from specfuse.eval.tables import markdown  # noqa: PLC0415

    try:
        charts = draw(report, directory, stem)
        page = markdown(report, command(), charts)
        (directory / f"{stem}.md").write_text(page, encoding="utf-8")
    except OSError as error:
        raise _unwritable(directory, error) from error
