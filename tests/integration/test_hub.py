"""A tokenizer on the hub: what is fetched, from which commit, and that none of it is run."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from specfuse.demo.experts import EXPERTS

MODEL = "team/expert"
COMMIT = hashlib.sha1(b"the commit", usedforsecurity=False).hexdigest()
LOADING = """
import sys
from model_service.backends.text.files import ModelFiles
from model_service.backends.text.loading import load_tokenizer
from specfuse.errors import Misconfigured
try:
    found = load_tokenizer(ModelFiles("vllm.tokenizer", *eval(sys.argv[1]))).fingerprint
except Misconfigured as error:
    found = error.message
print(found)
print(sorted({"torch", "transformers", "remote"} & sys.modules.keys()))
"""


@dataclass
class Hub:
    """A made-up hub with one model, and what it was asked for."""

    files: dict[str, bytes]
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(path)
        api, raw = f"/api/models/{MODEL}/revision/", f"/{MODEL}/resolve/{COMMIT}/"
        if path.partition("?")[0] in (f"{api}main", f"{api}v2", f"{api}{COMMIT}"):
            siblings = [{"rfilename": name} for name in self.files]
            about = {"id": MODEL, "sha": COMMIT, "siblings": siblings}
            return 200, {}, json.dumps(about).encode()
        if path.startswith(f"/api/models/{MODEL}/tree/{COMMIT}"):
            return 200, {}, json.dumps([*map(self._entry, self.files)]).encode()
        content = self.files.get(path.removeprefix(raw)) if path.startswith(raw) else None
        if content is None:
            code = "EntryNotFound" if path.startswith(raw) else "RepoNotFound"
            return 404, {"X-Error-Code": code, "X-Error-Message": "not found"}, b""
        etag = hashlib.sha256(content).hexdigest()
        return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, content

    def _entry(self, name: str) -> dict[str, object]:
        content = self.files[name]
        oid = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        return {"type": "file", "path": name, "size": len(content), "oid": oid}


@pytest.fixture
def hub() -> Iterator[Hub]:
    expert = next(expert for expert in EXPERTS if expert.name == "capitals")
    files = {path.name: path.read_bytes() for path in expert.path.iterdir()}
    made_up = Hub(files | {"remote.py": b"raise SystemExit('run')"})
    config = json.loads(files["tokenizer_config.json"])
    config["auto_map"] = {"AutoTokenizer": [None, "remote.Tokenizer"]}
    made_up.files["tokenizer_config.json"] = json.dumps(config).encode()

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = made_up.answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 (as its base calls it)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        made_up.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        yield made_up
        server.shutdown()


def loaded(hub: Hub, cache: Path, *files: object) -> str:
    """What a process of its own says that loads the tokenizer of a model."""
    done = subprocess.run(
        [sys.executable, "-c", LOADING, repr(files)],
        env=os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(cache)},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    found, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    return found


def fingerprint(tmp_path: Path, hub: Hub) -> str:
    """That of the same files in a directory."""
    directory = tmp_path / "directory"
    directory.mkdir()
    for name, content in hub.files.items():
        (directory / name).write_bytes(content)
    return loaded(hub, tmp_path, str(directory))


@pytest.mark.parametrize("revision", [None, "v2"])
def test_a_tokenizer_is_fetched_from_one_commit_and_without_weights_or_programs(
    tmp_path: Path, hub: Hub, revision: str | None
) -> None:
    expected = fingerprint(tmp_path, hub)
    assert hub.asked == []
    assert loaded(hub, tmp_path / "cache", MODEL, revision) == expected
    assert any(f"/revision/{revision or 'main'}" in path for path in hub.asked)
    fetched = {path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path}
    assert "tokenizer.json" in fetched
    assert not fetched & {"remote.py", "model.safetensors"}
    assert all(COMMIT in path for path in hub.asked if "/resolve/" in path)


def test_what_was_fetched_is_there_without_the_hub(tmp_path: Path, hub: Hub) -> None:
    cache = tmp_path / "cache"
    first = loaded(hub, cache, MODEL)
    hub.asked.clear()
    assert loaded(hub, cache, MODEL, None, True) == first
    assert hub.asked == []
    assert loaded(Hub({}, "http://127.0.0.1:9"), cache, MODEL) == first


@pytest.mark.parametrize("files", [("team/none",), (MODEL, "v3"), (MODEL, None, True)])
def test_what_is_not_there_is_named_with_its_setting(
    tmp_path: Path, hub: Hub, files: tuple[object, ...]
) -> None:
    said = loaded(hub, tmp_path / "cache", *files)
    assert said.startswith(f"vllm.tokenizer: {files[0]!r} cannot be loaded: ")


def test_a_model_without_tokenizer_json_on_the_hub(tmp_path: Path, hub: Hub) -> None:
    del hub.files["tokenizer.json"]
    said = loaded(hub, tmp_path / "cache", MODEL)
    assert said.startswith(f"vllm.tokenizer: {MODEL!r}: there is no tokenizer.json; convert")
