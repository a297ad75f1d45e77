"""What the options of `specfuse eval` say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from specfuse.errors import InvalidArgument
from specfuse.eval.suites import COMPOUND, CompoundSuite, FileSuite, Match, Suite


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked, how, and where the results go."""

    suite: Suite
    seed: int
    concurrency: int
    max_tokens: int | None
    configurations: tuple[str, ...]
    ablate: bool
    out: Path | None
    as_json: bool
    plot: Path | None


def suite_of(name: str, match: str, questions: int | None, seed: int) -> Suite:
    """The suite that the options name.

    Raises:
        InvalidArgument, Misconfigured: there is none.
    """
    if name == COMPOUND:
        return CompoundSuite(seed, questions or 100)
    if match not in Match.__members__.values():
        raise InvalidArgument("--match", f"{match!r} is not one of {', '.join(Match)}")
    return FileSuite(Path(name), Match(match), questions)


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
