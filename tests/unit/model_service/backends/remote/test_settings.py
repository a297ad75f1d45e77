"""The settings that all backends on servers have."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_service.settings import Settings
from specfuse.errors import Misconfigured

WRONG_URLS = [
    "localhost:8080",
    "ftp://host",
    "http://",
    "http://a b",
    "http://host?x=1",
    "grpc://h:1",
    "http://:8080",
    "http://host:port",
    "http://host:99999",
    "http://host:0",
    "http://[::1",
    "http://hôst",
]


def parsed(url: str) -> Settings:
    text = f"name: m\nbackend: llama_cpp\nllama_cpp: {{url: '{url}', tokenizer: t}}"
    return Settings.parse(text, source="model.yaml")


@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_url_that_is_none_is_named(url: str) -> None:
    with pytest.raises(Misconfigured, match=r"model.yaml:3: llama_cpp.url: .* must be http"):
        parsed(url)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(Misconfigured, match="api_key_file") as caught:
        parsed("http://user:hunter2@host:80")
    assert "hunter2" not in caught.value.message
    assert "host:80" in caught.value.message


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "https://host/prefix/", "http://[::1]:1"])
def test_a_url_is_taken_without_its_last_slash(url: str) -> None:
    chosen = parsed(url).chosen
    assert chosen.url == url.rstrip("/")  # type: ignore[attr-defined]


def test_paths_start_at_the_files_directory(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    section = type(parsed("http://host").chosen)
    document = {"tokenizer": "model", "api_key_file": "key", "url": "http://host"}
    located = section.located(document, tmp_path)
    assert located == {
        "tokenizer": str(tmp_path / "model"),
        "api_key_file": str(tmp_path / "key"),
        "url": "http://host",
    }
    assert section.located({"tokenizer": "owner/name"}, tmp_path) == {"tokenizer": "owner/name"}
