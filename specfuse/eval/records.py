"""An answered question, and the file that keeps each one as soon as it is finished."""

from __future__ import annotations

import fcntl
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

from pydantic import TypeAdapter

from specfuse.errors import Misconfigured


class SystemKind(StrEnum):
    """The ways of answering that are compared."""

    SINGLE = "single"
    """One member alone."""
    BEST_RESPONSE = "best_response"
    """Every member answers alone, all score the whole answers, the best is taken."""
    FUSED = "fused"
    """An ensemble, segment by segment."""
    ORACLE = "oracle"
    """The best choice of segments, by one who knows the right answer."""


@dataclass(frozen=True, slots=True)
class System:
    """One system that is asked. `name` is the member's or the ensemble's."""

    kind: SystemKind
    name: str


BEST_RESPONSE: Final = System(SystemKind.BEST_RESPONSE, "best_response")


def oracle(segment_tokens: int) -> System:
    """The best choice of segments of at most so many tokens."""
    return System(SystemKind.ORACLE, f"{segment_tokens} tokens")


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
    answer is complete or ran into max_tokens. `passes` are those through models: one for each token
    drafted, and one for each call to score. Seconds are as the caller saw them.
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
    passes: int = 0

    @property
    def parts(self) -> int:
        """How many parts the question has."""
        return len(self.marks)

    def to_document(self) -> dict[str, Any]:
        """The record as its line says it."""
        return asdict(self)


class ResultsFile:
    """The records so far, appended to a file line by line, or kept in memory alone.

    The first line says what the records are of, and a line before a system's first record under
    which settings it answers, so that records under different ones never mix. A last line that was
    cut off, as when the machine went down, is dropped; everything before it counts.
    """

    def __init__(self, path: Path | None, suite: str, seed: int) -> None:
        """Goes on with the file at `path` if there is one.

        Raises:
            Misconfigured: it is not such a file, is of another suite or seed, cannot be written, or
                is being written by another evaluation.
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
        """Keeps a record. It is handed to the operating system before this returns."""
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
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        except OSError as error:
            raise Misconfigured(f"--out {path}: cannot be written: {error.strerror}") from error
        try:
            self._go_on(path, self._file, header)
        except BaseException:
            self._file.close()
            raise

    def _go_on(self, path: Path, file: BinaryIO, header: dict[str, Any]) -> None:
        """Reads what the file has; nobody else may write to it meanwhile."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Misconfigured(
                f"--out {path}: another evaluation writes to it; wait for it, or name another file"
            ) from error
        file.seek(0)
        content = file.read()
        if not content:
            self._write(header)
            return
        whole = content[: content.rfind(b"\n") + 1]
        # Before anything is written: it might be another file altogether.
        self._read(path, whole.decode(errors="replace").split("\n")[:-1], header)
        file.truncate(len(whole))

    def _read(self, path: Path, lines: list[str], header: dict[str, Any]) -> None:
        found = _loaded(lines[0]) if lines else None
        if not isinstance(found, dict) or found.keys() != header.keys():
            raise Misconfigured(f"--out {path}: not results of an evaluation")
        if found != header:
            raise Misconfigured(f"--out {path}: has results of {found}, not of {header}")
        for number, line in enumerate(lines[1:], 2):
            try:
                self._take(line)
            except (ValueError, KeyError, TypeError) as error:
                raise Misconfigured(f"--out {path}:{number}: the line is not a result") from error

    def _take(self, line: str) -> None:
        """What a line says: a record, or a system's settings."""
        document = _loaded(line)
        if isinstance(document, dict) and document.keys() == {"system", "settings"}:
            system = System(SystemKind(document["system"]["kind"]), document["system"]["name"])
            self._settings[system] = document["settings"]
        else:
            record = _RECORD.validate_json(line, strict=True)
            self._records[record.system, record.case] = record

    def _write(self, document: dict[str, Any]) -> None:
        if self._file is None:
            return
        self._file.write(json.dumps(document, ensure_ascii=False).encode() + b"\n")
        self._file.flush()


_RECORD: Final = TypeAdapter(Record)


def _loaded(line: str) -> Any:  # noqa: ANN401 (whatever the line holds)
    """What the line says in JSON; None if it is not JSON."""
    try:
        return json.loads(line)
    except ValueError:
        return None
