"""The settings of every backend that asks a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from model_service.backends.section import BackendSection
from specfuse.config.types import Count, Flag, Seconds


def _url(value: str) -> str:
    scheme, _, rest = value.partition("://")
    if scheme not in ("http", "https") or any(c in value for c in " ?#") or not _is_host(value):
        raise ValueError("must be http://host:port or https://host:port, perhaps with a path")
    if "@" in rest.partition("/")[0]:
        raise ValueError("must not hold a user or password; give a key by api_key_file")
    return value.rstrip("/")


def _is_host(url: str) -> bool:
    """Whether a URL names a host, and a port that there is if it names one."""
    try:
        parts = urlsplit(url)
        named, port = parts.hostname, parts.port
    except ValueError:
        return False
    return bool(named) and port != 0 and url.isascii() and url.isprintable()


Url = Annotated[str, AfterValidator(_url)]


class RemoteSection(BackendSection):
    """A server that runs the model, and the model's tokenizer here."""

    kind: ClassVar[str]
    """The name of the backend."""
    extra: ClassVar[str] = "remote"
    packages: ClassVar[frozenset[str]] = frozenset(
        {"httpx2", "huggingface_hub", "jinja2", "tokenizers"}
    )

    url: Url
    """Where the server listens: `http://127.0.0.1:8080`."""
    tokenizer: Annotated[str, Field(min_length=1)]
    """The tokenizer of the model that the server runs: a directory with `tokenizer.json`, or the
    model's id on the hub."""
    revision: str | None = None
    """Branch, tag or commit on the hub. Absent: the default branch."""
    local_files_only: Flag = False
    """Whether the hub is never asked: the tokenizer must be a directory or in the cache."""
    max_context_tokens: Count | None = None
    """Most tokens of context and segment. Absent: as many as the server says it takes."""
    api_key_file: Path | None = None
    """A file with the key that the server asks for. It is read again when it changes."""
    ca_file: Path | None = None
    """PEM file of the authorities that the server's certificate is checked with. Absent: the
    system's."""
    connections: Count = 64
    """Most requests to the server at a time; further ones wait for their turn."""
    start_seconds: Seconds = 600.0
    """How long the server may take to be ready, loading its model included."""

    @classmethod
    def located(cls, document: dict[str, Any], directory: Path) -> dict[str, Any]:
        """With paths made absolute: of files, and of the tokenizer if there is such a directory."""
        paths = {key: document.get(key) for key in ("tokenizer", "api_key_file", "ca_file")}
        there = {
            key: str(directory.absolute() / path)
            for key, path in paths.items()
            if isinstance(path, str) and (key != "tokenizer" or (directory / path).exists())
        }
        return document | there
