"""What a round decides, and what is left of drafts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fuser_service.core.contest import contested, head, rest, tokens_of
from fuser_service.core.types import Candidate, Proposal, SegmentFinish
from tests.support.members import END, proposal

TEXTS = st.text(alphabet=" ab.", min_size=1, max_size=12)


def texts(drafts: dict[str, Proposal]) -> list[tuple[str, bool, tuple[str, ...]]]:
    return [
        (one.candidate.text, one.candidate.finished, one.proposers) for one in contested(drafts)
    ]


def test_a_single_draft_is_decided_whole() -> None:
    assert texts({"a": proposal(" x y", END), "b": proposal(" x y", END)}) == [
        (" x y", True, ("a", "b"))
    ]


def test_drafts_that_begin_alike_agree_so_far() -> None:
    assert texts({"a": proposal(" x y"), "b": proposal(" x z", END)}) == [(" x", False, ("a", "b"))]


def test_drafts_that_part_at_once_are_compared_by_their_first_words() -> None:
    drafts = {"a": proposal(" x y"), "b": proposal(" z", END), "c": proposal(" x q")}
    assert texts(drafts) == [(" x", False, ("a", "c")), (" z", False, ("b",))]


def test_whether_the_answer_ends_is_a_question_of_its_own() -> None:
    assert texts({"a": proposal(" x", END), "b": proposal(" x")}) == [(" x", False, ("a", "b"))]
    assert texts({"a": proposal("", END), "b": proposal(" x")}) == [
        ("", True, ("a",)),
        (" x", False, ("b",)),
    ]


def test_who_has_nothing_to_say_is_no_party() -> None:
    assert texts({"a": proposal(""), "b": proposal(" x y")}) == [(" x y", False, ("b",))]


def test_what_is_left_of_a_draft() -> None:
    draft = proposal(" x y", END, tokens=4)
    left = rest(draft, Candidate(" x", finished=False))
    assert left is not None
    assert (left.text, left.finish, left.own_score) == (" y", END, None)
    assert left.token_count + tokens_of(draft, " x") == 4
    end = rest(draft, Candidate(" x y", finished=False))
    assert end is not None
    assert (end.text, end.finish) == ("", END)
    assert rest(draft, Candidate(" x y", finished=True)) is None
    assert rest(draft, Candidate(" z", finished=False)) is None
    assert rest(proposal(" x y"), Candidate(" x y", finished=False)) is None


@given(TEXTS, st.integers(1, 20), st.data())
def test_a_draft_in_two_has_its_text_and_about_its_tokens(
    text: str, tokens: int, data: st.DataObject
) -> None:
    draft = proposal(text, tokens=tokens)
    first = head(draft, data.draw(st.integers(1, len(text))))
    left = rest(draft, Candidate(first.text, finished=False))
    assert first.finish is SegmentFinish.LENGTH
    assert first.text + (left.text if left else "") == text
    assert tokens <= first.token_count + (left.token_count if left else 0) <= tokens + 1
