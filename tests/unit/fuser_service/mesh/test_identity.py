"""What a replica is, asked once and again."""

from __future__ import annotations

import asyncio

import pytest

from fuser_service.mesh.identity import Identity
from fuser_service.mesh.lineage import UNTOLD, Lineage
from tests.support.grpc_member import until

OLD, NEW = Lineage("old", "words", "torch"), Lineage("new", "words", "torch")


class Asked:
    """Answers questions as a test says, and counts what is told."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[Lineage | Exception] = asyncio.Queue()
        self.questions = 0
        self.asking = asyncio.Event()
        self.told = 0
        self.identity = Identity(self._answer, self._told)

    async def _answer(self) -> Lineage:
        self.questions += 1
        self.asking.set()
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _told(self) -> None:
        self.told += 1


async def test_it_is_asked_once_for_all_who_want_to_know() -> None:
    asked = Asked()
    waiting = [asyncio.create_task(asked.identity.get()) for _ in range(3)]
    asked.answers.put_nowait(OLD)
    assert await asyncio.gather(*waiting) == [OLD] * 3
    assert (await asked.identity.get(), asked.identity.known, asked.identity.last) == (OLD,) * 3
    assert (asked.questions, asked.told) == (1, 1)


async def test_it_is_asked_again_once_it_may_be_another() -> None:
    asked = Asked()
    asked.answers.put_nowait(OLD)
    await asked.identity.get()
    asked.identity.forget()
    assert (asked.identity.known, asked.identity.last) == (None, OLD)
    asked.answers.put_nowait(NEW)
    assert await asked.identity.get() == NEW


async def test_an_answer_from_before_does_not_count() -> None:
    asked = Asked()
    waiting = asyncio.create_task(asked.identity.get())
    await asked.asking.wait()
    asked.identity.forget()
    asked.answers.put_nowait(OLD)
    asked.answers.put_nowait(NEW)
    assert await waiting == NEW


async def test_an_answer_that_comes_after_a_newer_one_is_not_the_last() -> None:
    asked = Asked()
    answers: list[asyncio.Future[Lineage]] = []

    async def answer() -> Lineage:
        answers.append(asyncio.Future())
        return await answers[-1]

    identity = Identity(answer, asked._told)
    old = identity.ask()
    await until(lambda: len(answers) == 1)
    identity.forget()
    new = identity.ask()
    await until(lambda: len(answers) == 2)
    answers[1].set_result(NEW)
    await new
    answers[0].set_result(OLD)
    await old
    assert (identity.last, identity.known, asked.told) == (NEW, NEW, 1)


async def test_a_question_that_fails_is_asked_again_by_the_next() -> None:
    asked = Asked()
    asked.answers.put_nowait(ConnectionError())
    with pytest.raises(ConnectionError):
        await asked.identity.get()
    assert asked.identity.known is None
    asked.answers.put_nowait(OLD)
    assert await asked.identity.get() == OLD


async def test_who_gives_up_waiting_does_not_end_the_question() -> None:
    asked = Asked()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asked.identity.get(), 0.01)
    asked.answers.put_nowait(OLD)
    assert await asked.identity.get() == OLD
    assert asked.questions == 1


async def test_closing_ends_the_question() -> None:
    asked = Asked()
    waiting = asyncio.create_task(asked.identity.get())
    await asked.asking.wait()
    await asked.identity.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_each_lineage_has_a_mark_of_its_own() -> None:
    lineages = [OLD, NEW, UNTOLD, Lineage("a", "bc", ""), Lineage("ab", "c", ""), Lineage("é")]
    assert len({one.mark for one in lineages}) == len(lineages)
    assert all(one.mark.isascii() for one in lineages), "headers are"


def test_lineages_are_named_for_people() -> None:
    assert str(Lineage("r1", "0123456789abcdef0123", "torch")) == (
        "r1 on torch with tokenizer 0123456789abcdef"
    )
    assert str(UNTOLD) == "one that is not told"
