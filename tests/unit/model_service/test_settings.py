"""A model service's settings file: what it may say, and what is said of mistakes in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from model_service.settings import Settings
from specfuse.errors import Misconfigured

TORCH = "name: llama\ntorch:\n  model: /models/llama\n"
SCRIPTED = "name: s\nbackend: scripted\nscripted:\n  lines: [{answer: ' Yes.'}]\n"


def parse(text: str) -> Settings:
    return Settings.parse(text, source="model.yaml")


def test_little_has_to_be_said() -> None:
    settings = parse(TORCH)
    assert settings.backend == "torch"
    assert settings.torch is not None
    assert settings.torch.model == "/models/llama"
    assert settings.torch.trust_remote_code is False
    assert settings.limits.segment_tokens == 512


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse(TORCH).name = "other"  # type: ignore[misc]


def test_every_key_is_described() -> None:
    schema = Settings.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for key, described in section.get("properties", {}).items():
            assert described.get("description"), key


def test_overrides_replace_keys_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(TORCH, encoding="utf-8")
    settings = Settings.read(path, {"listen": "127.0.0.1:0", "name": "other"})
    assert (settings.listen, settings.name) == ("127.0.0.1:0", "other")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("torch:\n  model: x\n", "model.yaml: name: is required"),
        (TORCH + "lisen: x\n", "model.yaml:4: lisen: unknown key; did you mean listen?"),
        (TORCH + "  modle: x\n", "model.yaml:4: torch.modle: unknown key; did you mean model?"),
        (TORCH + "  dtype: int8\n", "model.yaml:4: torch.dtype: 'int8': must be 'auto', 'float32'"),
        (TORCH + "  device: tpu\n", "model.yaml:4: torch.device: 'tpu': must match pattern"),
        (TORCH + "  kv_cache_bytes: 0\n", "model.yaml:4: torch.kv_cache_bytes: 0: must be greater"),
        (TORCH + "  threads: two\n", "model.yaml:4: torch.threads: 'two': must be a whole number"),
        (TORCH + "listen: here\n", "model.yaml:4: listen: 'here': must be host:port, as in"),
        (TORCH + "limits: {candidates: 65}\n", "model.yaml:4: limits.candidates: 65: must be less"),
        (TORCH + "limits: {segment_tokens: 513}\n", "limits.segment_tokens: 513: must be less"),
        (TORCH + "name: again\n", "model.yaml:1: name: given twice, on lines 1 and 4"),
        (TORCH.replace("llama\n", "a b\n", 1), "model.yaml:1: name: 'a b': must match pattern"),
        (TORCH + "  tensor_parallel: 0\n", "torch.tensor_parallel: 0: must be greater"),
        (
            TORCH + "  tensor_parallel: 2\n  compile: true\n",
            "model.yaml:5: torch.compile: true: contradicts torch.tensor_parallel: 2; drop one",
        ),
        (
            TORCH + "  tensor_parallel: 2\n  quantization: {quant_method: x}\n",
            "model.yaml:5: torch.quantization: contradicts torch.tensor_parallel: 2; drop one",
        ),
        (
            TORCH + "  tensor_parallel: 2\n  device: 'cuda:1'\n",
            "model.yaml:5: torch.device: 'cuda:1': contradicts torch.tensor_parallel: 2",
        ),
        ("name: llama\n", "model.yaml: torch: is required by backend: torch"),
        ("name: s\nbackend: scripted\n", "scripted: is required by backend: scripted"),
        (SCRIPTED + "torch: {model: x}\n", "model.yaml:5: torch: contradicts backend: scripted"),
        ("name: s\nbackend: scripted\nscripted: {lines: []}\n", "scripted.lines: must have at"),
        ("- a list", "model.yaml: must be a mapping"),
        ("name: [", "model.yaml:1: not YAML"),
    ],
)
def test_mistakes_name_file_line_key_and_remedy(text: str, said: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        parse(text)
    assert said in caught.value.message


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(Misconfigured) as caught:
        parse(TORCH + "  dtype: int8\nlisten: here\ndrain_seconds: -1\n")
    assert len(caught.value.message.splitlines()) == 3


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"none\.yaml: cannot be read"):
        Settings.read(tmp_path / "none.yaml")
