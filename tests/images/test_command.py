"""What `make images` runs, and what it says where it cannot: no image is built here."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.repository import REPOSITORY

NEEDED = ("bash", "env", "dirname", "sed", "git")

RECORDER = """#!/bin/bash
if [[ $1 == version ]]; then exit "${DAEMON:-0}"; fi
printf '%q ' "${0##*/}" "$@" >>"$RECORD"
echo >>"$RECORD"
"""
"""A builder that notes how it was called. Its daemon answers, or not."""


class Machine:
    """A PATH with what the command needs, and the builders that it is to find."""

    def __init__(self, directory: Path) -> None:
        self._bin, self._record = directory / "bin", directory / "record"
        self._bin.mkdir()
        for name in NEEDED:
            (self._bin / name).symlink_to(str(shutil.which(name)))

    def add(self, builder: str) -> None:
        """A builder is installed."""
        program = self._bin / builder
        program.write_text(RECORDER)
        program.chmod(0o755)

    def build(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs the command with these arguments of `make images`."""
        given = {"PATH": str(self._bin), "HOME": os.environ["HOME"], "RECORD": str(self._record)}
        return subprocess.run(
            [REPOSITORY / "deploy" / "docker" / "build.sh"],
            env=given | variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self) -> list[str]:
        """How the builder was called."""
        return self._record.read_text().splitlines()


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


def test_without_a_builder_it_says_what_it_needs(machine):
    built = machine.build()
    assert built.returncode == 1
    assert built.stderr.startswith("make images: needs buildah")


def test_a_docker_without_its_daemon_is_no_builder(machine):
    machine.add("docker")
    assert machine.build(DAEMON="1").returncode == 1
    assert machine.build().returncode == 0


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ACCELERATOR", "rocm", "ACCELERATOR: is 'rocm', may be cpu, cuda"),
        ("SERVICES", "fuser modle", "SERVICES: is 'modle', may be fuser, model"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(machine, variable, value, said):
    machine.add("buildah")
    built = machine.build(**{variable: value})
    assert (built.returncode, built.stderr) == (2, f"make images: {said}\n")


def test_buildah_is_taken_where_both_are(machine):
    machine.add("docker")
    machine.add("buildah")
    assert machine.build().returncode == 0
    assert all(call.startswith("buildah build ") for call in machine.calls())


def test_both_images_have_the_version_as_their_tag(machine):
    machine.add("buildah")
    said = machine.build(SOURCE_DATE_EPOCH="17").stdout
    fuser, model = machine.calls()
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    one, other = (f"specfuse-{service}:{project['version']}" for service in ("fuser", "model"))
    assert f"SERVICE=fuser --target image --tag {one} ." in fuser
    assert f"SERVICE=model --target image --tag {other} ." in model
    assert said == f"built {one}\nbuilt {other}\n"
    assert "--timestamp 17 " in fuser


def test_every_argument_gets_where_it_counts(machine):
    machine.add("docker")
    machine.build(
        REGISTRY="registry.example/ai",
        TAG="next",
        ACCELERATOR="cuda",
        BASE="registry.example/debian@sha256:0",
        TORCH_INDEX="file:/torch",
        PIP_CONF="pip.conf",
        CA="ca.crt",
        BUILD_FLAGS="--network host",
        SERVICES="model",
        SBOM="1",
    )
    image, sbom = machine.calls()
    for argument in (
        "--build-arg ACCELERATOR=cuda",
        "--build-arg BASE=registry.example/debian@sha256:0",
        "--build-arg TORCH_INDEX=file:/torch",
        "--secret id=pip.conf\\,src=pip.conf",
        "--secret id=ca.crt\\,src=ca.crt",
        "--network host",
        "--build-arg SERVICE=model",
    ):
        assert argument in image
        assert argument in sbom
    assert "--target image --tag registry.example/ai/specfuse-model:next-cuda ." in image
    assert "--target sbom --output type=local\\,dest=build/sbom ." in sbom
