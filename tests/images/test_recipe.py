"""What `deploy/docker` may say, as far as it can be seen without building."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.distributions import installed_for
from tests.support.repository import REPOSITORY

RECIPE = REPOSITORY / "deploy" / "docker"
CONTAINERFILE = RECIPE / "Containerfile"
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def instructions() -> list[tuple[str, list[str]]]:
    """The lines of the Containerfile: the instruction, and its words."""
    lines = [line for line in CONTAINERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    words = [shlex.split(line) for line in joined.splitlines() if line.strip()]
    return [(instruction, rest) for instruction, *rest in words]


def of(instruction: str) -> Iterator[list[str]]:
    """The words of every line with this instruction."""
    return (words for name, words in instructions() if name == instruction)


def copied() -> set[str]:
    """What of the repository is copied into a stage."""
    return {
        source
        for words in of("COPY")
        if not words[0].startswith("--from=")
        for source in words[:-1]
    }


def allowed() -> set[str]:
    """What `.dockerignore` lets in. It begins by letting nothing in."""
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    everything, *patterns = [line for line in lines if line and not line.startswith("#")]
    assert everything == "*"
    return {pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")}


def pinned(file: Path) -> dict[str, str]:
    """The one version of each distribution in a list of pip's, by canonical name."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    requirements = [Requirement(line) for line in lines]
    versions = {}
    for one in requirements:
        (specifier,) = one.specifier
        assert specifier.operator == "==", f"{one}: not one version"
        assert "*" not in specifier.version, f"{one}: not one version"
        versions[canonicalize_name(one.name)] = specifier.version
    assert len(versions) == len(requirements), "something is listed twice"
    return versions


def test_a_build_sees_what_is_copied_and_nothing_else():
    assert allowed() == copied()
    for pattern in copied():
        assert [*REPOSITORY.glob(pattern)], pattern


def test_all_that_a_wheel_is_made_of_is_copied():
    project = PYPROJECT["project"]
    packages = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    parts = {"pyproject.toml", project["readme"], *project["license-files"], *packages}
    assert parts <= copied()
    # The dependencies are those of a project that has these parts without their content.
    script = (RECIPE / "install_dependencies.sh").read_text()
    (touched,) = re.findall("^touch (.*)$", script, re.MULTILINE)
    (made,) = re.findall("^mkdir (.*)$", script, re.MULTILINE)
    assert {"pyproject.toml", *touched.split(), *made.split()} == parts


@pytest.mark.parametrize("service", ["fuser", "model"])
def test_every_package_in_an_image_has_one_version(service):
    assert installed_for(service) <= pinned(REPOSITORY / "constraints.txt").keys()


def test_what_takes_the_inventory_has_one_version():
    assert "cyclonedx-bom" in pinned(RECIPE / "inventory.txt")


def test_the_base_is_said_once_and_has_a_tag():
    stages = {words[-1] for words in of("FROM") if "AS" in words}
    bases = {words[0] for words in of("FROM")} - stages
    assert bases == {"${BASE}", "scratch"}
    (base,) = [value for (word,) in of("ARG") if (value := word.removeprefix("BASE=")) != word]
    _, _, tag = base.partition(":")
    assert tag
    assert tag != "latest"


def test_nothing_is_fetched_from_an_address():
    assert not [*of("ADD")]
    for file in RECIPE.iterdir():
        assert "://" not in file.read_text(), file


def test_an_image_runs_the_command_line_as_a_numbered_user_and_not_as_root():
    final = instructions()[max(i for i, (name, _) in enumerate(instructions()) if name == "FROM") :]
    assert final[0] == ("FROM", ["python", "AS", "image"])
    (user,) = [words for name, words in final if name == "USER"]
    uid, gid = map(int, user[0].split(":"))
    assert uid >= 10_000
    assert gid >= 10_000
    assert f"specfuse:x:{uid}:{gid}:" in CONTAINERFILE.read_text()
    assert ("ENTRYPOINT", ["[specfuse]"]) in final
    assert not [words for name, words in final if name == "RUN"], "what runs is the builder's"


def test_secrets_are_mounted_where_something_is_fetched_and_never_copied():
    for words in of("RUN"):
        fetches = any("./" in word for word in words)
        mounted = [word for word in words if word.startswith("--mount=")]
        assert [*map(bool, mounted)] == ([True, True] if fetches else [])
    names = {word.partition("=")[0] for (word, *_) in of("ARG")}
    assert names == {
        *("BASE", "SERVICE", "ACCELERATOR", "TORCH_INDEX", "VERSION", "REVISION", "CREATED"),
    }, "an argument stays in the history of a stage: no place for a secret"


def test_scripts_stop_at_the_first_failure():
    for script in RECIPE.glob("*.sh"):
        shebang, *lines = script.read_text().splitlines()
        code = [line for line in lines if line and not line.startswith("#")]
        assert (shebang, code[0]) in {
            ("#!/bin/sh", "set -eu"),
            ("#!/usr/bin/env bash", "set -euo pipefail"),
        }, script
        assert script.stat().st_mode & 0o111, script


def test_the_page_names_every_argument_of_the_command():
    page = (REPOSITORY / "docs" / "images.md").read_text()
    named = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    taken = set(re.findall(r"\$\{([A-Z_]+):[-+]", (RECIPE / "build.sh").read_text()))
    assert named == taken
