"""Threads that tokenize, so that long texts hold up neither the event loop nor short ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from model_service.core.types import Context, ProposeRequest, ScoreRequest
from specfuse.errors import ShuttingDown

Request = TypeVar("Request", bound=ProposeRequest | ScoreRequest)
Call = TypeVar("Call")

_SHORT_LANES = 4
_LONG_CHARACTERS = 1 << 15
_REST_SECONDS = 0.02


class Lanes:
    """Makes calls of requests on threads: long ones one at a time, apart from the short ones.

    So long texts take one core and the memory of one, however many there are. After each, their
    lane rests: whoever sends nothing but texts to be refused at once would otherwise keep the
    interpreter from the threads that answer.
    """

    def __init__(self) -> None:
        self._short = ThreadPoolExecutor(_SHORT_LANES, "tokenizer")
        self._long = ThreadPoolExecutor(1, "long-tokenizer")

    async def run(self, make: Callable[[Request], Call], request: Request) -> Call:
        """What `make` makes of a request.

        Raises:
            ShuttingDown: the lanes are closed.
        """
        long = _characters(request) > _LONG_CHARACTERS
        try:
            future = (self._long if long else self._short).submit(make, request)
            if long:
                self._long.submit(time.sleep, _REST_SECONDS)
        except RuntimeError as error:  # no longer takes work
            raise ShuttingDown("the engine is closed") from error
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Takes no more requests; does not wait for those begun. Idempotent."""
        self._short.shutdown(wait=False)
        self._long.shutdown(wait=False)


def _characters(request: ProposeRequest | ScoreRequest) -> int:
    """Of all that is to be tokenized."""
    texts = _texts(request.context)
    if isinstance(request, ScoreRequest):
        texts += [candidate.text for candidate in request.candidates]
    return sum(map(len, texts))


def _texts(context: Context) -> list[str]:
    prompt = context.prompt
    said = [prompt] if isinstance(prompt, str) else [message.content for message in prompt]
    return [*said, *context.committed]
