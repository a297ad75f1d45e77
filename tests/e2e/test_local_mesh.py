"""The launcher on trivial programs: order, deaths, stubbornness, and nothing left behind.

Each behaves the same whether it is started or forked.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from specfuse.errors import DeadlineExceeded, Misconfigured, Unavailable
from specfuse.localmesh import (
    Died,
    Launched,
    LocalMesh,
    Plan,
    Program,
    Ready,
    ServiceAddresses,
    Stopped,
)
from specfuse.localmesh.program import RUN_MODULE
from tests.support.processes import is_running, wait_until_gone
from tests.support.repository import REPOSITORY

ENDPOINT = ServiceAddresses("127.0.0.1:1", "127.0.0.1:2")
IMPORTS = "IMPORTS_OF_TRIVIAL_PROGRAMS"
"""An environment variable: programs that import something are forked."""


@pytest.fixture(autouse=True, params=["", "argparse"], ids=["started", "forked"])
def _way(request, monkeypatch):
    """How programs begin, also those of a launcher in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv(IMPORTS, request.param)


def program(name: str, behaviour: str) -> Program:
    argv = (*RUN_MODULE, "tests.support.trivial_service", behaviour)
    return Program(name, argv, REPOSITORY, tuple(os.environ[IMPORTS].split()))


def server(*argv: str) -> Program:
    """A server that the first model runs on."""
    return Program("model0-server", argv, REPOSITORY)


SERVES = server("sleep", "infinity")


async def healthy(address: str) -> None:
    assert address == ENDPOINT.address


class Scene:
    """A mesh of trivial programs, and all that was told of it."""

    def __init__(
        self, logs: Path, *models: str, fuser: str = "serve", probe=healthy, on=None
    ) -> None:
        self.told = []
        self._news = asyncio.Event()
        self.fuser_knew = None
        programs = tuple(program(f"model{i}", how) for i, how in enumerate(models))

        def plan_fuser(endpoints):
            self.fuser_knew = endpoints
            return program("fuser", fuser)

        imports = program("fuser", fuser).imports
        plan = Plan(programs, plan_fuser, {} if on is None else {"model0": on}, imports)
        self.mesh = LocalMesh(plan, logs, probe, self._listen)

    def _listen(self, event) -> None:
        self.told.append(event)
        self._news.set()

    async def until_told(self, kind: type) -> None:
        while not self.names(kind):
            await self._news.wait()
            self._news.clear()

    def names(self, kind: type) -> list[str]:
        return [event.name for event in self.told if isinstance(event, kind)]

    async def __aenter__(self) -> Scene:
        return self

    async def __aexit__(self, *_exc_info) -> None:
        self.mesh.kill()
        await self.mesh.stop(10)


async def test_models_start_before_the_fuser_which_is_told_of_them_and_stops_first(tmp_path):
    async with Scene(tmp_path, "serve", "serve") as scene:
        endpoints = await scene.mesh.start(30)

        assert endpoints.fuser == ENDPOINT
        assert dict(endpoints.models) == {"model0": ENDPOINT, "model1": ENDPOINT}
        assert scene.fuser_knew == endpoints.models
        assert scene.names(Ready)[2] == "fuser"
        assert sorted(scene.names(Ready)) == ["fuser", "model0", "model1"]

        await scene.mesh.stop(10)

        stopped = [event for event in scene.told if isinstance(event, Stopped)]
        assert stopped == [Stopped(name, drained=True) for name in ("fuser", "model0", "model1")]
        assert "ended by SIGTERM" in (tmp_path / "model0.log").read_text()


async def test_stopping_twice_and_killing_the_stopped_does_nothing(tmp_path):
    async with Scene(tmp_path, "serve") as scene:
        await scene.mesh.start(30)
        await scene.mesh.stop(10)
        told = list(scene.told)
        await scene.mesh.stop(10)
        scene.mesh.kill()
        assert scene.told == told


async def test_a_program_that_refuses_its_settings_is_a_misconfiguration_in_its_own_words(tmp_path):
    async with Scene(tmp_path, "serve", "refuse") as scene:
        with pytest.raises(Misconfigured, match=r"model1: settings\.yaml:3: colour: unknown key"):
            await scene.mesh.start(30)
        assert scene.names(Died) == ["model1"]


async def test_a_program_that_crashes_at_its_start_is_reported_with_its_last_lines(tmp_path):
    async with Scene(tmp_path, "crash") as scene:
        with pytest.raises(Unavailable, match="model0 ended: exit code 3"):
            await scene.mesh.start(30)
        assert scene.told == [
            Died("model0", "exit code 3", ("one", "two", "three"), tmp_path / "model0.log")
        ]


async def test_a_program_that_dies_before_it_is_healthy_fails_the_start(tmp_path):
    async def never(address: str) -> None:
        await asyncio.Event().wait()

    async with Scene(tmp_path, "short-lived", probe=never) as scene:
        with pytest.raises(Unavailable, match="exit code 4"):
            await scene.mesh.start(30)
        assert scene.names(Died) == ["model0"]


async def test_a_program_that_never_gets_ready_runs_into_the_timeout(tmp_path):
    async with Scene(tmp_path, "mute", "mute") as scene:
        said = r"not ready within 0\.5 s; it waited for model0, model1; the logs in"
        with pytest.raises(DeadlineExceeded, match=said):
            await scene.mesh.start(0.5)


async def test_a_model_that_dies_later_is_reported_and_the_mesh_goes_on(tmp_path):
    async with Scene(tmp_path, "serve", "short-lived") as scene:
        await scene.mesh.start(30)
        watching = asyncio.create_task(scene.mesh.watch())
        await scene.until_told(Died)
        assert not watching.done()
        died = scene.told[-1]
        assert (died.name, died.how, died.last_lines) == ("model1", "exit code 4", ("out of luck",))
        watching.cancel()


async def test_watching_ends_with_the_fuser(tmp_path):
    async with Scene(tmp_path, "serve", fuser="short-lived") as scene:
        await scene.mesh.start(30)
        await scene.mesh.watch()
        assert scene.names(Died) == ["fuser"]


async def test_the_stubborn_is_killed_when_its_time_is_up(tmp_path):
    async with Scene(tmp_path, "stubborn", "serve") as scene:
        await scene.mesh.start(30)
        await scene.mesh.stop(0.3)
        assert Stopped("model0", drained=False) in scene.told
        assert Stopped("model1", drained=True) in scene.told


async def test_killing_cuts_a_stop_short(tmp_path):
    async with Scene(tmp_path, "stubborn", fuser="stubborn") as scene:
        await scene.mesh.start(30)
        stopping = asyncio.create_task(scene.mesh.stop(60))
        await asyncio.sleep(0)
        scene.mesh.kill()
        async with asyncio.timeout(10):
            await stopping


async def test_a_server_starts_before_its_model_and_is_stopped_after_all(tmp_path):
    async with Scene(tmp_path, "serve", "serve", on=SERVES) as scene:
        await scene.mesh.start(30)
        assert scene.told[0] == Launched("model0", "sleep", tmp_path / "model0-server.log")
        await scene.mesh.stop(10)
        assert scene.names(Stopped) == ["fuser", "model0", "model1", "model0-server"]
        assert scene.told[-1] == Stopped("model0-server", drained=True)


@pytest.mark.parametrize(
    ("argv", "how", "lines"),
    [
        (("sh", "-c", "echo no such model; exit 2"), "exit code 2", ("no such model",)),
        (
            ("sh", "-c", "pwd; echo $0 >&2; exit 0", "a word"),
            "exit code 0",
            (str(REPOSITORY), "a word"),
        ),
        (("sh", "-c", "kill -9 $$"), "killed by SIGKILL", ()),
        (("./nowhere",), "exit code 127", ("./nowhere: No such file or directory",)),
        (("./tests",), "exit code 126", ("./tests: Permission denied",)),
    ],
)
async def test_a_server_that_ends_before_its_model_is_ready_fails_the_start(
    tmp_path, argv, how, lines
):
    async with Scene(tmp_path, "mute", "serve", on=server(*argv)) as scene:
        with pytest.raises(Unavailable) as caught:
            await scene.mesh.start(30)
        log = tmp_path / "model0-server.log"
        ended = f"model0: its server {argv[0]} ended: {how}; its log is {log}"
        assert caught.value.message == ended
        assert Died("model0-server", how, lines, log) in scene.told


async def test_a_server_that_dies_later_is_reported_and_the_mesh_goes_on(tmp_path):
    async with Scene(tmp_path, "serve", on=SERVES) as scene:
        await scene.mesh.start(30)
        watching = asyncio.create_task(scene.mesh.watch())
        os.kill(scene.mesh._servers["model0"].pid, signal.SIGKILL)
        await scene.until_told(Died)
        assert scene.told[-1].name == "model0-server"
        assert not watching.done()
        watching.cancel()


LEAVES_A_CHILD = 'trap "" TERM; sleep infinity & echo $! > "$0"; wait; wait'
"""A script that ignores SIGTERM, and whose child would outlive it."""


async def test_a_stubborn_server_is_killed_with_what_it_started(tmp_path):
    told = tmp_path / "child"
    os.mkfifo(told)
    async with Scene(tmp_path, "serve", on=server("sh", "-c", LEAVES_A_CHILD, str(told))) as scene:
        await scene.mesh.start(30)
        child = int(await asyncio.to_thread(told.read_text))
        await scene.mesh.stop(0.3)
        assert scene.told[-1] == Stopped("model0-server", drained=False)
    wait_until_gone(child)


LAUNCHER = """
import asyncio, sys
from pathlib import Path
from tests.e2e.test_local_mesh import SERVES, Scene

async def main():
    scene = Scene(Path(sys.argv[1]), "stubborn", "stubborn", fuser="stubborn", on=SERVES)
    await scene.mesh.start(30)
    print(*(process.pid for process in scene.mesh._processes()), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def launcher(tmp_path):
    """A launcher in a process of its own, and the ids of the four processes it started."""
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(tmp_path)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process, [int(pid) for pid in process.stdout.readline().split()]
        process.kill()


def test_a_launcher_that_is_killed_leaves_no_process_behind(launcher):
    process, pids = launcher
    assert len(pids) == 4
    assert all(map(is_running, pids))
    os.kill(pids[0], signal.SIGSTOP)  # not even one that cannot react
    process.kill()
    for pid in pids:
        wait_until_gone(pid)
