"""Products of a few rows: the same numbers as a linear layer's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model_service.backends.torch.engine import linear

ROWS = (1, 2, 5, 64, 65)


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(48, 80), nn.Linear(80, 16, bias=False))
    return layers.requires_grad_(requires_grad=False)


@pytest.mark.parametrize("rows", ROWS)
def test_the_products_are_those_of_the_layers(model: nn.Sequential, rows: int) -> None:
    inputs = torch.randn(1, rows, 48)
    own = model(inputs)
    linear.speed_up_few_rows(model)
    torch.testing.assert_close(model(inputs), own, rtol=1e-5, atol=1e-6)


def test_packed_weights_serve_a_few_rows_only(
    model: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    linear.speed_up_few_rows(model)
    plain: list[int] = []

    def noted(rows: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        plain.append(rows.shape[-2])
        return nn.functional.linear(rows, *weights)

    monkeypatch.setattr(linear, "linear", noted)
    for rows in ROWS:
        model(torch.randn(1, rows, 48))
    assert plain == [1, 1, 65, 65]


def test_a_large_models_weights_are_not_kept_twice(
    model: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_MOST_BYTES", 1000)
    linear.speed_up_few_rows(model)
    assert all("forward" not in vars(layer) for layer in model)


def test_weights_in_half_precision_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(48, 80, dtype=torch.bfloat16))
    linear.speed_up_few_rows(model)
    assert "forward" not in vars(model[0])
