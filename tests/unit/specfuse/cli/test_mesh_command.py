"""Commands in a mesh file: how they are cut, and where their programs are looked for."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from specfuse.cli.mesh_command import Command, check_found, on_port
from specfuse.errors import Misconfigured

COMMAND = TypeAdapter[tuple[str, ...]](Command)

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(program=words, arguments=st.lists(words))
def test_a_line_is_cut_as_a_shell_would_and_a_list_is_taken_as_it_is(
    program: str, arguments: list[str]
) -> None:
    command = [program, "--port={port}", *arguments]
    assert COMMAND.validate_python(command) == tuple(command)
    assert COMMAND.validate_python(shlex.join(command)) == tuple(command)


def test_no_shell_is_involved() -> None:
    command = COMMAND.validate_python("run --port {port} --json '{\"a\": 1}' $HOME *; x | y > z")
    assert on_port(command, 17) == (
        *("run", "--port", "17", "--json", '{"a": 1}', "$HOME", "*;"),
        *("x", "|", "y", ">", "z"),
    )


def test_a_program_is_looked_for_by_its_path_or_in_path(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "server"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    with pytest.raises(Misconfigured, match="there is no program bin/server here"):
        check_found({"command": ("bin/server", "{port}")}, tmp_path)
    program.chmod(0o755)
    check_found({"command": ("bin/server", "{port}")}, tmp_path)
    check_found({"command": (str(program), "{port}")}, Path("/"))
    check_found({"command": ("sh", "{port}")}, tmp_path)
    with pytest.raises(Misconfigured, match=r"models\.a\.command: there is no program nowhere"):
        check_found({"models.a.command": ("nowhere", "{port}")}, tmp_path)
