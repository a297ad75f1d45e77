"""Weights that lie input by input: the same numbers, and only where that pays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_model
from torch import nn

from model_service.backends.torch.engine.linear import lay_out_by_inputs

ROWS = (1, 3, 4, 8, 16, 65)


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(48, 80), nn.Linear(80, 16, bias=False)).requires_grad_(
        requires_grad=False
    )


def lies_by_inputs(weight: torch.Tensor) -> bool:
    return weight.t().is_contiguous()


@pytest.mark.parametrize("rows", ROWS)
def test_the_products_are_those_of_the_layers(model: nn.Sequential, rows: int) -> None:
    inputs = torch.randn(1, rows, 48)
    own = model(inputs)
    lay_out_by_inputs(model)
    assert all(lies_by_inputs(layer.weight) for layer in model)
    torch.testing.assert_close(model(inputs), own, rtol=1e-5, atol=1e-6)


def test_no_weight_changes_nor_is_one_kept_twice(model: nn.Sequential) -> None:
    parameters = list(model.parameters())
    own = [weights.clone() for weights in parameters]
    lay_out_by_inputs(model)
    for now, before, value in zip(model.parameters(), parameters, own, strict=True):
        assert now is before
        assert torch.equal(now, value)
        assert now.untyped_storage().nbytes() == value.nbytes


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the kernel tells no mappings")
def test_nothing_of_a_mapped_file_stays(tmp_path: Path) -> None:
    def model() -> nn.Sequential:
        return nn.Sequential(nn.Linear(48, 80), nn.LayerNorm(80)).requires_grad_(
            requires_grad=False
        )

    file = tmp_path / "model.safetensors"
    original = model()
    save_model(original, str(file))
    mapped = model()
    mapped.load_state_dict(load_file(file), assign=True)
    mappings = Path("/proc/self/maps")
    assert str(file) in mappings.read_text()
    lay_out_by_inputs(mapped)
    assert str(file) not in mappings.read_text()
    for now, before in zip(mapped.parameters(), original.parameters(), strict=True):
        assert torch.equal(now, before)


def test_an_embedding_goes_on_sharing_its_weights_with_the_head() -> None:
    torch.manual_seed(0)
    embedding, head = nn.Embedding(80, 16), nn.Linear(16, 80, bias=False)
    head.weight = embedding.weight
    ids = torch.tensor([[3, 79, 0]])
    own = embedding(ids)
    lay_out_by_inputs(nn.ModuleList([embedding, head]))
    assert head.weight is embedding.weight
    assert lies_by_inputs(embedding.weight)
    assert torch.equal(embedding(ids), own)


def test_weights_in_half_precision_stay_as_they_are(model: nn.Sequential) -> None:
    lay_out_by_inputs(model.bfloat16())
    assert not any(lies_by_inputs(layer.weight) for layer in model)


def test_layers_that_are_more_than_a_product_stay_as_they_are() -> None:
    class Quantized(nn.Linear):
        pass

    layer = Quantized(48, 80)
    lay_out_by_inputs(nn.Sequential(layer))
    assert layer.weight.is_contiguous()


def test_other_products_than_mkls_are_left_alone(
    model: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    lay_out_by_inputs(model)
    assert not any(lies_by_inputs(layer.weight) for layer in model)
