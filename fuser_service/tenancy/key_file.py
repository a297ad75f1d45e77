"""The file of API keys: hashes, no keys.

    keys:
    - id: sf-Ab3dE9xQ
      sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
      team: search
      created: 2026-11-30T08:00:00+00:00
      expires: 2027-11-30T08:00:00+00:00

`specfuse keys` writes it, with the owner and mode that it had, and a fuser follows it. What either
of them refuses changes nothing. A key of a team that the fuser does not know is not refused but
skipped: `specfuse keys` knows no teams, and whoever mistypes one must not keep others from revoking
keys.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Self

import yaml
from pydantic import BeforeValidator, Field, model_validator

from fuser_service.tenancy.keys import Key
from specfuse.config import settings_file
from specfuse.config.settings_file import Contradictions, Problem
from specfuse.config.types import Name, Section
from specfuse.errors import Misconfigured

_MODE: Final = 0o600

_logger = logging.getLogger(__name__)


def moment(value: object) -> object:
    """A point in time from ISO 8601 text: 2027-01-31, or with a time; without a zone it is UTC.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, datetime) or not isinstance(value, str):
        return value
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("must be a date, as in 2027-01-31 or 2027-01-31T12:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


Moment = Annotated[datetime, BeforeValidator(moment)]


class KeyEntry(Section):
    """What is kept of a key."""

    id: Annotated[str, Field(pattern=r"^sf-[A-Za-z0-9_-]{8}$")]
    """The first characters of the key: they may be shown, and revoke it."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", repr=False)]
    """The SHA-256 hash of the key, in small hexadecimal digits."""
    team: Name
    """Whose it is: a team of the fuser's settings."""
    created: Moment | None = None
    """When it was made."""
    expires: Moment | None = None
    """When it ends. Absent: never."""

    def key(self) -> Key:
        """The key as those see it who decide about its requests."""
        return Key(self.id, self.sha256, self.team, self.expires)


class KeyFile(Section):
    """All keys."""

    keys: Annotated[tuple[KeyEntry, ...], Field(max_length=4096)] = ()
    """One entry each."""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        problems = [*_repeated(self.keys, "id"), *_repeated(self.keys, "sha256")]
        if problems:
            raise Contradictions(problems)
        return self


def read_keys(path: Path, teams: Collection[str]) -> tuple[Key, ...]:
    """The keys of these teams in a file. Those of others are named in the log.

    Raises:
        Misconfigured: the file cannot be read, or its content is wrong.
    """
    entries = settings_file.read(path, KeyFile).keys
    if strays := [entry for entry in entries if entry.team not in teams]:
        _warn_of(strays, path, teams)
    return tuple(entry.key() for entry in entries if entry.team in teams)


def read_file(path: Path) -> KeyFile:
    """What the file holds; nothing, if there is none.

    Raises:
        Misconfigured: it cannot be read, or its content is wrong.
    """
    return settings_file.read(path, KeyFile) if path.exists() else KeyFile()


def change(path: Path, changed: Callable[[tuple[KeyEntry, ...]], Sequence[KeyEntry]]) -> None:
    """Writes what `changed` makes of the entries, all at once, while nobody else changes the file.

    If `changed` raises, nothing is written.

    Raises:
        Misconfigured: the file is wrong, or cannot be written.
    """
    path = path.resolve()  # a link goes on to lead to the file
    try:
        with _locked(path):
            file = KeyFile(keys=tuple(changed(read_file(path).keys)))
            _replace(path, _text(file))
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be written: {error.strerror}") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The lock is a file beside it, as the file itself is replaced. It stays: others may wait."""
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, _MODE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _replace(path: Path, text: str) -> None:
    """Readers see the old file or the new one, and after a crash there is one of them."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    new = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            _open_to_the_same(path, descriptor)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _open_to_the_same(path: Path, descriptor: int) -> None:
    """Whoever may read the file there, a fuser with a user of its own say, may read the new one."""
    with suppress(FileNotFoundError):
        there, ours = path.stat(), os.fstat(descriptor)
        if (there.st_uid, there.st_gid) != (ours.st_uid, ours.st_gid):
            os.fchown(descriptor, there.st_uid, there.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(there.st_mode))


def _warn_of(strays: Sequence[KeyEntry], path: Path, teams: Collection[str]) -> None:
    _logger.warning(
        "%s: keys of teams that are not in the fuser's settings do not count: %s; there are: %s",
        path,
        ", ".join(f"{entry.id} of {entry.team}" for entry in strays),
        ", ".join(sorted(teams)) or "none",
    )


def _text(file: KeyFile) -> str:
    document: dict[str, Any] = {
        "keys": [entry.model_dump(mode="json", exclude_none=True) for entry in file.keys]
    }
    return yaml.safe_dump(document, sort_keys=False)


def _repeated(entries: Sequence[KeyEntry], field: str) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for position, entry in enumerate(entries):
        earlier = first.setdefault(getattr(entry, field), position)
        if earlier != position:
            yield Problem(("keys", position, field), f"is that of keys[{earlier}], too; drop one")
