"""The file of API keys, changed and shown: what `specfuse keys` does."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from fuser_service.tenancy.key_file import KeyEntry, change, moment, read_file
from fuser_service.tenancy.keys import digest_of, id_of, new_key
from specfuse.config.types import Name
from specfuse.errors import InvalidArgument, NotFound

_DAYS: Final = re.compile(r"([0-9]{1,5})d")


def new(file: Path, team: str, expires: str | None) -> None:
    """Adds a key to the file, and prints it: to stdout nothing else.

    Raises:
        InvalidArgument: no name of a team, or no date in the future.
        Misconfigured: the file is wrong, or cannot be written.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    ends = _end(expires, now)
    try:
        TypeAdapter(Name).validate_python(team)
    except ValidationError as error:
        problem = f"{team!r} is no name: letters, digits, `.`, `_` and `-`, at most 63"
        raise InvalidArgument("--team", problem) from error
    made: list[str] = []

    def added(entries: tuple[KeyEntry, ...]) -> Sequence[KeyEntry]:
        ids = {entry.id for entry in entries}
        key = next(key for key in iter(new_key, None) if id_of(key) not in ids)
        made.append(key)
        entry = KeyEntry(id=id_of(key), sha256=digest_of(key), team=team, created=now, expires=ends)
        return (*entries, entry)

    change(file, added)
    sys.stderr.write(f"specfuse: a key of {team}, shown this once; {file} has its hash\n")
    sys.stdout.write(f"{made[0]}\n")


def show(file: Path, *, as_json: bool) -> None:
    """Prints the keys in the file.

    Raises:
        InvalidArgument: there is no such file.
        Misconfigured: the file is wrong.
    """
    entries = read_file(_existing(file)).keys
    if as_json:
        for entry in entries:
            sys.stdout.write(json.dumps(entry.model_dump(mode="json", exclude={"sha256"})) + "\n")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("id", "team", "created", "expires", ""):
        table.add_column(column, no_wrap=True)
    now = datetime.now(UTC)
    for entry in entries:
        state = "expired" if entry.key().expired(now) else ""
        table.add_row(entry.id, entry.team, _day(entry.created), _day(entry.expires), state)
    Console(soft_wrap=True, highlight=False).print(table)


def revoke(file: Path, key: str) -> None:
    """Takes the key with this id out of the file.

    Raises:
        InvalidArgument: there is no such file.
        NotFound: there is no such key.
        Misconfigured: the file is wrong, or cannot be written.
    """

    def without(entries: tuple[KeyEntry, ...]) -> Sequence[KeyEntry]:
        left = [entry for entry in entries if entry.id != id_of(key)]
        if len(left) == len(entries):
            raise NotFound(f"{file}: there is no key {id_of(key)}; see specfuse keys list")
        return left

    change(_existing(file), without)
    sys.stderr.write(f"specfuse: {id_of(key)} is revoked in {file}\n")


def _existing(file: Path) -> Path:
    if not file.exists():
        raise InvalidArgument("--file", f"there is no {file}; specfuse keys new makes it")
    return file


def _end(expires: str | None, now: datetime) -> datetime | None:
    if expires is None:
        return None
    days = _DAYS.fullmatch(expires)
    try:
        ends = now + timedelta(days=int(days[1])) if days else moment(expires)
    except ValueError as error:
        problem = f"{expires!r}: {error}, or days, as in 90d"
        raise InvalidArgument("--expires", problem) from error
    if not isinstance(ends, datetime) or ends <= now:
        raise InvalidArgument("--expires", f"{expires} has passed")
    return ends


def _day(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M}"
