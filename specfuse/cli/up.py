"""A mesh of processes on loopback: `specfuse up`, and what `specfuse demo` asks."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.text import Text

from specfuse.cli.complaints import INTERRUPTED
from specfuse.cli.mesh_file import AS_THE_FILE_SAYS, Listening, MeshFile
from specfuse.cli.mesh_run import Interrupted, Patience, logs_in, run_mesh, until_serving
from specfuse.cli.mesh_view import MeshView, addresses_table
from specfuse.localmesh import LocalMesh, MeshAddresses

T = TypeVar("T")

DEMO_MESH = Path(__file__).parents[1] / "demo" / "mesh.yaml"
"""The mesh of the shipped experts."""

_DEMO_ARGUMENTS = '--ensemble experts "What is the capital of Peru? Also, what is 17 plus 25?"'
"""What to ask the shipped experts: they know little."""

_EXIT_SECONDS = 10.0
"""What a service may need beyond its own drain to end."""


@dataclass(frozen=True, slots=True)
class MeshOptions:
    """Which mesh to run, where its fuser listens if not where the file says, where logs go.

    `directory` is where relative paths start, if not at the file's own directory.
    """

    file: Path
    listening: Listening = AS_THE_FILE_SAYS
    log_dir: Path | None = None
    directory: Path | None = None


def up(options: MeshOptions, ready_fd: int | None) -> int:
    """Runs a mesh until a signal ends it. Returns the exit code: 0 if it had got ready by then."""
    console = Console(soft_wrap=True)
    exit_code = INTERRUPTED
    http = MeshFile.read(options.file).fuser.http
    has_page = http is None or http.page  # None: only an option can open that door
    arguments = _DEMO_ARGUMENTS if options.file == DEMO_MESH else '"..."'

    async def serve(addresses: MeshAddresses) -> None:
        nonlocal exit_code
        exit_code = 0
        console.print(addresses_table(addresses))
        console.print(_hint(addresses, arguments, has_page=has_page))
        if ready_fd is not None:
            with os.fdopen(ready_fd, "w") as pipe:
                pipe.write(json.dumps(asdict(addresses)) + "\n")
        await asyncio.Event().wait()

    with suppress(Interrupted):
        with_mesh(options, serve)
    return exit_code


def with_mesh(options: MeshOptions, work: Callable[[MeshAddresses], Awaitable[T]]) -> T:
    """The result of the work, done with a running mesh. Progress goes to stderr.

    Raises:
        Interrupted, Misconfigured, Unavailable, DeadlineExceeded: as `run_mesh`.
    """
    directory = (options.directory or options.file.parent).absolute()
    file = MeshFile.read_checked(options.file, options.listening, directory)
    patience = Patience(file.start_timeout_seconds, file.drain_seconds + _EXIT_SECONDS)
    console = Console(stderr=True, soft_wrap=True)
    with logs_in(options.log_dir) as logs, MeshView(console, tuple(file.models)) as view:
        plan = file.plan(directory, logs.directory, options.listening)
        mesh = LocalMesh(plan, logs.directory, until_serving, logs.watching(view.show))
        return asyncio.run(run_mesh(mesh, patience, work))


def _hint(addresses: MeshAddresses, arguments: str, *, has_page: bool) -> Text:
    """What to do next."""
    fuser = addresses.fuser
    hint = Text.assemble(
        ("\nspecfuse ask ", "bold"),
        (f"--address {fuser.address} {arguments}", "bold"),
        ("   Ctrl-C ends the mesh.", "dim"),
    )
    if fuser.http_address:
        hint.append(f'\nOpenAI(base_url="http://{fuser.http_address}/v1")', "bold")
        hint.append(f"   http://{fuser.http_address}/docs describes it.", "dim")
    if fuser.http_address and has_page:
        hint.append(f"\nhttp://{fuser.http_address}/", "bold")
        hint.append("   In a browser: ask, and see who writes what of the answer.", "dim")
    hint.append(f"\n{_top_command(addresses)}", "bold")
    return hint


def _top_command(addresses: MeshAddresses) -> str:
    """The command that watches the mesh."""
    models = (f" --model {name}={one.metrics_address}" for name, one in addresses.models.items())
    return f"specfuse top --fuser {addresses.fuser.metrics_address}{''.join(models)}"
