"""A real language model, from a GGUF file that a person has: the same weights in several forms."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import gguf
import pytest
import torch
import yaml
from gguf.quants import dequantize
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from tests.support.command import RunningMesh, running_mesh
from tests.support.llama_server import llama_server

VARIABLE: Final = "SPECFUSE_GGUF"

needs_gguf = pytest.mark.skipif(
    not os.environ.get(VARIABLE),
    reason=f"needs {VARIABLE}: the path of a language model's GGUF file, such as Gemma 3 270M's, "
    "that both transformers and llama-server read",
)


def gguf_file() -> Path:
    """The file that the environment names."""
    return Path(os.environ[VARIABLE])


def write_as_read(file: Path, directory: Path) -> None:
    """The weights as the file's quantisation left them, in float32, with the tokenizer."""
    found = {"gguf_file": file.name, "local_files_only": True}
    AutoTokenizer.from_pretrained(file.parent, **found).save_pretrained(directory)
    packed = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **found)
    config = AutoConfig.from_pretrained(file.parent, **found)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(packed.state_dict())
    model.generation_config = packed.generation_config
    model.save_pretrained(directory)


def write_rounded(model_dir: Path, directory: Path, bits: int) -> None:
    """A coarser quantisation: each row of each matrix in so many bits, beside its own scale."""
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    with torch.inference_mode():
        for matrix in _matrices(model):
            steps = 2 ** (bits - 1) - 1
            scale = matrix.abs().amax(1, keepdim=True).clamp(min=1e-12) / steps
            matrix.copy_((matrix / scale).round() * scale)
    model.save_pretrained(directory)


def _matrices(model: PreTrainedModel) -> Iterator[torch.Tensor]:
    return (weights for weights in model.parameters() if weights.dim() == 2)


def write_unpacked(file: Path, path: Path) -> None:
    """The same file with all weights in float32, for a server whose arithmetic is then exact."""
    reader = gguf.GGUFReader(file)
    writer = gguf.GGUFWriter(path, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", _FILE_TYPE):
            inner = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], inner)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


_FILE_TYPE: Final = "general.file_type"


# --- a mesh of it -------------------------------------------------------------------------------

MEMBERS: Final = ("original", "rounded", "q4")
"""On torch as read, on torch in 8 bits a row, and as it is on a llama-server."""

GROUPS: Final = tuple(group for size in (2, 3) for group in itertools.combinations(MEMBERS, size))
WAYS: Final = ("q4", "by-example")
"""One model on one server, asked with two chat templates."""

VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "default": {},
    "segments": {"preset": "segments"},
    "no-exit": {"vote": "segments", "exit": {"policy": "none"}},
}
_PATIENT: Final = {
    "straggler_grace_seconds": 300.0,
    "round_timeout_seconds": 300.0,
    "request_timeout_seconds": 600.0,
}
_ROUNDED_BITS: Final = 8
_QUESTION: Final = "Question: {{ messages[0].content }}\nAnswer:"
_EXAMPLE: Final = "Question: Which planet is red?\nAnswer: Mars\n"
_TEMPLATES: Final = {
    "original": f"{{{{ bos_token }}}}{_QUESTION}",
    "by-example": f"{{{{ bos_token }}}}{_EXAMPLE}{_QUESTION}",
}
_TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "config.json",
    "generation_config.json",
)


def ensemble(members: Sequence[str], variant: str = "default") -> str:
    """What an ensemble of the mesh is called."""
    return "-".join((*members, variant))


@contextmanager
def real_mesh(file: Path, place: Path) -> Iterator[RunningMesh]:
    """A mesh of the model in two quantisations and two ways of asking, its files in `place`."""
    write_as_read(file, place / "original")
    write_rounded(place / "original", place / "rounded", _ROUNDED_BITS)
    for name, template in _TEMPLATES.items():
        (place / name).mkdir(exist_ok=True)
        (place / name / "chat_template.jinja").write_text(template)
    for name in _TOKENIZER_FILES:
        shutil.copy(place / "original" / name, place / "by-example")
    with (
        llama_server(file, "--ctx-size", "8192", "--parallel", "4", "--metrics") as url,
        running_mesh(str(_mesh_file(place, url))) as mesh,
    ):
        yield mesh


def _mesh_file(place: Path, url: str) -> Path:
    def on_torch(name: str) -> dict[str, Any]:
        return {"torch": {"model": name, "local_files_only": True, "threads": 1}}

    def on_server(tokenizer: str) -> dict[str, Any]:
        remote = {"url": url, "tokenizer": tokenizer, "local_files_only": True}
        return {"backend": "llama_cpp", "llama_cpp": remote}

    groups = (*((name,) for name in MEMBERS), ("by-example",), *GROUPS, WAYS)
    mesh = {
        "models": {
            "original": on_torch("original"),
            "rounded": on_torch("rounded"),
            "q4": on_server("original"),
            "by-example": on_server("by-example"),
        },
        "fuser": {
            "ensembles": {
                ensemble(group, variant): {"members": list(group), **rules, **_PATIENT}
                for group in groups
                for variant, rules in VARIANTS.items()
            }
        },
    }
    path = place / "mesh.yaml"
    path.write_text(yaml.safe_dump(mesh, sort_keys=False))
    return path
