"""What the answers of a replica come from."""

from __future__ import annotations

from dataclasses import dataclass

from specfuse.headers import lineage_mark

_SHOWN_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Lineage:
    """The weights, the tokenizer with its chat template, and what runs them.

    Scores are compared within an answer, so all of them must come from the same: another backend
    computes them with another precision, or from weights of another.
    """

    revision: str = ""
    tokenizer_fingerprint: str = ""
    backend: str = ""

    @property
    def mark(self) -> str:
        """What answers of it are marked with."""
        return lineage_mark(self.revision, self.tokenizer_fingerprint, self.backend)

    def __str__(self) -> str:
        if self == UNTOLD:
            return "one that is not told"
        tokenizer = self.tokenizer_fingerprint[:_SHOWN_CHARACTERS]
        return f"{self.revision or '(none)'} on {self.backend} with tokenizer {tokenizer}"


UNTOLD = Lineage()
"""That of all replicas that do not tell."""
