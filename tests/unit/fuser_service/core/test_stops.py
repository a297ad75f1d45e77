"""Stop strings, wherever segments are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuser_service.core.stops import StopScanner


def shown(stop: tuple[str, ...], *segments: str) -> tuple[list[str], StopScanner]:
    """The text shown after each segment, and the scanner at the end."""
    scanner = StopScanner(stop)
    texts = []
    for segment in segments:
        scanner, text = scanner.append(segment)
        texts.append(text)
    return texts, scanner


def test_without_stop_strings_everything_is_shown() -> None:
    assert shown((), "a\n", " b") == (["a\n", " b"], StopScanner(()))


def test_a_stop_string_inside_a_segment() -> None:
    texts, scanner = shown(("END",), "one ENDtwo")
    assert texts == ["one "]
    assert scanner.stopped
    assert scanner.held == ""


def test_a_stop_string_over_three_segments() -> None:
    texts, scanner = shown(("<stop>",), "text <s", "to", "p> more")
    assert texts == ["text ", "", ""]
    assert scanner.stopped


def test_what_is_no_stop_string_after_all_is_released() -> None:
    texts, scanner = shown(("<stop>",), "a <st", "eam", " <", "")
    assert texts == ["a ", "<steam", " ", ""]
    assert scanner.held == "<"


def test_a_later_beginning_within_the_held_text_stays_held() -> None:
    texts, scanner = shown(("aab",), "xaa", "a", "b")
    assert texts == ["x", "a", ""]
    assert scanner.stopped


def test_the_string_completed_first_ends_the_answer() -> None:
    # "bcd" is complete one character before "abcde" would be.
    for segments in (("abcde",), ("abcd", "e"), ("a", "b", "c", "d", "e")):
        texts, scanner = shown(("abcde", "bcd"), *segments)
        assert "".join(texts) == "a"
        assert scanner.stopped


def test_of_strings_completed_together_the_longest_counts() -> None:
    assert shown(("b", "ab"), "xab")[0] == ["x"]


def test_nothing_is_shown_after_the_stop() -> None:
    assert shown((".",), "a.", "b")[0] == ["a", ""]


@pytest.mark.parametrize("stop", ["\n\n", "。", "👋🏽", "שלום"])
def test_any_script(stop: str) -> None:
    half = len(stop) // 2
    texts, scanner = shown((stop,), "é " + stop[:half], stop[half:] + "!")
    assert "".join(texts) == "é "
    assert scanner.stopped


texts = st.text("abc", max_size=30)
stops = st.lists(st.text("abc", min_size=1, max_size=5), max_size=3).map(tuple)


@given(stops, st.lists(st.text("abc", max_size=8), max_size=8))
def test_how_it_is_cut_does_not_change_what_is_shown(
    stop: tuple[str, ...], segments: list[str]
) -> None:
    text = "".join(segments)
    pieces, scanner = shown(stop, *segments)
    letters, letter_scanner = shown(stop, *text)
    assert "".join(pieces) == "".join(letters)
    assert scanner == letter_scanner
    assert scanner == StopScanner(stop).after(segments)


@given(stops, st.lists(st.text("abc", max_size=8), max_size=8))
def test_what_is_shown_ends_before_the_first_stop_string(
    stop: tuple[str, ...], segments: list[str]
) -> None:
    text = "".join(segments)
    pieces, scanner = shown(stop, *segments)
    so_far = "".join(pieces)
    assert text.startswith(so_far)
    assert not any(s in so_far for s in stop)
    assert scanner.stopped == any(s in text for s in stop)
    if scanner.stopped:
        assert any(text.startswith(s, len(so_far)) for s in stop)
    else:
        assert so_far + scanner.held == text
        # No more is held than need be.
        assert not scanner.held or any(s.startswith(scanner.held) for s in stop)
