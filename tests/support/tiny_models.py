"""Random-weight language models of many architectures, small enough to run anywhere."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconH1Config,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
)

from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.backends.torch.loading import LoadedModel
from tests.support.tokenizers import kind, published

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WINDOW = 256
"""Tokens of every tiny model's context."""

SERVED_WINDOW = 1024
"""Tokens of the context of `llama_served`, whose heads are as large as inference servers need."""

_ROTARY = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": WINDOW,
}
_GROUPED = {**_ROTARY, "num_key_value_heads": 2}

_TOKENIZERS = {
    "llama": "byte_bpe_digits",
    "llama_served": "byte_bpe_digits",
    "qwen2": "byte_bpe",
    "mistral": "llama2_bpe",
    "gemma2": "metaspace_unigram",
    "gpt_neox": "byte_bpe",
    "gpt2": "wordpiece",
    "bloom": "byte_bpe",
    "hybrid": "byte_bpe_digits",
}

PACKED = ("llama", "qwen2", "mistral", "gemma2", "gpt_neox", "gpt2")
"""Architectures of full or sliding-window attention, rotary or learned positions."""

COPIED = ("bloom", "hybrid")
"""Architectures that need the fallback: biases for positions, and a state-space hybrid."""


_CONFIGS = {
    "llama": partial(LlamaConfig, **_GROUPED),
    "llama_served": partial(
        LlamaConfig,
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=SERVED_WINDOW,
    ),
    "qwen2": partial(
        Qwen2Config,
        use_sliding_window=True,
        sliding_window=20,
        max_window_layers=2,
        **_GROUPED,
    ),
    "mistral": partial(MistralConfig, sliding_window=12, head_dim=8, **_GROUPED),
    "gemma2": partial(
        Gemma2Config,
        sliding_window=10,
        head_dim=16,
        query_pre_attn_scalar=16,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
        **_GROUPED,
    ),
    "gpt_neox": partial(GPTNeoXConfig, **_ROTARY),
    "gpt2": partial(GPT2Config, n_positions=WINDOW, n_embd=32, n_layer=3, n_head=4),
    "bloom": partial(BloomConfig, hidden_size=32, n_layer=2, n_head=4),
    "hybrid": partial(
        FalconH1Config,
        mamba_d_ssm=32,
        mamba_n_heads=4,
        mamba_d_head=8,
        mamba_d_state=8,
        mamba_chunk_size=8,
        **_GROUPED,
    ),
}
"""Small configurations. Attention windows are shorter than most contexts of the tests."""


def tokenizer(architecture: str) -> PreTrainedTokenizerFast:
    """The tokenizer that a tiny model has."""
    return kind(_TOKENIZERS[architecture]).tokenizer


def model(architecture: str) -> PreTrainedModel:
    """A new model, always with the same weights: far enough from zero to have opinions."""
    tokens = tokenizer(architecture)
    ends = {"bos_token_id": tokens.bos_token_id, "eos_token_id": tokens.eos_token_id}
    shape = _CONFIGS[architecture](vocab_size=len(tokens), **ends)
    torch.manual_seed(7)
    built = AutoModelForCausalLM.from_config(shape, dtype=torch.float32)
    with torch.no_grad():
        for name, weight in built.named_parameters():
            if weight.dim() > 1 and "conv" not in name:
                weight.mul_(6.0)
    return built.eval()


@cache
def reference(architecture: str) -> PreTrainedModel:
    """A model of the same weights that nobody changes, to compare with."""
    return model(architecture)


def loaded(architecture: str) -> LoadedModel:
    """The model as the backend takes it."""
    built = model(architecture)
    tokens = SegmentTokenizer(published(tokenizer(architecture)))
    return LoadedModel(built, tokens, WINDOW, "random")


def save(architecture: str, directory: Path) -> None:
    """Writes a model and its tokenizer as a Hugging Face directory."""
    model(architecture).save_pretrained(directory)
    tokenizer(architecture).save_pretrained(directory)
