"""Commands in a mesh file: each starts the server that a model runs on, on a port that is free."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator

from specfuse.config.addresses import listening_socket
from specfuse.config.settings_file import Contradictions, Problem
from specfuse.errors import Misconfigured

PORT: Final = "{port}"
"""What stands for the port in a command."""

_HOST: Final = "127.0.0.1"


def _arguments(value: Any) -> Any:  # noqa: ANN401 (whatever the file holds)
    """A command's arguments: as they are listed, or cut like a shell would."""
    if isinstance(value, str):
        return tuple(shlex.split(value))
    if isinstance(value, list):
        odd = [at for at, argument in enumerate(value) if not isinstance(argument, str)]
        if odd:
            remedy = "is not text; put it in quotes, as in '{port}', '1' or 'off'"
            raise Contradictions([Problem((at,), remedy) for at in odd])
        return value
    raise ValueError("must be a list of arguments, or one line of text")


def _with_port(command: tuple[str, ...]) -> tuple[str, ...]:
    if not command or not command[0]:
        raise ValueError("must begin with the program to run")
    if not any(PORT in argument for argument in command):
        raise ValueError(f"must say where the port goes, as in --port {PORT}")
    return command


Command = Annotated[tuple[str, ...], BeforeValidator(_arguments), AfterValidator(_with_port)]
"""A program and its arguments, as a list or as one line. No shell is involved."""


def check_found(commands: Mapping[str, Command], directory: Path) -> None:
    """Checks that the program of every command, keyed by its setting, is there.

    Paths start at `directory`; names are looked up in PATH.

    Raises:
        Misconfigured: one is not; the message names the setting and the program.
    """
    for setting, (program, *_) in commands.items():
        if shutil.which(str(directory / program) if "/" in program else program) is None:
            raise Misconfigured(
                f"{setting}: there is no program {program} here; install it, or give its path"
            )


def on_port(command: Command, port: int) -> tuple[str, ...]:
    """The command line for this port."""
    return tuple(argument.replace(PORT, str(port)) for argument in command)


def url_of(port: int) -> str:
    """Where the server is asked."""
    return f"http://{_HOST}:{port}"


def free_ports(names: Iterable[str]) -> dict[str, int]:
    """A port for each name, at which nobody listens now."""
    with ExitStack() as held:
        sockets = {name: held.enter_context(listening_socket(_HOST, 0)) for name in names}
        return {name: socket.getsockname()[1] for name, socket in sockets.items()}
