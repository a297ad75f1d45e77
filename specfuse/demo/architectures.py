"""The experts' five transformer architectures, all of about the same small size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from specfuse.demo.experts import Architecture
from specfuse.demo.tokenizers import CONTEXT_WINDOW

MISTRAL_WINDOW = 192
"""Tokens a Mistral layer looks back: fewer than question and answer of five parts take."""

GEMMA2_WINDOW = 128
"""Tokens every second Gemma2 layer looks back; the others see everything."""

_HEAD = 32
"""Numbers of an attention head."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a model is. `width`, a multiple of 32, is that of its hidden states."""

    width: int = 128
    layers: int = 4

    @property
    def inner(self) -> int:
        """The width inside a gated feed-forward layer."""
        return self.width * 7 // 2

    @property
    def inner_ungated(self) -> int:
        """The width inside a feed-forward layer without a gate, of about as many parameters."""
        return self.width * 5


def build_model(
    architecture: Architecture, tokenizer: PreTrainedTokenizerBase, shape: Shape = Shape()
) -> PreTrainedModel:
    """A model of this architecture for this tokenizer, with random weights that tend to copy."""
    config = _CONFIGS[architecture](_common(tokenizer, shape), shape)
    # Soft-capped attention exists in the eager implementation only.
    attention = "eager" if architecture is Architecture.GEMMA2 else "sdpa"
    model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        config, attn_implementation=attention
    )
    for layer in model.base_model.layers:
        _make_attention_copy(layer, config)
    return cast("PreTrainedModel", model)


def _common(tokenizer: PreTrainedTokenizerBase, shape: Shape) -> dict[str, Any]:
    """What all five configurations have in common."""
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.width // _HEAD,
        "max_position_embeddings": CONTEXT_WINDOW,
        "initializer_range": 0.05,
        "tie_word_embeddings": True,
    }


@torch.no_grad()
def _make_attention_copy(layer: Any, config: PreTrainedConfig) -> None:  # noqa: ANN401
    """Starts an attention layer with an output projection that undoes its value projection.

    What is attended to is then copied as it is and, as the embeddings are tied, made the likely
    next token. Answering is mostly copying the right thing from the question, and a model that
    starts this way learns that from a fraction of the examples.
    """
    heads, width = config.num_attention_heads, config.hidden_size
    kv_heads = getattr(config, "num_key_value_heads", heads)
    value = torch.nn.init.orthogonal_(torch.empty(kv_heads * _HEAD, width), gain=0.7)
    by_head = value.view(kv_heads, _HEAD, width).repeat_interleave(heads // kv_heads, dim=0)
    if config.model_type == "gpt_neox":  # keeps query, key and value of a head together
        fused = layer.attention.query_key_value.weight.view(heads, 3, _HEAD, width)
        fused[:, 2].copy_(by_head)
        layer.attention.dense.weight.copy_(by_head.flatten(0, 1).T)
    else:
        layer.self_attn.v_proj.weight.copy_(value)
        layer.self_attn.o_proj.weight.copy_(by_head.flatten(0, 1).T)


def _llama(common: dict[str, Any], shape: Shape) -> PreTrainedConfig:
    return LlamaConfig(
        **common, intermediate_size=shape.inner, num_key_value_heads=shape.width // _HEAD
    )


def _granite(common: dict[str, Any], shape: Shape) -> PreTrainedConfig:
    return GraniteConfig(
        **common,
        intermediate_size=shape.inner,
        num_key_value_heads=shape.width // _HEAD,
        attention_bias=True,
        attention_multiplier=_HEAD**-0.5,
    )


def _gpt_neox(common: dict[str, Any], shape: Shape) -> PreTrainedConfig:
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5}
    return GPTNeoXConfig(**common, intermediate_size=shape.inner_ungated, rope_parameters=rope)


def _gemma2(common: dict[str, Any], shape: Shape) -> PreTrainedConfig:
    return Gemma2Config(
        **common,
        intermediate_size=shape.inner,
        num_key_value_heads=shape.width // _HEAD,
        head_dim=_HEAD,
        query_pre_attn_scalar=_HEAD,
        sliding_window=GEMMA2_WINDOW,
    )


def _mistral(common: dict[str, Any], shape: Shape) -> PreTrainedConfig:
    return MistralConfig(
        **common,
        intermediate_size=shape.inner,
        num_key_value_heads=shape.width // _HEAD,
        sliding_window=MISTRAL_WINDOW,
    )


_CONFIGS: dict[Architecture, Callable[[dict[str, Any], Shape], PreTrainedConfig]] = {
    Architecture.LLAMA: _llama,
    Architecture.GRANITE: _granite,
    Architecture.GPT_NEOX: _gpt_neox,
    Architecture.GEMMA2: _gemma2,
    Architecture.MISTRAL: _mistral,
}
