"""From settings to a model and its tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.distributed.configuration_utils import DistributedConfig
from transformers.quantizers.auto import AutoQuantizationConfig

from model_service.backends.text.files import ModelFiles, as_misconfiguration
from model_service.backends.text.published import PublishedTokenizer, read_tokenizer
from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.backends.torch.reading import reading_ahead
from model_service.backends.torch.settings import TorchSection
from specfuse.errors import Misconfigured

_KEY = "torch.model"
_DIGESTED_BYTES = 1 << 20
_SHORTEST_WINDOW = 2


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to run, and what there is to say about it. `window` is in tokens."""

    model: PreTrainedModel
    tokenizer: SegmentTokenizer
    window: int
    revision: str


def load(settings: TorchSection) -> LoadedModel:
    """Loads the model and its tokenizer. Takes as long as reading the weights does.

    With `tensor_parallel`, this process's part of it; `torch.distributed` must be set up.

    Raises:
        Misconfigured: they cannot be found or loaded as the settings say.
    """
    source = _source(settings)
    device = _device(settings.device)
    with _quietly(), as_misconfiguration(_KEY, settings.model), reading_ahead(_weights(settings)):
        config = AutoConfig.from_pretrained(settings.model, **source)
        tokenizer = _tokenizer(settings)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            settings.model,
            config=config,
            dtype=_dtype(settings.dtype, device),
            output_loading_info=True,
            **_quantization(settings, device),
            **_split(settings),
            **source,
        )
        model: PreTrainedModel = loaded[0]
        _check_complete(loaded[1]["missing_keys"])
        if settings.quantization is None and settings.tensor_parallel == 1:
            torch.nn.Module.to(model, device)
    return LoadedModel(
        model=model,
        tokenizer=SegmentTokenizer(tokenizer, _end_ids(model)),
        window=_window(config, settings.max_context_tokens),
        revision=_revision(settings, config),
    )


def _weights(settings: TorchSection) -> list[Path]:
    """The files of weights, where this process needs all of them and they are here already."""
    whole = settings.tensor_parallel == 1
    return sorted(Path(settings.model).glob("*.safetensors")) if whole else []


def _tokenizer(settings: TorchSection) -> PublishedTokenizer:
    """The tokenizer that the files publish, converted first if they do not as `tokenizer.json`.

    What transformers makes of an older form it would write, too, so a model service without it has
    the same tokenizer by the files that it wrote.
    """
    files = ModelFiles(_KEY, settings.model, settings.revision, settings.local_files_only)
    directory = files.directory()
    if (directory / "tokenizer.json").is_file():
        return read_tokenizer(directory)
    with TemporaryDirectory(prefix="specfuse-tokenizer-") as converted:
        tokenizer = AutoTokenizer.from_pretrained(settings.model, **_source(settings))
        if not tokenizer.is_fast:
            raise Misconfigured(
                f"{_KEY}: {settings.model!r} has a tokenizer that cannot be had as tokenizer.json"
            )
        tokenizer.save_pretrained(converted)
        return read_tokenizer(Path(converted))


def _check_complete(missing: Collection[str]) -> None:
    """Refuses missing weights: transformers would fill them in at random."""
    if missing:
        raise ValueError(f"{len(missing)} of its weights are missing, such as {min(missing)}")


def check_divisible(settings: TorchSection) -> None:
    """Looks at a model's configuration only.

    Raises:
        Misconfigured: it cannot be split into `tensor_parallel` parts, or not on this machine.
    """
    with _quietly(), as_misconfiguration(_KEY, settings.model):
        config = AutoConfig.from_pretrained(settings.model, **_source(settings)).get_text_config()
    obstacle = _obstacle(config, settings.tensor_parallel) or _lack(settings)
    if obstacle:
        raise Misconfigured(f"torch.tensor_parallel: {settings.tensor_parallel}: {obstacle}")


def _obstacle(config: PretrainedConfig, parts: int) -> str | None:
    if not config.base_model_tp_plan:
        return f"transformers has no plan for splitting {config.model_type} models; use 1"
    heads = config.num_attention_heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    if heads % parts or key_heads % parts:
        return f"must divide the model's {heads} heads and its {key_heads} key-value heads"
    return None


def _lack(settings: TorchSection) -> str | None:
    """What this machine lacks for it: transformers splits over CUDA where there is any."""
    if not torch.cuda.is_available():
        return None
    if settings.device == "cpu":
        return "with torch.device: cpu, CUDA devices must be hidden: CUDA_VISIBLE_DEVICES="
    if torch.cuda.device_count() < settings.tensor_parallel:
        return f"there are {torch.cuda.device_count()} CUDA devices; each part needs one"
    return None


@contextmanager
def _quietly() -> Iterator[None]:
    """Keeps transformers' progress bars and advice off the terminal while loading."""
    logging: Any = transformers.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _source(settings: TorchSection) -> dict[str, Any]:
    return {
        "revision": settings.revision,
        "local_files_only": settings.local_files_only,
        "trust_remote_code": settings.trust_remote_code,
    }


def _split(settings: TorchSection) -> dict[str, Any]:
    """Every process reads its own part, to its own device."""
    if settings.tensor_parallel == 1:
        return {}
    return {"distributed_config": DistributedConfig(tp_size=settings.tensor_parallel)}


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=wanted).device
    except (RuntimeError, AssertionError) as error:
        raise Misconfigured(
            f"torch.device: {wanted!r} is not available here; use 'auto' or 'cpu'"
        ) from error


def _dtype(wanted: str, device: torch.device) -> torch.dtype | str:
    """On a CPU half precision is slow and the accuracy is free, so `auto` is float32 there."""
    if wanted == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    return wanted


def _quantization(settings: TorchSection, device: torch.device) -> dict[str, Any]:
    """Quantized weights are placed while they are loaded: some kinds exist on one device only."""
    if settings.quantization is None:
        return {}
    config = AutoQuantizationConfig.from_dict(dict(settings.quantization))
    return {"quantization_config": config, "device_map": {"": device}}


def _end_ids(model: PreTrainedModel) -> tuple[int, ...]:
    """All tokens that the model's own generation settings end an answer at."""
    generation = model.generation_config
    said: int | list[int] | None = generation.eos_token_id if generation is not None else None
    if said is None:
        said = model.config.get_text_config().eos_token_id
    return (said,) if isinstance(said, int) else tuple(said or ())


def _window(config: PretrainedConfig, limit: int | None) -> int:
    """The most tokens of context and segment together.

    Where rotary frequencies change beyond some length, tokens before it would have to be computed
    anew; such a model is served up to that length.
    """
    text = config.get_text_config()
    lengths = [limit, getattr(text, "max_position_embeddings", None), *_rotary_limits(text)]
    known = [length for length in lengths if length]
    if not known:
        raise Misconfigured(
            "torch.max_context_tokens: the model does not say how long its context is; set this"
        )
    if min(known) < _SHORTEST_WINDOW:
        raise Misconfigured(
            f"torch.max_context_tokens: a context of {min(known)} tokens, by this or by the "
            f"model's own configuration, is of no use; {_SHORTEST_WINDOW} is the least"
        )
    return min(known)


def _rotary_limits(config: PretrainedConfig) -> Iterator[int | None]:
    parameters = getattr(config, "rope_parameters", None) or {}
    for rope in (parameters, *parameters.values()):
        if isinstance(rope, dict) and rope.get("rope_type") == "longrope":
            yield rope.get("original_max_position_embeddings")


def _revision(settings: TorchSection, config: PretrainedConfig) -> str:
    """The commit, or a digest of local files: their names, sizes and beginnings."""
    directory = Path(settings.model)
    if not directory.is_dir():
        return getattr(config, "_commit_hash", None) or settings.revision or "unknown"
    digest = hashlib.sha256()
    for file in sorted(path for path in directory.iterdir() if path.is_file()):
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as opened:
            digest.update(opened.read(_DIGESTED_BYTES))
    return digest.hexdigest()[:40]
