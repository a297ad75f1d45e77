"""What the documents tell people to run is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from specfuse.cli.app import app
from tests.support.repository import REPOSITORY

PAGES = sorted(
    file
    for pattern in ("*.md", "docs/**/*.md", "bench/*.py", "specfuse/demo/README.md")
    for file in REPOSITORY.glob(pattern)
)
MAKEFILE = (REPOSITORY / "Makefile").read_text()


@pytest.fixture(params=PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_programs_of_the_repository_are_there(page: Path) -> None:
    for name in re.findall(r"\b(?:bench|tests|docs|deploy)/[\w/]+\.(?:py|sh)\b", page.read_text()):
        assert (REPOSITORY / name).exists(), name


def test_targets_of_make_are_there(page: Path) -> None:
    for line in code(page.read_text()):
        for target in re.findall(r"^make ([a-z][a-z-]+)", line):
            assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target


def test_options_of_specfuse_are_there(page: Path) -> None:
    for line in code(page.read_text()):
        for called in re.findall(r"(?:^|/|&& |; )specfuse ([a-z][a-z-]+ .*)", line):
            path, options, known = resolved(re.split(r"[#|;)\"]", called)[0].split())
            assert options <= known, f"{path} has no {options - known}"


def test_an_option_that_is_not_there_is_found() -> None:
    text = (
        "Run `specfuse eval --seed 1`, or\n\n```bash\nspecfuse keys new \\\n  --colour red\n```\n"
    )
    found = [resolved(line.split()[1:]) for line in code(text) if line.startswith("specfuse")]
    wrong = {path: options - known for path, options, known in found}
    assert wrong == {"specfuse eval": set(), "specfuse keys new": {"--colour"}}


def code(text: str) -> Iterator[str]:
    """Each line of a block of code, and each piece of code within a line."""
    parts = re.split(r"^ *```.*$", text, flags=re.MULTILINE)
    for block in parts[1::2]:
        yield from (line.strip() for line in block.replace("\\\n", " ").split("\n"))
    for prose in parts[::2]:
        yield from re.findall(r"`([^`\n]+)`", prose)
        yield from re.findall(r"^ {4}(\S.*)$", prose, re.MULTILINE)


def resolved(words: list[str]) -> tuple[str, set[str], set[str]]:
    """The command that a command line runs, the options it gives, and those that there are."""
    command, path, options = typer.main.get_command(app), "specfuse", set()
    for word in words:
        below = getattr(command, "commands", {})
        if word in below and not options:
            command, path = below[word], f"{path} {word}"
        elif word.startswith("--"):
            options.add(word.partition("=")[0])
    known = {option for one in command.params for option in one.opts}
    return path, options, known | {"--help"}
