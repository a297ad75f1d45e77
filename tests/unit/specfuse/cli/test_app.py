"""The command line's face: help, wrong usage, exit codes; and that looking at it costs nothing."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest
import typer

from specfuse.cli.app import main
from specfuse.cli.complaints import complaint
from specfuse.errors import (
    Forbidden,
    InvalidArgument,
    Misconfigured,
    NotFound,
    QuorumLost,
    SpecFuseError,
    Unauthenticated,
)

COMMANDS = ("ask", "demo", "up", "top", "model", "fuser", "keys")


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    written = capsys.readouterr()
    for command in COMMANDS:
        assert f" {command} " in written.out
    assert written.err == ""


@pytest.mark.parametrize("bare", [[], ["model"], ["fuser"], ["keys"]])
def test_a_bare_command_shows_its_help(capsys, bare):
    assert main(bare) == 0
    assert "Usage: specfuse" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [["ask"], ["demo"], ["up"], ["top"], ["model", "serve"], ["fuser", "serve"], ["keys", "new"]],
)
def test_every_command_explains_itself(capsys, command):
    assert main([*command, "--help"]) == 0
    assert f"Usage: specfuse {' '.join(command)} " in capsys.readouterr().out


def test_the_version_is_the_packages(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"specfuse {metadata.version('specfuse')}\n"


def test_help_imports_nothing_heavy():
    heavy = {
        *("asyncio", "grpc", "numpy", "prometheus_client"),
        *("pydantic", "torch", "transformers", "yaml"),
    }
    program = (
        "import sys; from specfuse.cli.app import main; main(['--help']); "
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["aks"], "No such command 'aks'"),
        (["ask"], "Missing argument 'QUESTION'. Try: specfuse ask --help"),
        (["ask", "--max-tokens", "ten", "?"], "'--max-tokens': Input should be a valid integer"),
        (["ask", "--colour", "red", "?"], "No such option: --colour"),
        (["ask", "--statistic", "mode", "?"], "'--statistic'"),
        (["ask", "--address", " ", "?"], "--address: has an empty one"),
        (["up"], "FILE: give a file, or --demo, and not both"),
        (["up", "mesh.yaml", "--demo"], "FILE: give a file, or --demo, and not both"),
        (["up", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["up", "--demo", "--listen", "foo"], "--listen: 'foo' is not host:port"),
        (["top", "--fuser", "here"], "--fuser: 'here' is not the host:port of a metrics endpoint"),
        (["top", "--interval", "0"], "'--interval': Input should be greater than or equal to 0.1"),
        (["model", "serve"], "Missing argument 'FILE'"),
        (["model", "serve", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["fuser", "serve", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
    ],
)
def test_wrong_usage_is_a_line_on_stderr_and_exit_code_2(capsys, arguments, says):
    assert main(arguments) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("specfuse: ")
    assert says in written.err
    assert written.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (InvalidArgument("max_tokens", "0; at least 1"), "max_tokens: 0; at least 1", 2),
        (Misconfigured("mesh.yaml: no"), "mesh.yaml: no", 2),
        (NotFound("no ensemble x"), "no ensemble x", 2),
        (Unauthenticated("a key is needed"), "a key is needed. A key is sent with --api-key", 2),
        (Forbidden("not for you"), "not for you", 2),
        (QuorumLost("too few"), "too few", 1),
        (SpecFuseError("hm"), "hm", 1),
        (typer.BadParameter("no good"), "Invalid value: no good. Try: specfuse --help", 2),
        (PermissionError(13, "Permission denied", "/logs/a.log"), "/logs/a.log: Permission", 1),
        (OSError(9, "Bad file descriptor"), "Bad file descriptor", 1),
        (ModuleNotFoundError(name="pydantic"), "pip install 'specfuse[services]'", 1),
        (ModuleNotFoundError(name="torch.nn"), "pip install 'specfuse[torch]'", 1),
    ],
)
def test_every_error_has_its_words_and_exit_code(error, said, code):
    message, exit_code = complaint(error)
    assert said in message
    assert exit_code == code


def test_a_bug_is_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        complaint(ZeroDivisionError())
