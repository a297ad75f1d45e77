"""An answered question, and the file that keeps each one as soon as it is finished."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self

from specfuse.errors import Misconfigured

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO


class SystemKind(StrEnum):
    """The ways of answering that are compared."""

    SINGLE = "single"
    """One member alone."""
    BEST_RESPONSE = "best_response"
    """Every member answers alone, all score the whole answers, the best is taken."""
    FUSED = "fused"
    """An ensemble, segment by segment."""


@dataclass(frozen=True, slots=True)
class System:
    """One of those who are asked. `name` is the member's or the ensemble's."""

    kind: SystemKind
    name: str


BEST_RESPONSE: Final = System(SystemKind.BEST_RESPONSE, "best_response")


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A committed segment.

    `skill` is that of the part being answered, empty if unknown. `active` counts the members that
    took part, `candidates` the distinct proposals; `voted` says whether they were scored.
    """

    winner: str
    segment: str
    tokens: int
    active: int
    candidates: int
    voted: bool
    recalled: bool
    skill: str


@dataclass(frozen=True, slots=True)
class Record:
    """A question as one system answered it.

    `marks` are by part, `error` names what is wrong (None if nothing is). `ended` says whether the
    answer is complete or ran into max_tokens. Seconds are as the caller saw them.
    """

    system: System
    case: str
    text: str
    ended: bool
    exact: bool
    marks: tuple[bool, ...]
    error: str | None
    rounds: tuple[RoundRecord, ...]
    calls_made: int
    calls_avoided: int
    output_tokens: int
    discarded_tokens: int
    first_segment_seconds: float
    seconds: float
    lost: int

    @property
    def parts(self) -> int:
        """How many parts the question has."""
        return len(self.marks)

    def to_document(self) -> dict[str, Any]:
        """The record as its line says it."""
        return asdict(self)

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> Self:
        """The record that a line says.

        Raises:
            KeyError, TypeError, ValueError: it says none.
        """
        system = _system(document["system"])
        rounds = tuple(RoundRecord(**fields) for fields in document["rounds"])
        given = {"system": system, "rounds": rounds, "marks": tuple(document["marks"])}
        return cls(**(document | given))


class ResultsFile:
    """The records so far, appended to a file line by line, or kept in memory alone.

    The first line says what the records are of, and a line before a system's first record under
    which settings it answers, so that records under different ones never mix. A last line that was
    cut off, as when the machine went down, is dropped; everything before it counts.
    """

    def __init__(self, path: Path | None, suite: str, seed: int) -> None:
        """Goes on with the file at `path` if there is one.

        Raises:
            Misconfigured: it is not such a file, is of another suite or seed, or cannot be written.
        """
        self.path = path
        self._records: dict[tuple[System, str], Record] = {}
        self._settings: dict[System, str] = {}
        self._file: BinaryIO | None = None
        if path is not None:
            self._open(path, {"suite": suite, "seed": seed})

    @property
    def records(self) -> tuple[Record, ...]:
        """All records, in the order in which they were finished."""
        return tuple(self._records.values())

    def of(self, system: System, case: str) -> Record | None:
        """The record of a question as a system answered it, if it has."""
        return self._records.get((system, case))

    def begin(self, system: System, settings: str) -> None:
        """Goes on with a system, or begins with it. `settings` is a digest of what it answers by.

        Raises:
            Misconfigured: the file has records of the system under other settings.
        """
        begun = system in self._settings or any(system == asked for asked, _ in self._records)
        if not begun:
            self._settings[system] = settings
            self._write({"system": asdict(system), "settings": settings})
        elif self._settings.get(system) != settings:
            raise Misconfigured(
                f"--out {self.path}: has answers of {system.name} under other settings (its "
                "models, its ensemble or --max-tokens were changed); name another file"
            )

    def add(self, record: Record) -> None:
        """Keeps a record. It is the operating system's before this returns."""
        self._records[record.system, record.case] = record
        self._write(record.to_document())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _open(self, path: Path, header: dict[str, Any]) -> None:
        try:
            content = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise Misconfigured(f"--out {path}: cannot be read: {error.strerror}") from error
        whole = content[: content.rfind(b"\n") + 1]
        if content:  # before anything is written: it might be another file altogether
            self._read(path, whole.decode(errors="replace").splitlines(), header)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("r+b" if content else "wb")
            self._file.truncate(len(whole))
            self._file.seek(len(whole))
        except OSError as error:
            raise Misconfigured(f"--out {path}: cannot be written: {error.strerror}") from error
        if not content:
            self._write(header)

    def _read(self, path: Path, lines: list[str], header: dict[str, Any]) -> None:
        found = _loaded(lines[0]) if lines else None
        if not isinstance(found, dict) or found.keys() != header.keys():
            raise Misconfigured(f"--out {path}: not results of an evaluation")
        if found != header:
            raise Misconfigured(f"--out {path}: has results of {found}, not of {header}")
        try:
            for line in lines[1:]:
                self._take(_loaded(line))
        except (ValueError, KeyError, TypeError) as error:
            raise Misconfigured(f"--out {path}: a line is not a result: {error}") from error

    def _take(self, document: dict[str, Any]) -> None:
        """What a line says: a record, or a system's settings."""
        if document.keys() == {"system", "settings"}:
            self._settings[_system(document["system"])] = document["settings"]
        else:
            record = Record.of_document(document)
            self._records[record.system, record.case] = record

    def _write(self, document: dict[str, Any]) -> None:
        if self._file is None:
            return
        self._file.write(json.dumps(document, ensure_ascii=False).encode() + b"\n")
        self._file.flush()


def _system(document: dict[str, Any]) -> System:
    return System(SystemKind(document["kind"]), document["name"])


def _loaded(line: str) -> Any:  # noqa: ANN401 (whatever the line holds)
    """What the line says in JSON; None if it is none."""
    try:
        return json.loads(line)
    except ValueError:
        return None
