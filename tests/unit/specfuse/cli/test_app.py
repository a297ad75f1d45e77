"""The command line's face: help, wrong usage, exit codes; and that looking at it costs nothing."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest
import typer
import yaml

from specfuse.cli.app import main
from specfuse.cli.complaints import complaint
from specfuse.config.addresses import listening_socket
from specfuse.errors import (
    Forbidden,
    InvalidArgument,
    Misconfigured,
    NotFound,
    QuorumLost,
    SpecFuseError,
    Unauthenticated,
)

FUSED = {
    "members": {"a": {"endpoints": ["127.0.0.1:1"]}},
    "ensembles": {"all": {"members": ["a"]}},
}
"""The settings of a fuser."""

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


def imported_by(*arguments: str) -> set[str]:
    """What of the outside a command had imported when it ended."""
    program = (
        "import sys; from specfuse.cli.app import main; main(sys.argv[1:]); "
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stderr.splitlines()[-1].split())


def test_help_imports_nothing_heavy():
    heavy = {"asyncio", "grpc", "numpy", "prometheus_client", "pydantic", "torch", "yaml"}
    assert not imported_by("--help") & (heavy | SERVING)


SERVING = {"cryptography", "grpc", "kubernetes", "numpy", "starlette", "tokenizers"} | {
    *("torch", "transformers", "uvicorn"),
}
"""What serves. It takes longest to import."""

TAKEN, FREE = "127.0.0.1:{taken}", "127.0.0.1:0"


@pytest.mark.parametrize(
    ("command", "settings", "says"),
    [
        (("model", "serve"), {"colour": "red"}, "colour: unknown key"),
        (("fuser", "serve"), {"colour": "red"}, "colour: unknown key"),
        (("up",), {"colour": "red"}, "colour: unknown key"),
        (
            ("model", "serve"),
            {"name": "a", "torch": {"model": "m"}, "listen": TAKEN},
            "listen: cannot bind 127.0.0.1:{taken}",
        ),
        (("fuser", "serve"), FUSED | {"listen": TAKEN}, "listen: cannot bind 127.0.0.1:{taken}"),
        (
            ("fuser", "serve"),
            FUSED | {"listen": FREE, "http": {"listen": TAKEN}},
            "http.listen: cannot bind 127.0.0.1:{taken}",
        ),
        (
            ("up",),
            {
                "models": {"a": {"torch": {"model": "m"}, "listen": TAKEN}},
                "fuser": {"ensembles": {"all": {"members": ["a"]}}},
            },
            "models.a.listen: cannot bind 127.0.0.1:{taken}",
        ),
    ],
)
def test_what_is_wrong_is_refused_before_what_serves_is_imported(
    capfd, tmp_path, command, settings, says
):
    with listening_socket("127.0.0.1", 0) as taken:
        taken.listen()
        port = str(taken.getsockname()[1])
        file = tmp_path / "settings.yaml"
        file.write_text(yaml.safe_dump(settings).replace("{taken}", port))
        assert not imported_by(*command, str(file)) & SERVING
        assert main([*command, str(file)]) == 2
    assert says.replace("{taken}", port) in capfd.readouterr().err


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
