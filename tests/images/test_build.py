"""The images as `make images` builds them, and a mesh of the two."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from specfuse.localmesh import ServiceAddresses
from tests.support.command import PATIENCE_SECONDS, running
from tests.support.image_root import Image, missing_to_build, mounted
from tests.support.repository import REPOSITORY

BASE = "debian:bookworm-slim"
TAG = "tested"
BUILD_SECONDS = 1800
ENTRY_POINT = ("specfuse",)
FREE = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(BUILD_SECONDS),
    pytest.mark.skipif(bool(missing_to_build(BASE)), reason=missing_to_build(BASE)),
]

LOOK = """
import importlib.util, json, shutil, sys
names = ("torch", "transformers", "tokenizers", "numpy", "pip")
programs = ("pip", "pip3", "gcc", "cc", "g++", "make")
print(json.dumps({
    "packages": [name for name in names if importlib.util.find_spec(name)],
    "programs": [name for name in programs if shutil.which(name)],
}))
"""
"""Says which of some packages and programs are there."""


def pip_of_this_machine(directory: Path) -> dict[str, str]:
    """What `make images` is given, so that pip finds there what it finds here."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    said = dict(re.findall(r"^[\w:]+?\.?([a-z-]+)='(.*)'$", listed.stdout, re.MULTILINE))
    taken = {name: said[name] for name in ("index-url", "find-links", "proxy") if name in said}
    file = directory / "pip.conf"
    file.write_text("[global]\n" + "".join(f"{name} = {taken[name]}\n" for name in taken))
    variables = {"PIP_CONF": str(file)}
    if "cert" in said:
        variables["CA"] = said["cert"]
    folder = taken.get("find-links", "")
    if Path(folder).is_dir():
        variables["BUILD_FLAGS"] = f"--volume {folder}:{folder}:ro"
    return variables


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Iterator[dict[str, Image]]:
    """Both images, built and mounted, by service."""
    given = {"TAG": TAG, "BASE": BASE, "SBOM": "1", "BUILDAH_ISOLATION": "chroot"}
    built = subprocess.run(
        ["make", "images"],
        cwd=REPOSITORY,
        env=os.environ | given | pip_of_this_machine(tmp_path_factory.mktemp("pip")),
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert built.returncode == 0, built.stdout[-4000:] + built.stderr[-4000:]
    with ExitStack() as stack:
        yield {
            service: stack.enter_context(mounted(f"specfuse-{service}:{TAG}"))
            for service in ("fuser", "model")
        }


@pytest.fixture
def settings(tmp_path) -> Path:
    """The directory that is mounted at /etc/specfuse."""
    directory = tmp_path / "settings"
    directory.mkdir()
    directory.chmod(0o755)
    return directory


def ran(image: Image, settings: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command in an image, at its end."""
    return subprocess.run(
        [*image.runs(settings), *command],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def write(settings: Path, name: str, document: dict[str, Any]) -> str:
    """Writes a file of settings; returns its path in the image."""
    (settings / name).write_text(yaml.safe_dump(FREE | document))
    (settings / name).chmod(0o644)
    return f"/etc/specfuse/{name}"


@pytest.mark.parametrize("service", ["fuser", "model"])
def test_an_image_says_what_it_is(images, settings, service):
    image = images[service]
    assert ran(image, settings, *ENTRY_POINT, "--version").stdout == f"specfuse {VERSION}\n"
    assert tuple(image.config["Entrypoint"]) == ENTRY_POINT
    said = {name.rpartition(".")[2]: text for name, text in image.config["Labels"].items()}
    assert (said["title"], said["version"]) == (f"specfuse-{service}", VERSION)
    assert re.fullmatch("[0-9a-f]{40}(-dirty)?", said["revision"])
    assert datetime.fromisoformat(said["created"]) < datetime.now(UTC)


@pytest.mark.parametrize("service", ["fuser", "model"])
def test_nobody_can_become_root_or_change_the_image(images, settings, service):
    image = images[service]
    assert ran(image, settings, "id", "--user").stdout == "65532\n"
    for file in ("/x", "/etc/x", "/opt/specfuse/x"):
        assert "Read-only file system" in ran(image, settings, "touch", file).stderr
    assert ran(image, settings, "touch", "/tmp/x").returncode == 0
    found = subprocess.run(
        ["find", image.root, "-xdev", "-type", "f", "-perm", "/6000"],
        capture_output=True,
        check=True,
    )
    assert not found.stdout


def test_only_the_model_image_has_what_runs_models_and_none_what_builds(images, settings):
    found = {
        service: json.loads(ran(image, settings, "python", "-c", LOOK).stdout)
        for service, image in images.items()
    }
    runs_models = ["torch", "transformers", "tokenizers", "numpy"]
    assert found == {
        "fuser": {"packages": [], "programs": []},
        "model": {"packages": runs_models, "programs": []},
    }


@pytest.mark.parametrize("service", ["fuser", "model"])
def test_nothing_is_compiled_at_the_start(images, settings, service):
    modules = "import asyncio, grpc, specfuse.cli.app, specfuse.cli.serve"
    said = ran(images[service], settings, "python", "-v", "-c", modules).stderr
    assert "specfuse/cli/__pycache__/serve.cpython-311.pyc" in said
    assert not re.findall(r"^# code object from .*\.py.?$", said, re.MULTILINE)


def test_a_mesh_of_the_two_answers_and_drains(images, settings):
    model, fuser = (images[service].runs(settings) for service in ("model", "fuser"))
    expert = {"model": "/opt/specfuse/experts/opposites", "local_files_only": True, "threads": 1}
    file = write(settings, "model.yaml", {"name": "opposites", "torch": expert})
    with running("model", "serve", file, prefix=model, command=ENTRY_POINT) as one:
        members = {"opposites": {"endpoints": [ServiceAddresses(**one.ready).address]}}
        ensembles = {"one": {"members": ["opposites"]}}
        file = write(settings, "fuser.yaml", {"members": members, "ensembles": ensembles})
        with running("fuser", "serve", file, prefix=fuser, command=ENTRY_POINT) as other:
            asking = ("ask", "--address", str(other.ready["address"]))
            question = "What is the opposite of hot?"
            asked = ran(images["fuser"], settings, *ENTRY_POINT, *asking, question)
            assert "cold" in asked.stdout, asked.stderr
            assert other.end()[0] == 0
        assert one.end()[0] == 0


@pytest.mark.parametrize(("service", "has_torch"), [("fuser", False), ("model", True)])
def test_the_inventory_has_every_package_with_its_version(images, service, has_torch):
    file = REPOSITORY / "build" / "sbom" / f"specfuse-{service}.cdx.json"
    inventory = json.loads(file.read_text())
    assert inventory["metadata"]["component"]["version"] == VERSION
    packages = {one["name"]: one["version"] for one in inventory["components"]}
    assert "grpcio" in packages
    assert all(packages.values())
    assert ("torch" in packages) == has_torch
