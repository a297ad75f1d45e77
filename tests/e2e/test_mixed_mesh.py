"""The shipped experts on different backends in one mesh: it answers as if all ran on torch."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path
from typing import Any

import pytest
import yaml
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from specfuse.cli.demo import FUSED, QUESTIONS
from specfuse.client import Answer, Client, Finished, Segment, Started
from specfuse.demo.experts import EXPERTS
from specfuse.rpc.channels import open_channel
from tests.support.command import RunningMesh, running_mesh, specfuse
from tests.support.gguf_models import write_gguf
from tests.support.llama_server import EXACT, executable, needs_llama_server
from tests.support.repository import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), needs_llama_server]

SAME_SHARE = 1e-3
PATIENCE_SECONDS = 120
PATIENT = {
    "straggler_grace_seconds": 120.0,
    "round_timeout_seconds": 300.0,
    "request_timeout_seconds": 600.0,
}
BY_SEGMENTS = "by-segments"
LASTING = "lasting"
"""The ensemble of all that nobody leaves of its own accord."""


def on_llama_cpp(expert: Path, workspace: Path) -> dict[str, Any]:
    """On a llama-server that the mesh starts. As everywhere, paths start at the mesh file."""
    write_gguf(expert, workspace / f"{expert.name}.gguf")
    model = ("--model", f"{expert.name}.gguf", "--port", "{port}")
    room = ("--ctx-size", "2048", "--parallel", "2")
    return {
        "backend": "llama_cpp",
        "command": [str(executable()), *model, "--threads", "1", *room, *EXACT],
        "llama_cpp": {"tokenizer": relpath(expert, workspace), "local_files_only": True},
    }


def on_tgi(expert: Path, workspace: Path) -> dict[str, Any]:
    """On a made-up text-generation-inference, which is sent text, that the mesh starts."""
    made_up = ("-m", "tests.support.fakes.tgi_process", str(expert), "--port", "{port}")
    return {
        "backend": "tgi",
        "command": ["env", f"PYTHONPATH={REPOSITORY}", sys.executable, *made_up],
        "tgi": {"tokenizer": relpath(expert, workspace), "local_files_only": True},
    }


def on_torch(expert: Path, workspace: Path) -> dict[str, Any]:
    """In the model's own service."""
    model = {"model": relpath(expert, workspace), "local_files_only": True}
    return {"torch": model | {"threads": 1}}


Section = Callable[[Path, Path], dict[str, Any]]
"""A model's section, of an expert and the directory of the mesh file."""

BACKENDS: dict[str, Section] = {
    "capitals": on_llama_cpp,
    "sums": on_llama_cpp,
    "colours": on_tgi,
    "spanish": on_torch,
    "opposites": on_torch,
}
"""What each expert runs on."""

ON_SERVERS = tuple(name for name, on in BACKENDS.items() if on is not on_torch)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that a mesh started, as the kernel knows it."""

    argv: tuple[str, ...]
    directory: Path

    @classmethod
    def of(cls, mesh: RunningMesh, model: str) -> Server:
        """The one that a model of the mesh runs on."""
        pid = mesh.pids[f"{model}-server"]
        argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
        return cls(tuple(argv), Path(f"/proc/{pid}/cwd").readlink())

    @contextmanager
    def started_again(self) -> Iterator[None]:
        """The same once more, until the context is left."""
        null = subprocess.DEVNULL
        with subprocess.Popen(
            self.argv, cwd=self.directory, stdin=null, stdout=null, stderr=null
        ) as process:
            try:
                yield
            finally:
                process.kill()


def write_mesh(directory: Path, backends: Mapping[str, Section]) -> Path:
    """A mesh of these experts, each on its backend. Nobody is late, however busy the machine is."""
    experts = {expert.name: expert.path for expert in EXPERTS}
    everybody = {"members": list(backends), **PATIENT}
    ensembles = {
        FUSED: everybody,
        BY_SEGMENTS: everybody | {"vote": "segments"},
        LASTING: everybody | {"exit": {"policy": "none"}},
    }
    alone = {name: {"members": [name], **PATIENT} for name in backends}
    mesh = {
        "models": {name: on(experts[name], directory) for name, on in backends.items()},
        "fuser": {"ensembles": ensembles | alone},
    }
    file = directory / "mesh.yaml"
    file.write_text(yaml.safe_dump(mesh, sort_keys=False))
    return file


@pytest.fixture
def of_two(tmp_path: Path) -> Path:
    """The file of a mesh of one expert on a server, and one in its service."""
    return write_mesh(tmp_path, {"capitals": on_llama_cpp, "opposites": on_torch})


def answers_of(mesh: RunningMesh, ensemble: str) -> list[Answer]:
    """The demo's questions, answered by all experts."""
    with Client(mesh.address) as client:
        return [client.generate(question.prompt, ensemble=ensemble) for question in QUESTIONS]


def told(segment: Segment) -> tuple[Any, ...]:
    """What a round decided."""
    proposals = {one.text: (one.finished, one.proposers) for one in segment.candidates}
    return segment.segment, segment.winner, proposals, segment.left, segment.recalled


def shares(segment: Segment) -> dict[tuple[str, str], float]:
    """What every verifier gave every candidate."""
    return {
        (one.text, judged.verifier): judged.share
        for one in segment.candidates
        for judged in one.judgements
    }


def test_it_answers_exactly_as_on_torch_alone(tmp_path: Path) -> None:
    """Round by round where the vote needs no evidence, of which servers tell less than torch."""
    with running_mesh(str(write_mesh(tmp_path, BACKENDS))) as mixed:
        found = answers_of(mixed, BY_SEGMENTS)
        by_words = answers_of(mixed, FUSED)
    on_torch_alone = dict.fromkeys(BACKENDS, on_torch)
    with running_mesh(str(write_mesh(tmp_path, on_torch_alone))) as torch_alone:
        expected = answers_of(torch_alone, BY_SEGMENTS)
    assert [answer.text for answer in by_words] == [question.answer for question in QUESTIONS]
    assert not any(answer.degraded for answer in by_words)
    for question, ours, theirs in zip(QUESTIONS, found, expected, strict=True):
        assert not ours.degraded
        assert ours.text == theirs.text == question.answer
        assert list(map(told, ours.segments)) == list(map(told, theirs.segments))
        for one, other in zip(ours.segments, theirs.segments, strict=True):
            assert shares(one) == pytest.approx(shares(other), abs=SAME_SHARE)
    winners = {segment.winner for answer in found for segment in answer.segments}
    assert winners & {*ON_SERVERS}, "no model on a server ever won"


def health_until(address: str, wanted: int) -> None:
    """Returns once a service says so of itself."""

    async def watch() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS), open_channel(address) as channel:
            async for response in HealthStub(channel).Watch(HealthCheckRequest()):
                if response.status == wanted:
                    return

    asyncio.run(watch())


def test_a_server_that_dies_degrades_the_answer_and_comes_back(of_two: Path) -> None:
    with running_mesh(str(of_two)) as mesh, Client(mesh.address) as client:
        server = Server.of(mesh, "capitals")
        question = "What is the capital of Peru? Also, what is the opposite of hot?"
        os.kill(mesh.pids["capitals-server"], signal.SIGSTOP)  # no answer can be through before
        events = client.stream(question, ensemble=LASTING)
        assert isinstance(next(events), Started)
        mesh.kill("capitals-server")
        *_, finished = events
        assert isinstance(finished, Finished)
        assert finished.degraded
        assert "capitals" in {*finished.absent, *(departure.member for departure in finished.lost)}

        address = mesh.models["capitals"].address
        health_until(address, HealthCheckResponse.NOT_SERVING)
        with server.started_again():
            health_until(address, HealthCheckResponse.SERVING)
            answer = client.generate("What is the capital of Peru?", ensemble="capitals")
            assert "Lima" in answer.text

        code, _, stderr = mesh.up.end(signal.SIGINT)
    assert code == 0
    assert "· capitals waits for llama-server" in stderr
    assert "✗ capitals-server ended: killed by SIGKILL" in stderr


def test_servers_are_stopped_after_the_services(of_two: Path) -> None:
    with running_mesh(str(of_two)) as mesh:
        _, _, stderr = mesh.up.end(signal.SIGINT)
    stopped = [line.split()[1] for line in stderr.splitlines() if line.endswith("stopped")]
    assert stopped == ["fuser", "capitals", "opposites", "capitals-server"]


def test_a_launcher_that_is_killed_leaves_no_server(of_two: Path) -> None:
    with running_mesh(str(of_two)) as mesh:
        os.kill(mesh.pids["capitals-server"], signal.SIGSTOP)  # not even one that cannot react
        mesh.up.process.kill()
        mesh.wait_until_gone()


def test_a_server_that_cannot_run_its_model_is_named_with_what_it_said(of_two: Path) -> None:
    (of_two.parent / "capitals.gguf").write_text("no weights")
    done = specfuse("up", str(of_two), "--log-dir", str(of_two.parent / "logs"))
    assert done.returncode == 1
    log = of_two.parent / "logs" / "capitals-server.log"
    assert "✗ capitals-server ended: exit code 1" in done.stderr
    assert "  │ " in done.stderr
    ended = f"specfuse: capitals: its server {executable()} ended: exit code 1; its log is {log}"
    assert done.stderr.splitlines()[-1] == ended


def test_the_evaluation_starts_the_same_servers(of_two: Path) -> None:
    options = ("--questions", "1", "--config", "default", "--json")
    done = specfuse("eval", "--mesh", str(of_two), *options)
    assert done.returncode == 0, done.stderr
    assert "capitals waits for llama-server" in done.stderr
    assert json.loads(done.stdout)["fused"]["default"]["members_lost"] == 0
