"""`specfuse top` at a real mesh that is asked, and on a terminal while services come and go."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from specfuse.client import Answer, Client
from specfuse.observability.metrics_endpoint import MetricsEndpoint
from tests.support.command import RunningMesh, running_mesh, specfuse
from tests.support.played_mesh import PlayedFuser
from tests.support.scripted_mesh import QUESTION, mesh_of, write_mesh
from tests.support.terminal import CTRL_C, terminal

MEMBERS = ("alpha", "beta")


@pytest.fixture
def mesh(tmp_path):
    with running_mesh(str(write_mesh(tmp_path, mesh_of(*MEMBERS)))) as mesh:
        yield mesh


@contextmanager
def asked(mesh: RunningMesh) -> Iterator[list[Answer]]:
    """The answers of a mesh that is asked all the time."""
    answers: list[Answer] = []
    over = threading.Event()

    def ask() -> None:
        with Client(mesh.address) as client:
            while not over.is_set():
                answers.append(client.generate(QUESTION))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield answers
    finally:
        over.set()
        asking.join()


def told_by(mesh: RunningMesh) -> list[str]:
    """The arguments of the command that `specfuse up` prints."""
    for line in mesh.up.process.stdout:
        if line.startswith("specfuse top "):
            return line.split()[1:]
    raise AssertionError("specfuse up does not say how to watch its mesh")


def rows(shown: str, title: str) -> dict[str, list[str]]:
    """The rows below a title, by their first word, as far as the next empty line."""
    section = shown[shown.index(f"\n{title} ") + 1 :].partition("\n\n")[0]
    return {line.split()[0]: line.split()[1:] for line in section.splitlines()}


def test_a_mesh_that_is_asked_shows_who_wins(mesh):
    command = told_by(mesh)
    with asked(mesh) as answers:
        while True:  # on a machine that is busy, an interval may be without an answer
            done = specfuse(*command, "--interval", "1")
            assert (done.stderr, done.returncode) == ("", 0)
            members = rows(done.stdout, "member")
            if members["alpha"][1] != "–" and rows(done.stdout, "ensemble")["all"][4] != "–":
                break
    winners = {segment.winner for answer in answers for segment in answer.segments}
    assert winners == {"alpha"}
    assert {name: members[name][:2] for name in MEMBERS} == {
        "alpha": ["ready", "100%"],
        "beta": ["ready", "0%"],
    }
    rounds = {len(answer.segments) for answer in answers}
    assert {float(rows(done.stdout, "ensemble")["all"][7])} == rounds
    assert set(rows(done.stdout, "model")) == {"model", *MEMBERS}


def test_a_killed_member_is_down(mesh):
    command = told_by(mesh)
    mesh.kill("beta")
    done = specfuse(*command, "--once", "--interval", "0.1")
    assert done.returncode == 1
    at = mesh.models["beta"].metrics_address
    assert f"✗ model beta {at} is down: connection refused" in done.stdout
    assert "alpha" in rows(done.stdout, "model")


def test_other_addresses_of_a_mesh_are_named_for_what_they_are(mesh):
    def complaint(address: str) -> str:
        done = specfuse("top", "--fuser", address)
        assert (done.returncode, done.stdout) == (2, "")
        return done.stderr

    problem = f"specfuse: --fuser: {mesh.address}: it does not speak HTTP; is that its gRPC address"
    assert complaint(mesh.address).startswith(problem)
    http = mesh.fuser.http_address
    assert complaint(http).startswith(f"specfuse: --fuser: {http}: it answers HTTP 404 to /metrics")
    model = mesh.models["alpha"].metrics_address
    assert "that is a model's; give it with --model" in complaint(model)


class Endpoint:
    """A fuser's metrics endpoint in a thread, at one address, that may go and come back."""

    def __init__(self) -> None:
        self.fuser = PlayedFuser()
        self.address = "127.0.0.1:0"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._endpoint: MetricsEndpoint | None = None

    def start(self) -> None:
        starting = MetricsEndpoint.start(self.address, self.fuser.registry)
        self._endpoint = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.address = self._endpoint.address

    def stop(self) -> None:
        if self._endpoint is not None:
            asyncio.run_coroutine_threadsafe(self._endpoint.stop(), self._loop).result()
            self._endpoint = None

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    endpoint.start()
    yield endpoint
    endpoint.close()


def test_a_terminal_shows_what_changes_until_ctrl_c(endpoint):
    with terminal("top", "--fuser", endpoint.address, "--interval", "0.1") as shown:
        shown.until("together")
        shown.until("0 in flight")
        endpoint.fuser.metrics.request_started()
        shown.until("1 in flight")
        endpoint.stop()
        shown.until("is down: connection refused")
        endpoint.fuser = PlayedFuser(started=2.0)
        endpoint.start()
        shown.until("0 in flight")
        assert shown.press(CTRL_C) == 0
    assert "Traceback" not in shown.shown
    assert shown.shown.rindex("\x1b[?25h") > shown.shown.rindex("\x1b[?25l")  # the cursor is back


def test_before_anybody_is_there_a_terminal_waits(endpoint):
    endpoint.stop()
    with terminal("top", "--fuser", endpoint.address, "--interval", "0.1", NO_COLOR="1") as shown:
        shown.until("is down: connection refused")
        endpoint.start()
        shown.until("together")
        assert shown.press(CTRL_C) == 0
    assert "\x1b[31m" not in shown.shown
    assert ";31m" not in shown.shown


def test_something_else_at_an_address_ends_it_at_once(endpoint):
    with terminal("top", "--model", endpoint.address) as shown:
        assert shown.wait() == 2
    assert f"specfuse: --model: {endpoint.address}: that is a fuser's" in shown.shown


def test_without_what_it_needs_it_says_which_extra_has_that():
    program = (
        "import sys; sys.modules['prometheus_client'] = None; "
        "from specfuse.cli.app import main; sys.exit(main(['top']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("specfuse: this command needs the Python package prometheus_")
    assert "pip install 'specfuse[services]'" in done.stderr
