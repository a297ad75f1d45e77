"""Writes Hugging Face models as GGUF, which llama-server reads: float32, tokenizer included."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig

_PRE_TOKENIZERS = {
    "ByteLevel": "gpt-2",
    r" ?\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt-2",
    r"\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "qwen2",
}
"""llama.cpp's name for each way of cutting text into words: GPT-2's, the experts', the tests'.

It knows ways by name only, so the last two are the nearest that it has. Where those cut less, as
between digits, no merge goes across; where they cut more, after an apostrophe, ids may differ.
"""


def write_gguf(model_dir: Path, path: Path) -> None:
    """Writes the model and the tokenizer of a Hugging Face directory to one GGUF file.

    Raises ValueError for an architecture or a tokenizer that llama.cpp would run as something else.
    """
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    config = model.config
    if config.model_type not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise ValueError(
            f"model_type {config.model_type!r} cannot be written as GGUF, only {known}"
        )
    architecture = _ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture.kind])
    _add_shape(writer, config)
    architecture.add_parameters(writer, config)
    _add_tokenizer(writer, model_dir, config.vocab_size)
    names = gguf.get_tensor_name_map(architecture.kind, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        written = architecture.arrange(name, tensor, config)
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), written.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: gguf.GGUFWriter, config: PreTrainedConfig) -> None:
    """What all architectures have in common."""
    writer.add_name(config.model_type)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if config.rope_parameters["rope_type"] != "default":
        raise ValueError(f"rope_type {config.rope_parameters['rope_type']!r} cannot be written")


# --- the architectures --------------------------------------------------------------------------


def _add_llama(writer: gguf.GGUFWriter, config: PreTrainedConfig) -> None:
    head_dim = _head_dim(config)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _add_granite(writer: gguf.GGUFWriter, config: PreTrainedConfig) -> None:
    _add_llama(writer, config)
    writer.add_attention_scale(config.attention_multiplier)
    writer.add_embedding_scale(config.embedding_multiplier)
    writer.add_residual_scale(config.residual_multiplier)
    writer.add_logit_scale(config.logits_scaling)


def _add_gpt_neox(writer: gguf.GGUFWriter, config: PreTrainedConfig) -> None:
    rotary = config.rope_parameters["partial_rotary_factor"]
    writer.add_rope_dimension_count(int(rotary * _head_dim(config)))
    writer.add_parallel_residual(config.use_parallel_residual)
    writer.add_layer_norm_eps(config.layer_norm_eps)


def _interleave_rotary(name: str, tensor: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    """Puts numbers of queries and keys that rotate together side by side, not half a head apart."""
    if ".q_proj." not in name and ".k_proj." not in name:
        return tensor
    halves = tensor.view(-1, 2, _head_dim(config) // 2, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)


def _group_projections(name: str, tensor: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    """All heads' queries, then all keys, then all values, where the model has them head by head."""
    if ".query_key_value." not in name:
        return tensor
    by_head = tensor.view(config.num_attention_heads, 3, _head_dim(config), *tensor.shape[1:])
    return by_head.transpose(0, 1).reshape(tensor.shape)


def _head_dim(config: PreTrainedConfig) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


@dataclass(frozen=True, slots=True)
class _Architecture:
    """llama.cpp's kind of model, the parameters it needs, and how it arranges weights."""

    kind: gguf.MODEL_ARCH
    add_parameters: Callable[[gguf.GGUFWriter, PreTrainedConfig], None]
    arrange: Callable[[str, torch.Tensor, PreTrainedConfig], torch.Tensor]


_ARCHITECTURES = {
    "llama": _Architecture(gguf.MODEL_ARCH.LLAMA, _add_llama, _interleave_rotary),
    "granite": _Architecture(gguf.MODEL_ARCH.GRANITE, _add_granite, _interleave_rotary),
    "gpt_neox": _Architecture(gguf.MODEL_ARCH.GPTNEOX, _add_gpt_neox, _group_projections),
}


# --- the tokenizer ------------------------------------------------------------------------------


def _add_tokenizer(writer: gguf.GGUFWriter, model_dir: Path, vocab_size: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    if rules["model"]["type"] != "BPE" or rules["model"]["byte_fallback"]:
        raise ValueError(f"a {rules['model']['type']} tokenizer is not byte-level BPE")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(rules["pre_tokenizer"]))
    tokens, types = zip(*_tokens(rules, vocab_size), strict=True)
    writer.add_token_list(list(tokens))
    writer.add_token_types(list(types))
    writer.add_token_merges([" ".join(pair) for pair in rules["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(tokenizer("").input_ids == [tokenizer.bos_token_id])
    if tokenizer.unk_token_id is not None:
        writer.add_unk_token_id(tokenizer.unk_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    if tokenizer.chat_template is not None:
        writer.add_chat_template(tokenizer.chat_template)


def _pre_tokenizer(rules: dict) -> str:
    """llama.cpp's name for the way that a tokenizer cuts text into words."""
    parts = rules.get("pretokenizers", [rules])
    words = parts[0].get("pattern", {}).get("Regex", parts[0]["type"])
    if parts[-1]["type"] != "ByteLevel" or words not in _PRE_TOKENIZERS:
        raise ValueError(f"llama.cpp has no name for a tokenizer that cuts words by {words!r}")
    return _PRE_TOKENIZERS[words]


def _tokens(rules: dict, vocab_size: int) -> Iterator[tuple[str, gguf.TokenType]]:
    """Every id's text and type. The model may know ids that the tokenizer does not."""
    texts = {id_: text for text, id_ in rules["model"]["vocab"].items()}
    added = {token["id"]: token for token in rules["added_tokens"]}
    for id_ in range(vocab_size):
        if id_ in added:
            control = added[id_]["special"]
            kind = gguf.TokenType.CONTROL if control else gguf.TokenType.USER_DEFINED
            yield added[id_]["content"], kind
        elif id_ in texts:
            yield texts[id_], gguf.TokenType.NORMAL
        else:
            yield f"[UNUSED{id_}]", gguf.TokenType.UNUSED
