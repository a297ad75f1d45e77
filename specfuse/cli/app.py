"""The command line. Heavy things are imported inside the commands, so that help is instant."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from specfuse.cli.complaints import FAILED, INTERRUPTED, complaint
from specfuse.cli.connection import (
    DEFAULT_ADDRESS,
    AllowPlaintextKey,
    ApiKeyFile,
    TlsCa,
    TlsCert,
    TlsKey,
    addresses_of,
    key_of,
    tls_of,
)
from specfuse.cli.eval.app import eval_app, families_app
from specfuse.cli.keys_app import keys_app
from specfuse.cli.top.command import top
from specfuse.errors import InvalidArgument, SpecFuseError
from specfuse.localmesh.handshake import DIE_WITH_OPTION, READY_FD_OPTION

if TYPE_CHECKING:
    from specfuse.client import QueryOptions

app = typer.Typer(
    help="One answer from several language models, fused segment by segment.",
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
model_app = typer.Typer(help="Serve one language model to a mesh.")
fuser_app = typer.Typer(help="Serve the fuser: what callers ask.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit code: 0, 1 for a failure, 2 for a wrong option or file."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its notes on closed connections are noise
    try:
        return int(app(arguments, prog_name="specfuse", standalone_mode=False) or 0)
    except BrokenPipeError:
        # The reader of the output closed it. Python must not complain about that when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (SpecFuseError, typer.TyperException, ModuleNotFoundError, OSError) as error:
        message, exit_code = complaint(error)
        _complain(message)
        return exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def _complain(message: str) -> None:
    """Says on stderr what went wrong, if that can be written: the exit code says it in any case."""
    try:
        sys.stderr.write(f"specfuse: {message}\n")
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # as for stdout, above


# --- options that several commands have -----------------------------------------------------------

_SUPERVISION = "For supervisors"

SettingsFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="The service's settings, in YAML.")
]
Listen = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Serve gRPC here, whatever the file says."),
]
MetricsListen = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Serve metrics here, whatever the file says."),
]
HttpListen = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Serve OpenAI's API here, and a page at /, whatever the file says.",
    ),
]
ReadyFd = Annotated[
    int | None,
    typer.Option(
        READY_FD_OPTION,
        metavar="FD",
        min=0,
        help="When ready, write the bound addresses to this file descriptor, a line of JSON.",
        rich_help_panel=_SUPERVISION,
    ),
]
DieWith = Annotated[
    int | None,
    typer.Option(
        DIE_WITH_OPTION,
        metavar="PID",
        help="Be killed when this process, the parent, ends (Linux).",
        rich_help_panel=_SUPERVISION,
    ),
]
LogDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Keep the services' logs and settings here. Default: a temporary directory, "
        "removed if all went well.",
    ),
]

# --- asking ---------------------------------------------------------------------------------------

_ANSWER, _SAMPLING, _OVERRIDES = "Answer", "Sampling", "Overrides of the ensemble"


@app.command(rich_help_panel="Ask")
def ask(  # noqa: PLR0913 (an option each)
    question: Annotated[
        str,
        typer.Argument(metavar="QUESTION", help="What to ask; [bold]-[/bold] reads it from stdin."),
    ],
    *,
    address: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT[,...]",
            envvar="SPECFUSE_ADDRESS",
            help="The fuser's. Of several, the next goes on when one fails. May be given again.",
            show_default=DEFAULT_ADDRESS,
        ),
    ] = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    api_key_file: ApiKeyFile = None,
    allow_plaintext_key: AllowPlaintextKey = False,
    ensemble: Annotated[
        str, typer.Option(help="Which ensemble answers. May be left out if there is only one.")
    ] = "",
    trace: Annotated[
        bool, typer.Option("--trace", help="Show every round: proposals, shares, winner, times.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with the answer and its rounds.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, metavar="SECONDS", help="Give up after so long.")
    ] = None,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="The models continue the text as it is: no chat template."),
    ] = False,
    max_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of answer.", rich_help_panel=_ANSWER)
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="End the answer before this text. May be given several times.",
            rich_help_panel=_ANSWER,
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="0, which is greedy, to 2.", rich_help_panel=_SAMPLING),
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Nucleus mass, up to 1.", rich_help_panel=_SAMPLING)
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(help="Keep so many most probable tokens.", rich_help_panel=_SAMPLING),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Makes a sampled answer repeatable.", rich_help_panel=_SAMPLING),
    ] = None,
    segment_tokens: Annotated[
        int | None,
        typer.Option(help="Most tokens a model drafts a round.", rich_help_panel=_OVERRIDES),
    ] = None,
    statistic: Annotated[
        Literal["geometric", "mean_probability", "per_byte"] | None,
        typer.Option(
            metavar="NAME",
            help="A verifier's opinion is its geometric, mean_probability or per_byte.",
            rich_help_panel=_OVERRIDES,
        ),
    ] = None,
    weighting: Annotated[
        Literal["uniform", "hedge"] | None,
        typer.Option(
            metavar="NAME",
            help="Verifiers' weights: uniform, or hedge, which rewards winners.",
            rich_help_panel=_OVERRIDES,
        ),
    ] = None,
    exit_policy: Annotated[
        Literal["none", "entropy_softmax"] | None,
        typer.Option(
            metavar="NAME",
            help="Who leaves early: none, or by entropy_softmax.",
            rich_help_panel=_OVERRIDES,
        ),
    ] = None,
    recall: Annotated[
        bool | None,
        typer.Option(help="Whether models that left may return.", rich_help_panel=_OVERRIDES),
    ] = None,
    self_judgement: Annotated[
        bool | None,
        typer.Option(help="Whether models judge themselves too.", rich_help_panel=_OVERRIDES),
    ] = None,
    fast_finish: Annotated[
        bool | None,
        typer.Option(help="Take an end without scoring it.", rich_help_panel=_OVERRIDES),
    ] = None,
) -> None:
    """Ask a fuser; the answer streams to stdout.

    Example: [bold]specfuse ask --trace "What is the capital of France, and 17 plus 25?"[/bold]
    """
    from specfuse.cli import ask as asking  # noqa: PLC0415 (heavy)
    from specfuse.client import Client  # noqa: PLC0415

    if trace and as_json:
        raise InvalidArgument("--trace", "--json shows the rounds already; give one of them")
    view = asking.JsonView() if as_json else asking.TraceView() if trace else asking.PlainView()
    options: QueryOptions = {
        "ensemble": ensemble,
        "timeout": timeout,
        "max_tokens": max_tokens,
        "stop": stop or (),
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "seed": seed,
        "segment_tokens": segment_tokens,
        "statistic": statistic,
        "weighting": weighting,
        "exit_policy": exit_policy,
        "recall": recall,
        "self_judgement": self_judgement,
        "fast_finish": fast_finish,
    }
    client = Client(
        addresses_of(address),
        tls=tls_of(tls_ca, tls_cert, tls_key),
        api_key=key_of(api_key_file),
        allow_plaintext_key=allow_plaintext_key,
    )
    asking.ask(client, asking.prompt_from(question, raw=raw), options, view)


@app.command(rich_help_panel="Ask")
def demo(
    *,
    question: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Ask this instead of the demo's questions.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
    log_dir: LogDir = None,
) -> int:
    """Start a mesh of five tiny experts, ask it questions, and show how the answers came about.

    No expert can answer a question of several parts alone; fused, they can.
    """
    from specfuse.cli.ask import question_from  # noqa: PLC0415 (heavy)
    from specfuse.cli.demo import run_demo, run_question  # noqa: PLC0415

    if question is not None:
        return run_question(question_from(question), as_json=as_json, log_dir=log_dir)
    return run_demo(as_json=as_json, log_dir=log_dir)


# --- running --------------------------------------------------------------------------------------


@app.command(rich_help_panel="Run")
def up(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="The mesh, in YAML.")
    ] = None,
    *,
    demo_mesh: Annotated[
        bool, typer.Option("--demo", help="Run the mesh of the five shipped experts.")
    ] = False,
    listen: Listen = None,
    http_listen: HttpListen = None,
    log_dir: LogDir = None,
    ready_fd: ReadyFd = None,
) -> int:
    """Run a mesh on this machine: a process per model service, and a fuser.

    Servers that models run on are started too, where the file has a command for it. Ctrl-C drains
    everything, the fuser first; a second Ctrl-C kills it.
    """
    if demo_mesh == (file is not None):
        raise InvalidArgument("FILE", "give a file, or --demo, and not both")
    from specfuse.cli.mesh_file import Listening, MeshFile  # noqa: PLC0415 (heavy)

    listening = Listening(listen, http_listen)
    if file is not None:  # what runs a mesh takes long to import, too
        MeshFile.read_checked(file, listening, file.parent.absolute())
    from specfuse.cli.up import DEMO_MESH, MeshOptions  # noqa: PLC0415
    from specfuse.cli.up import up as run  # noqa: PLC0415

    return run(MeshOptions(file or DEMO_MESH, listening, log_dir), ready_fd)


@model_app.command("serve")
def serve_model(
    file: SettingsFile,
    *,
    listen: Listen = None,
    metrics_listen: MetricsListen = None,
    ready_fd: ReadyFd = None,
    die_with: DieWith = None,
) -> None:
    """Serve one model over gRPC until SIGTERM or Ctrl-C, then drain.

    The file says which model:

        name: llama
        torch: {model: /models/llama}
    """
    from specfuse.cli import serve  # noqa: PLC0415 (heavy)

    overrides = _given(listen=listen, metrics_listen=metrics_listen)
    serve.serve_model(file, overrides, serve.Supervision(ready_fd, die_with))


@fuser_app.command("serve")
def serve_fuser(
    file: SettingsFile,
    *,
    listen: Listen = None,
    metrics_listen: MetricsListen = None,
    ready_fd: ReadyFd = None,
    die_with: DieWith = None,
) -> None:
    """Serve the fuser over gRPC until SIGTERM or Ctrl-C, then drain.

    The file says which models there are and which of them answer together:

        members:
          llama: {endpoints: [llama-0:50051]}
          qwen: {endpoints: [qwen-0:50051]}
        ensembles:
          assistant: {members: [llama, qwen]}
    """
    from specfuse.cli import serve  # noqa: PLC0415 (heavy)

    overrides = _given(listen=listen, metrics_listen=metrics_listen)
    serve.serve_fuser(file, overrides, serve.Supervision(ready_fd, die_with))


def _given(**options: str | None) -> dict[str, str]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


# --- the whole ------------------------------------------------------------------------------------


@model_app.callback(invoke_without_command=True)
@fuser_app.callback(invoke_without_command=True)
@keys_app.callback(invoke_without_command=True)
@families_app.callback(invoke_without_command=True)
def _help_if_bare(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        context.get_help()


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib import metadata  # noqa: PLC0415 (heavy)

        sys.stdout.write(f"specfuse {metadata.version('specfuse')}\n")
    elif context.invoked_subcommand is None:
        context.get_help()


app.add_typer(eval_app, name="eval", rich_help_panel="Ask")
app.command("top", rich_help_panel="Run")(top)
app.add_typer(model_app, name="model", rich_help_panel="Run")
app.add_typer(fuser_app, name="fuser", rich_help_panel="Run")
app.add_typer(keys_app, name="keys", rich_help_panel="Run")
