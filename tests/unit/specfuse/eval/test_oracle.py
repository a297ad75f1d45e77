"""The best possible choice among members' candidates."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from specfuse.eval.oracle import Draft, best_route

ANSWER = "One red fox. Two blue hares."


class Members:
    """Each goes on with its own answer while that begins with what is committed, else with '?'."""

    def __init__(self, *answers: str, length: int) -> None:
        self._answers = answers
        self._length = length
        self.asked: list[tuple[str, ...]] = []

    async def propose(self, committed: tuple[str, ...]) -> Sequence[Draft]:
        self.asked.append(committed)
        return [self._draft(answer, "".join(committed)) for answer in self._answers]

    def _draft(self, answer: str, text: str) -> Draft:
        if not answer.startswith(text):
            return Draft("?", finished=False)
        rest = answer[len(text) :]
        return Draft(rest[: self._length], finished=len(rest) <= self._length)


async def test_one_who_knows_all_is_followed_to_the_end() -> None:
    route = await best_route(ANSWER, Members("wrong", ANSWER, length=5).propose)
    assert "".join(route.segments) == ANSWER
    assert route.complete
    assert route.drafts == 2 * len(route.segments)


async def test_where_nobody_goes_on_there_is_no_way() -> None:
    halves = Members("One red fox. Two green", "One big fox. Two blue hares.", length=4)
    route = await best_route(ANSWER, halves.propose)
    assert not route.complete
    assert "".join(route.segments) == "One red fox. Two"


async def test_an_end_that_comes_too_early_is_not_taken() -> None:
    early = Members("One red fox.", ANSWER, length=12)
    assert (await best_route(ANSWER, early.propose)).complete
    late = Members(f"{ANSWER} And so on.", length=12)
    assert not (await best_route(ANSWER, late.propose)).complete


async def test_a_longer_candidate_that_leads_nowhere_is_left_for_a_shorter_one() -> None:
    async def propose(committed: tuple[str, ...]) -> Sequence[Draft]:
        if not committed:
            return [Draft("One red ", finished=False), Draft("One ", finished=False)]
        if committed == ("One ",):
            return [Draft("red fox. Two blue hares.", finished=True)]
        return [Draft("?", finished=True)]

    route = await best_route(ANSWER, propose)
    assert route.complete
    assert route.segments[0] == "One "


async def test_space_around_the_whole_does_not_count() -> None:
    assert (await best_route(ANSWER, Members(f" {ANSWER}\n", length=40).propose)).complete


@given(st.lists(st.text("ab. ", max_size=8), max_size=4), st.text("ab. ", max_size=8))
async def test_whatever_is_proposed_it_ends_and_asks_after_no_text_twice(
    drafts: list[str], answer: str
) -> None:
    asked: list[str] = []

    async def propose(committed: tuple[str, ...]) -> Sequence[Draft]:
        asked.append("".join(committed))
        return [Draft(text, finished=False) for text in drafts]

    assert not (await best_route(answer.strip(), propose)).complete
    assert len(set(asked)) == len(asked)
