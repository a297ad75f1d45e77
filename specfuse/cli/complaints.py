"""What the command line says when something is wrong, and the exit code it ends with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import typer

from specfuse.errors import (
    Forbidden,
    InvalidArgument,
    Misconfigured,
    NotFound,
    SpecFuseError,
    Unauthenticated,
)

FAILED = 1
MISUSED = 2
INTERRUPTED = 130
"""The exit code that shells give a command that Ctrl-C ended."""

_MISUSE = (InvalidArgument, Misconfigured, NotFound, Forbidden)
_IDENTITY = (
    "A key is sent with --api-key-file FILE or from SPECFUSE_API_KEY, "
    "a certificate with --tls-cert and --tls-key"
)


def complaint(error: Exception) -> tuple[str, int]:
    """The message for a person, and the exit code: 2 if the request or a file is wrong, else 1."""
    match error:
        case typer.TyperException():
            return _usage(error), MISUSED
        case Unauthenticated():
            return f"{_of_a_query(error)}. {_IDENTITY}", MISUSED
        case SpecFuseError():
            return _of_a_query(error), MISUSED if isinstance(error, _MISUSE) else FAILED
        case ModuleNotFoundError(name=str(name)):
            return _missing(name), FAILED
        case OSError():
            return _system(error), FAILED
        case _:
            raise error


def requests(ids: Sequence[str]) -> str:
    """What fusers call a query, for whoever is to look it up there."""
    return f"request{'' if len(ids) == 1 else 's'} {', '.join(ids)}"


def _of_a_query(error: SpecFuseError) -> str:
    return (
        f"{error.message} ({requests(error.request_ids)})" if error.request_ids else error.message
    )


def _usage(error: typer.TyperException) -> str:
    """The problem, and where the options are explained."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "specfuse"
    return f"{error.format_message().rstrip('.')}. Try: {command} --help"


def _system(error: OSError) -> str:
    """What the system refused, and about what."""
    problem = error.strerror or str(error)
    return problem if error.filename is None else f"{error.filename}: {problem}"


def _missing(module: str) -> str:
    """A package that only some commands need is not installed."""
    extra = "services"
    with suppress(ModuleNotFoundError):  # without the services' packages there are no backends
        from model_service.backends.registry import extra_for  # noqa: PLC0415 (heavy)

        extra = extra_for(module.partition(".")[0])
    return f"this command needs the Python package {module}: pip install 'specfuse[{extra}]'"
