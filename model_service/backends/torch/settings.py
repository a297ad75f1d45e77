"""Which model the torch backend runs, and with what means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from model_service.backends.section import BackendSection
from specfuse.config.settings_file import Problem
from specfuse.config.types import Count, Flag

_CUDA_DRIVER = Path("/dev/nvidiactl")
"""Is there where CUDA devices are."""


class TorchSection(BackendSection):
    """A Hugging Face causal language model, run in this process."""

    extra: ClassVar[str] = "torch"
    packages: ClassVar[frozenset[str]] = frozenset(
        {"accelerate", "numpy", "safetensors", "torch", "transformers"}
    )

    model: Annotated[str, Field(min_length=1)]
    """A directory with a Hugging Face causal language model, or its id on the hub."""
    revision: str | None = None
    """Branch, tag or commit on the hub. Absent: the default branch."""
    local_files_only: Flag = False
    """Whether the hub is never asked: the model must be a directory or in the cache."""
    trust_remote_code: Flag = False
    """Whether Python code that comes with the model may run here. Leave off unless you read it."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Numbers of weights and cache. `auto`: float32 on a CPU, the model's own elsewhere."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """`cpu`, `cuda`, `cuda:1`. `auto`: the first CUDA device if there is one."""
    tensor_parallel: Count = 1
    """Processes that the model's layers are split over, each on its own CUDA device (0, 1, ...) if
    there are any. Must divide the model's heads and key-value heads."""
    quantization: dict[str, Any] | None = None
    """What transformers takes: `{quant_method: bitsandbytes, load_in_8bit: true}`, or others."""
    max_context_tokens: Count | None = None
    """Most tokens of context and segment. Absent: as many as the model was made for."""
    kv_cache_bytes: Count = 1 << 30
    """Memory for keys and values of contexts, in bytes, in each process. More keeps more sessions
    warm."""
    compile: Flag = False
    """Whether the model runs through `torch.compile`: minutes to start, some percent faster."""
    max_batch_tokens: Annotated[int, Field(strict=True, ge=16)] | None = None
    """Most tokens that one forward pass takes, over all calls. Fewer: a long prompt delays others
    less. Absent: 256 on a CPU, 2048 elsewhere."""
    max_running_calls: Count = 64
    """Most calls that share one forward pass."""
    threads: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = None
    """CPU threads that torch computes with, in each process. Absent: torch's own choice, one per
    core, or its share of them."""

    def contradictions(self) -> Iterator[Problem]:
        """What cannot be done in several processes."""
        if self.tensor_parallel == 1:
            return
        several = f"torch.tensor_parallel: {self.tensor_parallel}"
        if self.quantization is not None:
            yield Problem(("quantization",), f"contradicts {several}; drop one")
        if self.compile:
            yield Problem(("compile",), f"true: contradicts {several}; drop one")
        if ":" in self.device:
            yield Problem(
                ("device",),
                f"{self.device!r}: contradicts {several}, as parts take cuda:0, cuda:1, ...; "
                "drop one",
            )

    @classmethod
    def located(cls, document: dict[str, Any], directory: Path) -> dict[str, Any]:
        """With the model's directory made absolute, if there is one and it is no id on the hub."""
        model = document.get("model")
        if not isinstance(model, str):
            return document
        there = directory.absolute() / model
        return {**document, "model": str(there)} if there.exists() else document

    @classmethod
    def sharing(cls, document: dict[str, Any], processors: int) -> dict[str, Any]:
        """With a fair share of the processors, unless it says otherwise."""
        return {"threads": processors} | document

    def forks(self) -> bool:
        """Not where CUDA may be used, which no process can that was forked from one that asked."""
        return self.device == "cpu" or not _CUDA_DRIVER.exists()
