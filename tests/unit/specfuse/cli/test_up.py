"""How `specfuse up` ends, over a mesh that the test plays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from specfuse.cli import up
from specfuse.cli.mesh_run import Interrupted
from specfuse.localmesh import MeshAddresses, ServiceAddresses

ENDPOINTS = MeshAddresses(ServiceAddresses("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"), {})


def test_an_interruption_before_the_mesh_is_ready_is_no_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(_options: object, _work: object) -> None:
        raise Interrupted

    monkeypatch.setattr(up, "with_mesh", interrupted)
    assert up.up(up.MeshOptions(Path("mesh.yaml")), None) == 130


def test_an_interruption_is_how_a_mesh_that_got_ready_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def begin(work: object) -> None:
        serving = asyncio.ensure_future(work(ENDPOINTS))  # type: ignore[operator]
        await asyncio.wait((serving,), timeout=0)  # it serves until it is cancelled
        serving.cancel()

    def interrupted(_options: object, work: object) -> None:
        asyncio.run(begin(work))
        raise Interrupted

    monkeypatch.setattr(up, "with_mesh", interrupted)
    assert up.up(up.MeshOptions(Path("mesh.yaml")), None) == 0
    said = capsys.readouterr().out
    assert "specfuse ask --address 127.0.0.1:1" in said
    assert 'OpenAI(base_url="http://127.0.0.1:3/v1")' in said
