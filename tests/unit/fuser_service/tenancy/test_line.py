"""Who waits, in which order."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from fuser_service.tenancy.line import Line


@dataclass(frozen=True, eq=False)
class Somebody:
    came: float
    priority: int


CROWDS = st.lists(
    st.builds(Somebody, came=st.floats(0, 100), priority=st.integers(-20, 20)), max_size=40
)


def in_line(crowd: list[Somebody]) -> tuple[Line[Somebody], list[Somebody]]:
    line: Line[Somebody] = Line()
    crowd = sorted(crowd, key=lambda one: one.came)
    for one in crowd:
        line.join(one, one.came, one.priority)
    return line, crowd


@given(CROWDS)
def test_everybody_gets_out_once(crowd: list[Somebody]) -> None:
    line, _ = in_line(crowd)
    out = [line.next() for _ in range(len(line))]
    assert {id(one) for one in out} == {id(one) for one in crowd}
    assert not len(line)


@given(CROWDS)
def test_equals_keep_the_order_in_which_they_came(crowd: list[Somebody]) -> None:
    line, crowd = in_line([Somebody(one.came, 3) for one in crowd])
    assert [line.next() for _ in crowd] == crowd


@given(CROWDS)
def test_of_those_who_come_together_higher_priority_is_in_front(crowd: list[Somebody]) -> None:
    line, _ = in_line([Somebody(7.0, one.priority) for one in crowd])
    priorities = [line.next().priority for _ in crowd]
    assert priorities == sorted(priorities, reverse=True)


@given(CROWDS)
def test_nobody_is_overtaken_for_longer_than_priorities_differ(crowd: list[Somebody]) -> None:
    line, _ = in_line(crowd)
    out = [line.next() for _ in range(len(line))]
    for place, one in enumerate(out):
        for other in out[:place]:
            assert other.came - one.came <= other.priority - one.priority + 1e-9


def test_the_last_is_who_would_wait_longest_and_who_leaves_is_gone() -> None:
    first, important, late = Somebody(0, 0), Somebody(1, 5), Somebody(2, 0)
    line, _ = in_line([first, important, late])
    assert line.last() is late
    line.leave(important)
    line.leave(important)
    assert line.next() is first
    assert not len(line)
