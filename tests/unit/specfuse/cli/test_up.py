"""How `specfuse up` ends, over a mesh that the test plays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from specfuse.cli import up
from specfuse.cli.mesh_run import Interrupted
from specfuse.localmesh import MeshAddresses, ServiceAddresses
from tests.support.scripted_mesh import mesh_of, write_mesh

ENDPOINTS = MeshAddresses(
    ServiceAddresses("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"),
    {"a": ServiceAddresses("127.0.0.1:4", "127.0.0.1:5")},
)


def test_an_interruption_before_the_mesh_is_ready_is_no_success(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(_options: object, _work: object) -> None:
        raise Interrupted

    monkeypatch.setattr(up, "with_mesh", interrupted)
    assert up.up(up.MeshOptions(write_mesh(tmp_path, mesh_of("a"))), None) == 130


@pytest.mark.parametrize("page", [True, False])
def test_an_interruption_is_how_a_mesh_that_got_ready_ends(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    *,
    page: bool,
) -> None:
    async def begin(work: object) -> None:
        serving = asyncio.ensure_future(work(ENDPOINTS))  # type: ignore[operator]
        await asyncio.wait((serving,), timeout=0)  # it serves until it is cancelled
        serving.cancel()

    def interrupted(_options: object, work: object) -> None:
        asyncio.run(begin(work))
        raise Interrupted

    monkeypatch.setattr(up, "with_mesh", interrupted)
    file = write_mesh(tmp_path, mesh_of("a", http={"page": page}))
    assert up.up(up.MeshOptions(file), None) == 0
    said = capsys.readouterr().out
    assert 'specfuse ask --address 127.0.0.1:1 "..."' in said
    assert 'OpenAI(base_url="http://127.0.0.1:3/v1")' in said
    assert ("http://127.0.0.1:3/ " in said) == page
    assert "specfuse top --fuser 127.0.0.1:2 --model a=127.0.0.1:5\n" in said
