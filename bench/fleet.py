"""Five models of 7 to 9 billion random parameters on one GPU, as an ensemble would run them."""

from __future__ import annotations

import asyncio
from statistics import median

import torch
from subjects import (
    KEPT_TOKENS,
    OTHERS,
    Ours,
    Recompute,
    Shape,
    Words,
)
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
)

from bench.ratios import median_ratio

CONTEXT_TOKENS = 1024
_COMMON = {"bos_token_id": None, "eos_token_id": 0, "max_position_embeddings": 8192}
_SPARE_BYTES = 6 << 30


def configs() -> dict[str, PretrainedConfig]:
    """The shapes, by what they are like."""
    llama = {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    }
    return {
        "Llama 3 8B": LlamaConfig(vocab_size=128_256, **llama, **_COMMON),
        "Mistral 7B": MistralConfig(vocab_size=32_768, sliding_window=4096, **llama, **_COMMON),
        "Qwen 2 7B": Qwen2Config(
            vocab_size=152_064,
            hidden_size=3584,
            intermediate_size=18_944,
            num_hidden_layers=28,
            num_attention_heads=28,
            num_key_value_heads=4,
            **_COMMON,
        ),
        "Gemma 2 9B": Gemma2Config(
            vocab_size=256_000,
            hidden_size=3584,
            intermediate_size=14_336,
            num_hidden_layers=42,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=256,
            **_COMMON,
        ),
        "Llama 2 7B": LlamaConfig(
            vocab_size=32_000,
            hidden_size=4096,
            intermediate_size=11_008,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=32,
            **_COMMON,
        ),
    }


def fleet_or_reason(device: torch.device, repeats: int) -> dict[str, object] | str:
    """The fleet's numbers, or why there are none."""
    if device.type != "cuda":
        return f"left out: it needs a GPU, this ran on {device.type}"
    free, _ = torch.cuda.mem_get_info(device)
    shapes = configs()
    needed = _SPARE_BYTES + sum(map(_bytes, shapes.values()))
    if free < needed:
        return f"left out: it needs {needed >> 30} GiB of GPU memory, {free >> 30} are free"
    return asyncio.run(_measured(shapes, device, repeats))


def _bytes(config: PretrainedConfig) -> int:
    """Bytes of a model's weights in half precision."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return 2 * sum(weights.numel() for weights in model.parameters())


async def _measured(
    shapes: dict[str, PretrainedConfig], device: torch.device, repeats: int
) -> dict[str, object]:
    """A round of each model in turn: the device is shared, so times of members add up."""
    members = {
        name: Ours(Shape(config, device, torch.bfloat16), Words(config.vocab_size))
        for name, config in shapes.items()
    }
    rounds: list[float] = []
    decoding: list[float] = []
    for repeat in range(-1, repeats):
        spent = [await _member(ours, repeat) for ours in members.values()]
        if repeat >= 0:
            rounds.append(sum(whole for whole, _ in spent))
            decoding.append(sum(decode for _, decode in spent))
    recompute = [_recompute(ours, repeats) for ours in members.values()]
    for ours in members.values():
        await ours.backend.close()
    return {
        "members": list(members),
        "context": CONTEXT_TOKENS,
        "fused_token_ms": 1000 * median(rounds) / KEPT_TOKENS,
        "members_decode_token_ms": 1000 * median(decoding) / KEPT_TOKENS,
        "of_members_decoding": median_ratio(rounds, decoding),
        "recompute_fused_token_ms": 1000 * sum(recompute) / KEPT_TOKENS,
        "speedup": sum(recompute) / median(rounds),
    }


async def _member(ours: Ours, repeat: int) -> tuple[float, float]:
    """Seconds of a member's round, and of its decoding steps alone."""
    timing, _ = await ours.round(await ours.warm(repeat, CONTEXT_TOKENS), repeat)
    decode = await ours.decode(await ours.warm((repeat, "decode"), CONTEXT_TOKENS))
    return timing.whole, decode


def _recompute(ours: Ours, repeats: int) -> float:
    """Seconds of a recomputed round of the same weights."""
    with ours.plain() as model:
        recompute = Recompute(model)
        draws = torch.Generator().manual_seed(0)
        ids = torch.randint(8, 30_000, (CONTEXT_TOKENS,), generator=draws).tolist()
        others = [ids[:KEPT_TOKENS] for _ in range(OTHERS)]
        recompute.round(ids, others)
        return median(recompute.round(ids, others).whole for _ in range(repeats))
