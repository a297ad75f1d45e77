"""Products of a few rows: the same numbers as a linear layer's own, where and as they pay."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from model_service.backends.torch.engine import linear

ROWS = (1, 3, 4, 5, 8, 64, 65)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> nn.Sequential:
    """Two layers, of which the first is large enough, and may take a quarter of the weights."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Linear(48, 80), nn.Linear(80, 16, bias=False), nn.Embedding(320, 48)
    ).requires_grad_(requires_grad=False)
    monkeypatch.setattr(linear, "_LEAST_BYTES", layers[0].weight.nbytes)
    return layers


def run(model: nn.Sequential, inputs: torch.Tensor) -> torch.Tensor:
    return model[1](model[0](inputs))


def is_packed(layer: nn.Module) -> bool:
    return "forward" in vars(layer)


@pytest.mark.parametrize("rows", ROWS)
def test_the_products_are_those_of_the_layers(model: nn.Sequential, rows: int) -> None:
    inputs = torch.randn(1, rows, 48)
    own = run(model, inputs)
    linear.speed_up_few_rows(model)
    assert is_packed(model[0])
    torch.testing.assert_close(run(model, inputs), own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [5, 9, 63])
def test_filling_rows_up_changes_no_bit(model: nn.Sequential, rows: int) -> None:
    inputs = torch.randn(64, 48)
    linear.speed_up_few_rows(model)
    assert torch.equal(model[0](inputs[None, :rows])[0], model[0](inputs[:rows]))
    assert torch.equal(model[0](inputs[:rows]), model[0](inputs)[:rows])


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
        model[0](torch.randn(1, rows, 48))
    assert plain == [1, 3, 65]


def test_only_large_layers_are_kept_twice_and_the_log_says_what_that_takes(
    model: nn.Sequential, caplog: pytest.LogCaptureFixture
) -> None:
    model[0].weight.data = torch.randn(80_000, 48)
    model.append(nn.Embedding(400_000, 48))
    with caplog.at_level(logging.INFO):
        assert linear.speed_up_few_rows(model) == model[0].weight.nbytes
    assert [is_packed(layer) for layer in model] == [True, False, False, False]
    assert caplog.messages == [
        "14 MiB of weights are kept twice, for faster products of a few rows"
    ]


def test_no_more_than_a_quarter_of_the_weights_is_kept_twice(
    model: nn.Sequential, caplog: pytest.LogCaptureFixture
) -> None:
    model[2] = nn.Embedding(100, 48)
    with caplog.at_level(logging.INFO):
        assert linear.speed_up_few_rows(model) == 0
    assert not any(map(is_packed, model))
    assert not caplog.messages


def test_a_large_models_weights_are_not_kept_twice(
    model: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_MOST_BYTES", 1000)
    assert linear.speed_up_few_rows(model) == 0
    assert not any(map(is_packed, model))


def test_weights_in_half_precision_stay_as_they_are(model: nn.Sequential) -> None:
    assert linear.speed_up_few_rows(model.bfloat16()) == 0
    assert not any(map(is_packed, model))
