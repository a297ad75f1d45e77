"""From settings to a served model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from model_service.backends.text.files import ModelFiles
from model_service.backends.text.loading import load_tokenizer
from model_service.backends.torch.backend import open_backend
from model_service.backends.torch.loading import load
from model_service.backends.torch.settings import TorchSection
from model_service.core.types import Context, ProposeRequest
from model_service.ports import BackendHost
from specfuse.deadline import Deadline
from specfuse.errors import Misconfigured
from tests.support import tiny_models
from tests.support.observers import RecordingObserver

HOST = BackendHost("tiny", RecordingObserver())


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    tiny_models.save("llama", path)
    return path


def settings(directory: Path, **changes: object) -> TorchSection:
    values = {"model": str(directory), "local_files_only": True, "device": "cpu"}
    return TorchSection.model_validate({**values, **changes})


async def test_a_directory_is_served(directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    backend = await open_backend(settings(directory), HOST)
    try:
        model = backend.model
        proposal = await backend.propose(ProposeRequest(Context("Hello"), 5), Deadline.never())
    finally:
        await backend.close()
    assert proposal.text
    assert (model.name, model.backend, model.context_window) == ("tiny", "torch", 256)
    assert model.capabilities.tree_scoring
    assert model.capabilities.prefix_cache
    assert model.capabilities.own_scores
    assert capfd.readouterr() == ("", "")


def test_a_tokenizer_of_an_older_form_is_as_if_converted(directory: Path, tmp_path: Path) -> None:
    older = shutil.copytree(directory, tmp_path / "older")
    model = json.loads((older / "tokenizer.json").read_text("utf-8"))["model"]
    (older / "tokenizer.json").unlink()
    (older / "vocab.json").write_text(json.dumps(model["vocab"]), "utf-8")
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (older / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", "utf-8")
    config = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "</s>"}
    (older / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(Misconfigured, match=r"there is no tokenizer\.json; convert"):
        load_tokenizer(ModelFiles("tokenizer", str(older)))

    AutoTokenizer.from_pretrained(older).save_pretrained(tmp_path / "converted")
    shutil.copy(older / "generation_config.json", tmp_path / "converted")
    converted = load_tokenizer(ModelFiles("tokenizer", str(tmp_path / "converted")))
    assert load(settings(older)).tokenizer.fingerprint == converted.fingerprint


def test_revision_is_of_the_weights(directory: Path, tmp_path: Path) -> None:
    revision = load(settings(directory)).revision
    assert load(settings(directory)).revision == revision
    other = shutil.copytree(directory, tmp_path / "other")
    (other / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 2]}))
    changed = load(settings(other))
    assert changed.revision != revision
    assert set(changed.tokenizer.end_ids) >= {1, 2}


def test_dtype_and_context_are_as_set(directory: Path) -> None:
    assert load(settings(directory)).model.dtype == torch.float32
    assert load(settings(directory, dtype="bfloat16")).model.dtype == torch.bfloat16
    assert load(settings(directory, max_context_tokens=100)).window == 100
    assert load(settings(directory, max_context_tokens=1000)).window == 256


def test_a_model_whose_frequencies_change_is_served_up_to_there(
    directory: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(directory, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["rope_parameters"] = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": 64,
        "factor": 4.0,
    }
    (other / "config.json").write_text(json.dumps(config))
    assert load(settings(other)).window == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "/nowhere/at/all"}, "cannot be loaded"),
        ({"device": "cuda:7"}, "not available"),
        ({"quantization": {"quant_method": "magic"}}, "cannot be loaded"),
    ],
)
def test_what_cannot_be_loaded_is_named(
    directory: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(Misconfigured, match=message):
        load(settings(directory, **changes))


def test_weights_that_are_missing_are_not_made_up(directory: Path, tmp_path: Path) -> None:
    other = shutil.copytree(directory, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    lost = next(name for name in weights if "layers.1" in name)
    save_file({n: w for n, w in weights.items() if n != lost}, other / "model.safetensors")
    with pytest.raises(Misconfigured, match=rf"1 of its weights are missing, such as .*{lost}"):
        load(settings(other))
    deeper = shutil.copytree(directory, tmp_path / "deeper")
    config = json.loads((deeper / "config.json").read_text())
    (deeper / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 9}))
    with pytest.raises(Misconfigured, match="of its weights are missing"):
        load(settings(deeper))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer_config.json", "[]", "cannot be loaded"),
        ("generation_config.json", "[1]", "cannot be loaded"),
        ("config.json", {"hidden_size": "x"}, "cannot be loaded"),
        ("config.json", {"max_position_embeddings": -5}, "a context of -5 tokens"),
    ],
)
def test_files_that_are_wrong_are_named(
    directory: Path, tmp_path: Path, file: str, content: str | dict[str, object], message: str
) -> None:
    other = shutil.copytree(directory, tmp_path / "other")
    if isinstance(content, dict):
        content = json.dumps({**json.loads((other / file).read_text()), **content})
    (other / file).write_text(content)
    with pytest.raises(Misconfigured, match=message):
        load(settings(other))


async def test_a_cache_that_holds_next_to_nothing_is_refused(directory: Path) -> None:
    with pytest.raises(Misconfigured, match=r"torch\.kv_cache_bytes: too little"):
        await open_backend(settings(directory, kv_cache_bytes=1000), HOST)
