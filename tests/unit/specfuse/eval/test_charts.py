"""What the charts show together."""

from __future__ import annotations

from specfuse.eval.charts import grouped


def test_those_who_have_the_same_to_show_are_one_group_in_the_order_of_the_first() -> None:
    shown = [("default", (42, 0.99)), ("no-exit", (75, 0.99)), ("exit-alpha0.75", (42, 0.99))]
    assert list(grouped(shown).items()) == [
        (("default", "exit-alpha0.75"), (42, 0.99)),
        (("no-exit",), (75, 0.99)),
    ]
    assert grouped([]) == {}
