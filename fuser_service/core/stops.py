"""Stop strings: they end the answer, are not part of it, and may straddle segments.

The answer ends at the stop string that is completed first (the longest, if several are completed by
the same character), so how it is cut into segments does not change what it says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class StopScanner:
    """What is known of the answer's end: `held` is text that could still become a stop string.

    Once a stop string is completed, `stopped` is set and nothing more is held or shown.
    """

    stop: tuple[str, ...]
    held: str = ""
    stopped: bool = False

    def after(self, segments: Iterable[str]) -> StopScanner:
        """The scanner once these segments have been appended."""
        scanner = self
        for segment in segments:
            scanner, _ = scanner.append(segment)
        return scanner

    def append(self, segment: str) -> tuple[StopScanner, str]:
        """Appends a segment; also returns the text that may be shown now.

        A stop string that the segment completes begins in the held text or later, so only these
        two need looking at.
        """
        if self.stopped:
            return self, ""
        pending = self.held + segment
        start = _start_of_first_completed(pending, self.stop)
        if start is not None:
            return replace(self, held="", stopped=True), pending[:start]
        shown = len(pending) - _length_that_could_become(pending, self.stop)
        held = pending[shown:]
        return self if held == self.held else replace(self, held=held), pending[:shown]


def _start_of_first_completed(text: str, stop: tuple[str, ...]) -> int | None:
    matches = [(start + len(s), start) for s in stop if (start := text.find(s)) >= 0]
    return min(matches)[1] if matches else None


def _length_that_could_become(text: str, stop: tuple[str, ...]) -> int:
    """The length of the longest suffix of `text` that is the beginning of a stop string."""
    longest = max((len(s) for s in stop), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        suffix = text[-length:]
        if any(s.startswith(suffix) for s in stop):
            return length
    return 0
