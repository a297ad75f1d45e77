"""What the server tells of the tokens that it was sent.

On a CPU it pads the requests of a batch to one length, and then has a number too many for the
shorter ones: one for the padding, in front. Its router pairs numbers and tokens from the left and
drops what is left over, so every token gets the number of the one before, and the last number is
lost. In one answer nothing shows that. But several candidates share a context, and what is said of
it must not differ between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from model_service.backends.remote import answers
from model_service.backends.tgi.texts import Continued
from specfuse.errors import Misconfigured, ModelFailure

_COMPARED: Final = 64
"""So many of the last tokens of a context are compared between its candidates."""

_MOST_APART: Final = 0.5
"""How far apart numbers for the same tokens may be on average. Half precision in batches of another
shape makes far less of a difference, the number of another token far more."""


def prefilled(details: dict[str, Any], whole: Continued) -> tuple[float, ...]:
    """The log-probability of every token of a text but the first, which has none.

    Raises:
        Misconfigured: the server tells of none.
        ModelFailure: it tells of other tokens than those of the text, or numbers are missing.
    """
    place = "details.prefill"
    entries = [
        answers.mapping(one, f"{place}[{at}]")
        for at, one in enumerate(answers.sequence(details.get(place.partition(".")[2]), place))
    ]
    if not entries:
        raise Misconfigured(
            "url: the server tells no log-probabilities of what it is sent; start "
            "text-generation-inference 3 with --enable-prefill-logprobs"
        )
    ids = answers.ids([entry.get("id") for entry in entries], f"{place}.id")
    if ids != whole.sent.ids:
        raise ModelFailure("the server scored other tokens than those of the text it was sent")
    numbers = (entry.get("logprob") for entry in entries[1:])
    return tuple(answers.logprob(one, f"{place}[{at}]") for at, one in enumerate(numbers, 1))


def check_agreement(told: Sequence[Sequence[float]], shared: int) -> None:
    """Checks that texts whose first `shared` tokens are the same were told the same of them.

    Raises:
        Misconfigured: they were not.
    """
    compared = [numbers[max(0, shared - 1 - _COMPARED) : shared - 1] for numbers in told]
    if compared and any(_apart(compared[0], other) > _MOST_APART for other in compared[1:]):
        raise Misconfigured(
            "url: the server's numbers depend on what it computes at the same time, as they do "
            "where it pads batches; start it with --max-batch-size 1"
        )


def _apart(one: Sequence[float], other: Sequence[float]) -> float:
    """The mean difference."""
    differences = [abs(a - b) for a, b in zip(one, other, strict=True)]
    return sum(differences) / max(1, len(differences))
