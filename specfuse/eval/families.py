"""The suite of a family: questions of every kind that it can be asked."""

from __future__ import annotations

import hashlib
from typing import Final

from specfuse.eval.suites import Case, ErrorKind, Mark
from specfuse.families.description import Family
from specfuse.families.marking import Reading, Verdict, completed, read, right_answer
from specfuse.families.questions import generate, kinds

OF_EACH_KIND: Final = 10
"""Questions of each kind and number of parts, unless something else is asked for."""


class FamilySuite:
    """Generated questions, of every kind and number of parts in turn."""

    def __init__(self, family: Family, seed: int, count: int | None = None) -> None:
        """`count` questions, chosen by `seed`."""
        digest = hashlib.sha256(family.to_json()).hexdigest()[:8]
        self.name = f"{family.name}@{digest}"
        self._family = family
        count = count or OF_EACH_KIND * len(kinds(family))
        questions = generate(family, seed, count)
        self._parts = {
            f"{index}-{question.kind}": question.parts for index, question in enumerate(questions)
        }
        self.cases = tuple(
            Case(
                id=id_,
                prompt=question.prompt,
                answer=right_answer(family, question.parts),
                parts=len(question.parts),
                kind=question.kind.value,
            )
            for id_, question in zip(self._parts, questions, strict=True)
        )

    def mark(self, case: Case, text: str) -> Mark:
        """Exactly right, sentence by sentence; space around the whole is ignored."""
        reading = read(self._family, self._parts[case.id], text)
        return Mark(
            exact=reading.exact,
            parts=tuple(verdict is Verdict.RIGHT for verdict in reading.verdicts),
            error=None if reading.exact else _error(reading, case.answer, text),
            invents=reading.invents,
        )

    def skill_at(self, case: Case, before: str) -> str:
        """By the sentences that `before` has completed; both of a part that has two."""
        parts = self._parts[case.id]
        done = completed(self._family, parts, before)
        return "+".join(parts[done].skills) if done < len(parts) else ""


def _error(reading: Reading, right: str, text: str) -> ErrorKind:
    if right.startswith(text.strip()):
        return ErrorKind.STOPPED
    if Verdict.BROKEN in reading.verdicts:
        return ErrorKind.FORM
    if Verdict.INVENTED in reading.verdicts:
        return ErrorKind.WORD
    return ErrorKind.DECLINED if Verdict.DECLINED in reading.verdicts else ErrorKind.RAN_ON
