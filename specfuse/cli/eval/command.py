"""Does fusing pay? The command `specfuse eval` and its options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specfuse.cli.connection import (
    AllowPlaintextKey,
    ApiKeyFile,
    TlsCa,
    TlsCert,
    TlsKey,
    key_of,
    tls_of,
)
from specfuse.errors import InvalidArgument

if TYPE_CHECKING:
    from specfuse.client import ClientTls

_ABLATION_DIRECTORY = Path("docs/results")
_WHOM, _HOW, _RESULTS = "Who is asked", "What and how", "Results"


def evaluate(  # noqa: PLR0913 (an option each)
    context: typer.Context,
    *,
    suite: Annotated[
        str,
        typer.Option(
            metavar="compound|FILE",
            help='Generated questions of the demo, or a file with {"prompt", "answer"} on a line.',
            rich_help_panel=_HOW,
        ),
    ] = "compound",
    family: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR",
            help="Generated questions of a family, shipped or made, whose experts are asked: "
            "[bold]specfuse eval families[/bold].",
            rich_help_panel=_HOW,
        ),
    ] = None,
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
        typer.Option(
            min=1,
            help="How many: 100 of compound, a file's all, 10 of each kind of a family's.",
            rich_help_panel=_HOW,
        ),
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
    try_: Annotated[
        list[str] | None,
        typer.Option(
            "--try",
            metavar="NAME=SETTINGS",
            help="Compare an ensemble with these settings of a fuser's file, too, with the default "
            "if no --config is given: --try longer='stretch: 4'. May be given several times.",
            rich_help_panel=_WHOM,
        ),
    ] = None,
    member: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=HOST:PORT",
            help="A model service of a running mesh, to score whole responses. "
            "Give one for each member.",
            rich_help_panel=_WHOM,
        ),
    ] = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    api_key_file: ApiKeyFile = None,
    allow_plaintext_key: AllowPlaintextKey = False,
    ablate: Annotated[
        bool,
        typer.Option(
            "--ablate",
            help="Vary each choice of the default instead; the table and charts go to "
            f"{_ABLATION_DIRECTORY} unless --plot says otherwise.",
            rich_help_panel=_WHOM,
        ),
    ] = False,
    oracle: Annotated[
        bool,
        typer.Option(
            "--oracle",
            help="Ask also one who knows the right answer and chooses among members' segments: "
            "no choice can be better.",
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
    if context.invoked_subcommand is not None:
        return 0
    # Imported late: evaluation is heavy, and the other commands do without it.
    from specfuse.cli.eval import meshes  # noqa: PLC0415
    from specfuse.cli.eval.options import (  # noqa: PLC0415
        Asked,
        Options,
        addresses_of,
        suite_of,
        tried_of,
    )
    from specfuse.cli.eval.results import check_charts  # noqa: PLC0415
    from specfuse.client import AsyncClient  # noqa: PLC0415
    from specfuse.eval.suites import COMPOUND  # noqa: PLC0415
    from specfuse.families.directory import MESH  # noqa: PLC0415
    from specfuse.families.registry import directory_of  # noqa: PLC0415

    if address and (mesh or ablate or try_):
        raise InvalidArgument("--address", "excludes --mesh, --ablate and --try: they start a mesh")
    if family is not None and (mesh or suite != COMPOUND):
        raise InvalidArgument("--family", "has its own questions and experts: drop --suite, --mesh")
    tls = tls_of(tls_ca, tls_cert, tls_key)
    if not address:
        _check_started(member, tls, api_key_file)
    elif oracle and not member:
        raise InvalidArgument("--member", "is missing; --oracle asks the members themselves")
    directory = None if family is None else directory_of(family)
    choosing = "--ablate" if ablate else "--try" if try_ else None
    options = Options(
        suite=suite_of(Asked(suite, match, directory, questions, seed, choosing)),
        seed=seed,
        concurrency=concurrency,
        max_tokens=max_tokens,
        configurations=tuple(config or ()),
        tried=tried_of(try_ or ()),
        oracle=oracle,
        ablate=ablate,
        out=out,
        as_json=as_json,
        plot=plot or (_ABLATION_DIRECTORY if ablate else None),
    )
    check_charts(options.plot)
    if address:
        fuser = AsyncClient(
            address,
            tls=tls,
            api_key=key_of(api_key_file),
            allow_plaintext_key=allow_plaintext_key,
        )
        return meshes.over_running(fuser, addresses_of(member or ()), tls, options)
    return meshes.over_own(directory / MESH if directory else mesh, options)


def _check_started(
    member: list[str] | None, tls: ClientTls | None, api_key_file: Path | None
) -> None:
    """A mesh that is started here takes none of these."""
    if member:
        raise InvalidArgument("--member", "a started mesh knows its members; drop it")
    if tls:
        raise InvalidArgument("--address", "is missing; a started mesh speaks no TLS")
    if api_key_file:
        raise InvalidArgument("--address", "is missing; a started mesh asks for no key")
