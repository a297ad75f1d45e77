"""The committed stubs are what the contract generates, and the contract keeps its own rules."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.repository import REPOSITORY as ROOT

PROTOS = sorted((ROOT / "proto" / "specfuse" / "v1").glob("*.proto"))
SERVICES = [path for path in PROTOS if path.stem.endswith("_service")]


def generate(out: Path, protos: list[Path], *kinds: str) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "proto")]
    command += [f"--{kind}={'quiet:' if 'mypy' in kind else ''}{out}" for kind in kinds]
    plugins = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [*command, *map(str, protos)], check=True, timeout=60, env={**os.environ, "PATH": plugins}
    )


def test_stubs_are_up_to_date(tmp_path: Path) -> None:
    generate(tmp_path, PROTOS, "python_out", "mypy_out")
    generate(tmp_path, SERVICES, "grpc_python_out", "mypy_grpc_out")
    generated = {path.name: path.read_text() for path in (tmp_path / "specfuse/v1").iterdir()}
    committed = {
        path.name: path.read_text()
        for path in (ROOT / "specfuse/v1").iterdir()
        if path.suffix in {".py", ".pyi"} and path.name != "__init__.py"
    }
    assert committed.keys() == generated.keys(), "run `make proto`"
    stale = [name for name, text in generated.items() if committed[name] != text]
    assert not stale, "run `make proto`"


@pytest.mark.parametrize("proto", PROTOS, ids=lambda path: path.name)
def test_every_field_is_commented(proto: Path) -> None:
    lines = proto.read_text().splitlines()
    field = re.compile(r"^\s+(?:optional |repeated )?[\w.]+ \w+ = \d+;|^\s+[A-Z_]+ = \d+;")
    silent = [
        line.strip()
        for before, line in itertools.pairwise(lines)
        if field.match(line) and not before.strip().startswith("//")
    ]
    assert not silent
