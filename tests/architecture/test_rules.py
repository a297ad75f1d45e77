"""The rules of who may import whom refuse what they are there to refuse."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import grimp
import pytest

from tests.support.repository import REPOSITORY
from tests.support.scratch_copy import ScratchCopy

ROOTS = ("specfuse", "fuser_service", "model_service")

PLANTED = {
    "transport in policy": ("fuser_service/service.py", "import grpc", "packages"),
    "transport in a check": ("fuser_service/validation.py", "import grpc", "packages"),
    "transport in a backend": (
        "model_service/backends/torch/scheduler.py",
        "import grpc",
        "packages",
    ),
    "transport in what all share": ("specfuse/errors.py", "import grpc", "packages"),
    "a package in a core": ("fuser_service/core/types.py", "import httpx", "packages"),
    "a package in the other core": ("model_service/core/text.py", "import httpx", "packages"),
    "a package nobody asked for": ("specfuse/cli/report.py", "import numpy", "packages"),
    "torch outside its backend": (
        "model_service/backends/scripted/backend.py",
        "import torch",
        "packages",
    ),
    "a package for types only": (
        "fuser_service/service.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import grpc",
        "packages",
    ),
    "a package within a function": (
        "fuser_service/service.py",
        "def late() -> None:\n    import grpc",
        "packages",
    ),
    "ours in a core": (
        "fuser_service/core/types.py",
        "from specfuse.errors import Internal",
        "cores",
    ),
    "rounds in the mesh": (
        "fuser_service/mesh/member.py",
        "from fuser_service.core.rounds import begin",
        "core",
    ),
    "a service that knows its door": (
        "fuser_service/service.py",
        "from fuser_service.doors.grpc import servicer",
        "services",
    ),
    "a backend that knows its service": (
        "model_service/backends/scripted/backend.py",
        "from model_service import service",
        "services",
    ),
    "the wire in policy": (
        "fuser_service/service.py",
        "from specfuse.v1 import fuser_service_pb2",
        "transport",
    ),
    "a service in the other": (
        "model_service/service.py",
        "from fuser_service.core import types",
        "whole",
    ),
    "training in what a family is": (
        "specfuse/families/description.py",
        "from specfuse.families import training",
        "families",
    ),
    "the command line in a service": (
        "fuser_service/main.py",
        "from specfuse.cli import report",
        "whole",
    ),
    "a service in what it is served by": (
        "specfuse/serving/running.py",
        "from fuser_service import service",
        "whole",
    ),
    "a backend in another": (
        "model_service/backends/torch/backend.py",
        "from model_service.backends.scripted.settings import Line",
        "backends",
    ),
    "a backend that is always loaded": (
        "model_service/backends/registry.py",
        "from model_service.backends.torch import backend",
        "lazy",
    ),
    "what runs models, where they run elsewhere": (
        "model_service/backends/text/files.py",
        "import transformers",
        "lean",
    ),
    "a discovery in another": (
        "fuser_service/mesh/discovery/other/discovery.py",
        "from fuser_service.mesh.discovery.endpoints import discovery",
        "discoveries",
    ),
    "a library that is always loaded": (
        "fuser_service/mesh/discovery/registry.py",
        "from fuser_service.mesh.discovery.kubernetes import discovery",
        "optional",
    ),
    "a loose file in a discovery": (
        "fuser_service/mesh/discovery/kubernetes/helpers.py",
        "",
        "kubernetes",
    ),
    "a door in another": (
        "fuser_service/doors/other/servicer.py",
        "from fuser_service.doors.grpc import wire",
        "doors",
    ),
    "parts that know the whole": (
        "fuser_service/core/shares.py",
        "from fuser_service.core import rounds",
        "fuser-core",
    ),
    "a loose file in a service": ("fuser_service/helpers.py", "", "services"),
    "a loose file in the other": ("model_service/helpers.py", "", "services"),
    "a loose file in what they share": ("specfuse/helpers.py", "", "specfuse"),
    "a loose file in the core": ("fuser_service/core/helpers.py", "", "fuser-core"),
    "a loose file in the mesh": ("fuser_service/mesh/helpers.py", "", "mesh"),
    "a loose file in fusion": ("fuser_service/fusion/helpers.py", "", "fusion"),
    "a loose file in tenancy": ("fuser_service/tenancy/helpers.py", "", "tenancy"),
    "a clock in a window": ("fuser_service/tenancy/window.py", "import time", "packages"),
    "a store for who needs none": (
        "fuser_service/tenancy/counters.py",
        "import limits",
        "packages",
    ),
    "a clock in a core": ("fuser_service/core/rounds.py", "import time", "packages"),
    "chance in a core": ("model_service/core/text.py", "from random import random", "packages"),
    "a server behind a door's back": (
        "fuser_service/service.py",
        "from specfuse.serving.doors import grpc_door",
        "serving",
    ),
    "the copies before the engine": (
        "model_service/backends/torch/tensor_parallel/mirror.py",
        "from model_service.backends.torch.tensor_parallel import ranks",
        "tensor-parallel",
    ),
    "a loose file in settings": ("fuser_service/settings/helpers.py", "", "settings"),
    "a loose file in config": ("specfuse/config/helpers.py", "", "config"),
    "a loose file in serving": ("specfuse/serving/helpers.py", "", "served"),
    "a loose file in the other core": ("model_service/core/helpers.py", "", "model-core"),
    "a loose file in text": ("model_service/backends/text/helpers.py", "", "text"),
    "a loose file in remote": ("model_service/backends/remote/helpers.py", "", "remote"),
    "a loose file in tgi": ("model_service/backends/tgi/helpers.py", "", "tgi"),
    "a loose file in torch": ("model_service/backends/torch/helpers.py", "", "torch"),
    "a loose file in http": ("specfuse/http/helpers.py", "", "http"),
    "a loose file in the OpenAI door": (
        "fuser_service/doors/openai/helpers.py",
        "",
        "openai",
    ),
    "a loose file in rpc": ("specfuse/rpc/helpers.py", "", "rpc"),
    "a loose file in the local mesh": ("specfuse/localmesh/helpers.py", "", "local-mesh"),
    "a loose file in the client": ("specfuse/client/helpers.py", "", "client"),
    "a loose file in tracing": ("specfuse/observability/tracing/helpers.py", "", "tracing"),
    "a loose file in the engine": ("model_service/backends/torch/engine/helpers.py", "", "engine"),
}
"""Violations: the file, what is added to it, and the rule that must be broken."""


def contracts() -> dict[str, dict[str, Any]]:
    """The rules as they are configured, by their ids."""
    document = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    return {contract["id"]: contract for contract in document["tool"]["importlinter"]["contracts"]}


def broken(linted: str) -> set[str]:
    """The ids of the rules that the linter found broken."""
    said = " ".join(linted.split())
    return {rule for rule, contract in contracts().items() if f"{contract['name']} BROKEN" in said}


def make_package(copy: ScratchCopy, file: str) -> None:
    """Has the folder of a new file be a package, as new folders are."""
    if file.split("/")[-2] == "other":
        copy.append(f"{file.rpartition('/')[0]}/__init__.py", "")


def test_the_tree_as_it_is_keeps_them(tmp_path: Path) -> None:
    linted = ScratchCopy(tmp_path / "copy").lint_imports()
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert not broken(linted.stdout)


@pytest.mark.parametrize(("file", "code", "rule"), PLANTED.values(), ids=PLANTED)
def test_a_violation_is_refused(tmp_path: Path, file: str, code: str, rule: str) -> None:
    copy = ScratchCopy(tmp_path / "copy")
    make_package(copy, file)
    copy.append(file, code)
    linted = copy.lint_imports()
    assert linted.returncode == 1, linted.stdout + linted.stderr
    assert rule in broken(linted.stdout), linted.stdout


def test_what_is_allowed_and_no_longer_needed_is_refused(tmp_path: Path) -> None:
    copy = ScratchCopy(tmp_path / "copy")
    copy.replace("pyproject.toml", '"fuser_service" = []', '"fuser_service" = ["httpx"]')
    linted = copy.lint_imports()
    assert "nothing in fuser_service imports httpx" in linted.stdout
    assert broken(linted.stdout) == {"packages"}


def test_the_roots_load_nothing_but_the_client() -> None:
    """Whoever imports a package gets its root, and whatever that imports."""
    graph = grimp.build_graph(*ROOTS, cache_dir=None)
    imported = {root: graph.find_modules_directly_imported_by(root) for root in ROOTS}
    assert imported == {
        "specfuse": {"specfuse.client"},
        "fuser_service": set(),
        "model_service": set(),
    }


def test_the_command_line_answers_for_help_without_loading_the_rest() -> None:
    code = "import specfuse.cli.app, sys; print({'torch', 'grpc', 'pydantic'} & {*sys.modules})"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "set()\n"


def test_no_folder_is_hidden_from_the_linter() -> None:
    """It sees packages only: a folder of modules without an `__init__.py` is none."""
    for root in ROOTS:
        for file in (REPOSITORY / root).rglob("*.py"):
            assert (file.parent / "__init__.py").exists(), file


def test_every_rule_is_seen_to_refuse_something() -> None:
    assert {rule for _, _, rule in PLANTED.values()} == set(contracts())
