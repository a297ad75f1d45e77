"""Weights that lie in blocks, or input by input: the same numbers, and only where that pays."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_model
from torch import nn

from model_service.backends.torch.engine.linear import BlockedLinear, lay_out_weights

ROWS = (0, 1, 3, 4, 8, 16, 65, 256, 257, 600)
ALWAYS, NEVER = 0, None


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
    lay_out_weights(model, NEVER)
    assert all(lies_by_inputs(layer.weight) for layer in model)
    torch.testing.assert_close(model(inputs), own, rtol=1e-5, atol=1e-6)


def test_no_weight_changes_nor_is_one_kept_twice(model: nn.Sequential) -> None:
    parameters = list(model.parameters())
    own = [weights.clone() for weights in parameters]
    lay_out_weights(model, NEVER)
    for now, before, value in zip(model.parameters(), parameters, own, strict=True):
        assert now is before
        assert torch.equal(now, value)
        assert now.untyped_storage().nbytes() == value.nbytes


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the kernel tells no mappings")
@pytest.mark.parametrize("least", [ALWAYS, NEVER])
def test_nothing_of_a_mapped_file_stays(tmp_path: Path, least: int | None) -> None:
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
    lay_out_weights(mapped, least)
    assert str(file) not in mappings.read_text()
    for now, before in zip(mapped, original, strict=True):
        assert torch.equal(now.weight, before.weight)
        assert torch.equal(now.bias, before.bias)


def test_an_embedding_goes_on_sharing_its_weights_with_the_head() -> None:
    torch.manual_seed(0)
    embedding, head = nn.Embedding(80, 16), nn.Linear(16, 80, bias=False)
    head.weight = embedding.weight
    ids = torch.tensor([[3, 79, 0]])
    own = embedding(ids)
    lay_out_weights(nn.ModuleList([embedding, head]), NEVER)
    assert head.weight is embedding.weight
    assert lies_by_inputs(embedding.weight)
    assert torch.equal(embedding(ids), own)


def test_weights_in_half_precision_stay_as_they_are(model: nn.Sequential) -> None:
    lay_out_weights(model.bfloat16(), NEVER)
    assert not any(lies_by_inputs(layer.weight) for layer in model)


def test_layers_that_are_more_than_a_product_stay_as_they_are() -> None:
    class Quantized(nn.Linear):
        pass

    layer = Quantized(48, 80)
    lay_out_weights(nn.Sequential(layer), NEVER)
    assert layer.weight.is_contiguous()


@pytest.mark.parametrize("least", [ALWAYS, NEVER])
def test_other_products_than_mkls_are_left_alone(
    model: nn.Sequential, least: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    lay_out_weights(model, least)
    assert not any(lies_by_inputs(layer.weight) for layer in model)


class TestBlocks:
    """Each of these is for layers whose weights are no other's."""

    @pytest.fixture(autouse=True)
    def _avx512(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Blocks are right on any processor, and used where they pay."""
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")

    def test_without_avx512_weights_lie_by_inputs(
        self, model: nn.Sequential, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
        lay_out_weights(model, ALWAYS)
        assert all(lies_by_inputs(layer.weight) for layer in model)

    @pytest.mark.parametrize("rows", ROWS)
    def test_the_products_are_those_of_the_layers(self, model: nn.Sequential, rows: int) -> None:
        inputs = torch.randn(1, rows, 48)
        own = model(inputs)
        lay_out_weights(model, ALWAYS)
        assert all(type(layer) is BlockedLinear for layer in model)
        torch.testing.assert_close(model(inputs), own, rtol=1e-5, atol=1e-6)

    def test_few_different_numbers_of_rows_are_multiplied(
        self, model: nn.Sequential, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        multiply, multiplied = torch.ops.mkldnn._linear_pointwise, set()

        def noting(rows: torch.Tensor, *rest: object) -> torch.Tensor:
            multiplied.add(len(rows))
            return multiply(rows, *rest)

        lay_out_weights(model, ALWAYS)
        monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", noting)
        for rows in range(600):
            model(torch.zeros(rows, 48))
        assert len(multiplied) == 16
        assert max(multiplied) == 256

    @pytest.mark.parametrize("shape", [(48,), (5, 48), (2, 3, 48), (2, 0, 48)])
    def test_inputs_have_any_shape(self, model: nn.Sequential, shape: tuple[int, ...]) -> None:
        inputs = torch.randn(shape)
        own = model(inputs)
        lay_out_weights(model, ALWAYS)
        torch.testing.assert_close(model(inputs), own, rtol=1e-5, atol=1e-6)

    def test_inputs_may_lie_anyhow(self, model: nn.Sequential) -> None:
        inputs = torch.randn(48, 7).t()
        own = model(inputs)
        lay_out_weights(model, ALWAYS)
        torch.testing.assert_close(model(inputs), own, rtol=1e-5, atol=1e-6)

    def test_a_row_does_not_depend_on_what_is_beside_it(self, model: nn.Sequential) -> None:
        inputs = torch.randn(5, 48)
        lay_out_weights(model, ALWAYS)
        beside = torch.cat((inputs, torch.full((2, 48), torch.nan)))
        torch.testing.assert_close(model(beside)[:5], model(inputs), rtol=1e-5, atol=1e-6)

    def test_weights_can_be_read(self, model: nn.Sequential) -> None:
        own = [layer.weight.clone() for layer in model]
        lay_out_weights(model, ALWAYS)
        for layer, weights in zip(model, own, strict=True):
            assert torch.equal(layer.weight, weights)

    def test_layers_that_take_little_together_stay_as_they_are(self, model: nn.Sequential) -> None:
        nbytes = sum(layer.weight.nbytes for layer in model)
        lay_out_weights(model, nbytes + 1)
        assert all(lies_by_inputs(layer.weight) for layer in model)
        lay_out_weights(model, nbytes)
        assert all(type(layer) is BlockedLinear for layer in model)

    def test_they_can_be_done_without(self, model: nn.Sequential) -> None:
        lay_out_weights(model, NEVER)
        assert all(lies_by_inputs(layer.weight) for layer in model)

    def test_what_others_share_stays(self) -> None:
        embedding, head, alone = nn.Embedding(80, 16), nn.Linear(16, 80), nn.Linear(16, 16)
        head.weight = embedding.weight
        twice = nn.Linear(16, 16)
        model = nn.ModuleList([embedding, head, alone, twice, nn.Sequential(twice)])
        lay_out_weights(model.requires_grad_(requires_grad=False), ALWAYS)
        kinds = [type(layer) for layer in model]
        assert kinds == [nn.Embedding, nn.Linear, BlockedLinear, nn.Linear, nn.Sequential]
        assert head.weight is embedding.weight
        assert model[4][0] is twice

    def test_layers_in_half_precision_stay_as_they_are(self, model: nn.Sequential) -> None:
        lay_out_weights(model.bfloat16(), ALWAYS)
        assert all(type(layer) is nn.Linear for layer in model)

    def test_what_is_replaced_is_held_by_nobody(self, model: nn.Sequential) -> None:
        weights = [weakref.ref(layer.weight) for layer in model]
        lay_out_weights(model, ALWAYS)
        gc.collect()
        assert [held() for held in weights] == [None, None]

    def test_without_onednn_weights_lie_by_inputs(
        self, model: nn.Sequential, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        lay_out_weights(model, ALWAYS)
        assert all(lies_by_inputs(layer.weight) for layer in model)
