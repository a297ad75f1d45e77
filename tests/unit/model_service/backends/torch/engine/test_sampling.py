"""Drawing a token from log-probabilities."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_service.backends.torch.engine.engine import Distribution
from model_service.backends.torch.engine.sampling import choose, uniform
from model_service.core.types import Sampling

PROBABILITIES = (0.05, 0.5, 0.15, 0.3)


def distribution(probabilities: tuple[float, ...] = PROBABILITIES) -> Distribution:
    logprobs = torch.tensor(probabilities).log()
    best = int(logprobs.argmax())
    return Distribution(logprobs, best, float(logprobs[best]))


def drawn(sampling: dict[str, float], count: int = 4000) -> dict[int, float]:
    """How often each token is drawn, over seeds."""
    counts = Counter(
        choose(distribution(), Sampling(seed=seed, **sampling), 7) for seed in range(count)
    )
    return {token: times / count for token, times in counts.items()}


def test_greedy_takes_the_best() -> None:
    assert choose(distribution(), Sampling(), 3) == 1


def test_tokens_are_drawn_as_often_as_they_are_probable() -> None:
    found = drawn({"temperature": 1.0})
    assert [found[token] for token in range(4)] == pytest.approx(PROBABILITIES, abs=0.03)


def test_temperature_sharpens() -> None:
    squares = [p**2 for p in PROBABILITIES]
    expected = [square / sum(squares) for square in squares]
    found = drawn({"temperature": 0.5})
    assert [found.get(token, 0.0) for token in range(4)] == pytest.approx(expected, abs=0.03)


def test_top_k_and_top_p_cut_off_the_least_probable() -> None:
    assert set(drawn({"temperature": 1.0, "top_k": 2})) == {1, 3}
    assert set(drawn({"temperature": 1.0, "top_p": 0.8})) == {1, 3}
    assert set(drawn({"temperature": 1.0, "top_p": 0.81})) == {1, 2, 3}
    assert set(drawn({"temperature": 1.0, "top_p": 1e-6})) == {1}


@given(st.integers(0, 2**64 - 1), st.integers(0, 10**6))
def test_draws_depend_on_seed_and_position_alone(seed: int, position: int) -> None:
    assert 0.0 <= uniform(seed, position) < 1.0
    assert uniform(seed, position) == uniform(seed, position)
    assert uniform(seed, position) != uniform(seed, position + 1)


def test_impossible_tokens_are_never_drawn() -> None:
    never = distribution((0.0, 0.4, 0.0, 0.6))
    tokens = {choose(never, Sampling(temperature=1.0, seed=s), 0) for s in range(300)}
    assert tokens == {1, 3}


@pytest.mark.parametrize("temperature", [1e-300, 5e-324, 1e-46, 1e-40, 1e-6])
def test_nearly_no_temperature_is_nearly_greedy(temperature: float) -> None:
    assert set(drawn({"temperature": temperature})) == {1}
