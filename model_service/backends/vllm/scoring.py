"""How branches are scored in completions of prompts.

The server gives the log-probability of every token of a prompt on the way to completing it. It
does so for the context as well, some 75 bytes for each token and as many for the most probable one
in its place, and there is no way to have less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from model_service.backends.remote import answers
from model_service.backends.text.encoders import TokenIds

MOST_TOKENS: Final = 1 << 17
"""Most tokens of the prompts of one request. An answer then stays below 20 MiB. (The server takes
at most 1,024 prompts, which is more candidates than any call has.)"""


_PLACE: Final = "prompt_logprobs"


def portions(prompts: Sequence[TokenIds], most: int = MOST_TOKENS) -> Iterator[list[TokenIds]]:
    """The prompts in order, in portions of at most `most` tokens, or of one prompt."""
    portion: list[TokenIds] = []
    tokens = 0
    for prompt in prompts:
        if portion and tokens + len(prompt) > most:
            yield portion
            portion, tokens = [], 0
        portion.append(prompt)
        tokens += len(prompt)
    if portion:
        yield portion


def branch_logprobs(choice: dict[str, Any], prompt: TokenIds, start: int) -> tuple[float, ...]:
    """The log-probabilities of a prompt's tokens from `start` on, found by the tokens' ids.

    Raises:
        ModelFailure: the answer is of another prompt, or has no number for one of them.
    """
    entries = _entries(choice, prompt)
    return tuple(
        _logprob(entries[at], prompt[at], f"{_PLACE}[{at}]") for at in range(start, len(prompt))
    )


def best_logprobs(choice: dict[str, Any], prompt: TokenIds, start: int) -> tuple[float, ...]:
    """The log-probability of the most probable token in the place of each from `start` on.

    Raises:
        ModelFailure: the answer is of another prompt, or has something else for a number.
    """
    entries = _entries(choice, prompt)
    return tuple(_best(entries[at], f"{_PLACE}[{at}]") for at in range(start, len(prompt)))


def _entries(choice: dict[str, Any], prompt: TokenIds) -> list[Any]:
    entries = answers.sequence(choice.get(_PLACE), _PLACE)
    if len(entries) != len(prompt):
        raise answers.wrong(f"the length of {_PLACE}", f"{len(prompt)}", len(entries))
    return entries


def _best(entry: Any, place: str) -> float:  # noqa: ANN401
    """An entry has the token of the prompt, and the most probable one if that is another."""
    return max(
        answers.logprob(answers.mapping(told, f"{place}.{token}").get("logprob"), place)
        for token, told in answers.mapping(entry, place).items()
    )


def _logprob(entry: Any, token: int, place: str) -> float:  # noqa: ANN401
    """Other tokens may be in the same entry: the most probable ones."""
    told = answers.mapping(answers.mapping(entry, place).get(str(token)), f"{place}.{token}")
    return answers.logprob(told.get("logprob"), f"{place}.{token}.logprob")
