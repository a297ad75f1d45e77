"""What the options of `specfuse eval` say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fuser_service.settings.settings import Ensemble
from specfuse.config import settings_file
from specfuse.config.types import Name
from specfuse.errors import InvalidArgument
from specfuse.eval.configurations import Configuration
from specfuse.eval.families import FamilySuite
from specfuse.eval.suites import COMPOUND, CompoundSuite, FileSuite, Match, Suite
from specfuse.families.directory import described
from specfuse.families.registry import Purpose, purpose_of


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked, how, and where the results go."""

    suite: Suite
    seed: int
    concurrency: int
    max_tokens: int | None
    configurations: tuple[str, ...]
    tried: tuple[Configuration, ...]
    oracle: bool
    ablate: bool
    out: Path | None
    as_json: bool
    plot: Path | None


@dataclass(frozen=True, slots=True)
class Asked:
    """Which questions the options name. `family` is a family's directory, `questions` how many.

    `choosing` is the option by which something is to be chosen by the answers, if there is one.
    """

    suite: str
    match: str
    family: Path | None
    questions: int | None
    seed: int
    choosing: str | None


def suite_of(asked: Asked) -> Suite:
    """The suite that the options name.

    Raises:
        InvalidArgument: there is none, or something is to be chosen by a family for reporting.
        Misconfigured: its file cannot be read.
    """
    if asked.family is not None:
        family = described(asked.family)
        if asked.choosing and purpose_of(family.seed) is Purpose.REPORTING:
            problem = f"is for choosing, and {family.name} for reporting; take another family"
            raise InvalidArgument(asked.choosing, problem)
        return FamilySuite(family, asked.seed, asked.questions)
    if asked.suite == COMPOUND:
        return CompoundSuite(asked.seed, asked.questions or 100)
    if asked.match not in Match.__members__.values():
        raise InvalidArgument("--match", f"{asked.match!r} is not one of {', '.join(Match)}")
    return FileSuite(Path(asked.suite), Match(asked.match), asked.questions)


def tried_of(given: Iterable[str]) -> tuple[Configuration, ...]:
    """Configurations with names and settings of the caller's own.

    Raises:
        InvalidArgument: one is not NAME=SETTINGS, or a name comes twice.
        Misconfigured: an ensemble cannot have the settings.
    """
    tried: dict[str, Configuration] = {}
    for one in given:
        name, equals, text = one.partition("=")
        if not (name and equals and text):
            raise InvalidArgument("--try", f"{one!r} is not like longer='stretch: 4'")
        if not _is_name(name):
            problem = f"{name!r} is no name: take letters, digits, . _ and -, at most 63"
            raise InvalidArgument("--try", problem)
        if name in tried:
            raise InvalidArgument("--try", f"{name} is given twice")
        tried[name] = Configuration(name, _settings(text, f"--try {name}"))
    return tuple(tried.values())


def _is_name(text: str) -> bool:
    try:
        TypeAdapter(Name).validate_python(text)
    except ValidationError:
        return False
    return True


def _settings(text: str, source: str) -> dict[str, Any]:
    """The settings, which an ensemble of any members can have."""
    settings = settings_file.parse_mapping(text, source=source)
    members = settings.get("members", ["any"])
    settings_file.parse(text, Ensemble, source=source, overrides={"members": members})
    return settings


def addresses_of(members: Iterable[str]) -> dict[str, str]:
    """The addresses of model services, by member.

    Raises:
        InvalidArgument: one is not NAME=HOST:PORT, or a name comes twice.
    """
    addresses: dict[str, str] = {}
    for one in members:
        name, equals, address = one.partition("=")
        if not (name and equals and address):
            raise InvalidArgument("--member", f"{one!r} is not like llama=127.0.0.1:50051")
        if name in addresses:
            raise InvalidArgument("--member", f"{name} is given twice")
        addresses[name] = address
    return addresses
