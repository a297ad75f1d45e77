"""How many second calls are granted."""

from __future__ import annotations

from fuser_service.mesh.budget import MOST_SAVED, SHARE, Budget


def spent(budget: Budget) -> int:
    """Second calls until there are none left."""
    count = 0
    while budget.left:
        budget.spend()
        count += 1
    return count


def test_it_begins_with_some() -> None:
    assert spent(Budget()) == MOST_SAVED


def test_calls_earn_a_share() -> None:
    budget = Budget()
    spent(budget)
    for _ in range(round(3 / SHARE) + 1):
        budget.called()
    assert spent(budget) == 3


def test_no_more_is_saved_than_it_begins_with() -> None:
    budget = Budget()
    for _ in range(1000):
        budget.called()
    assert spent(budget) == MOST_SAVED
