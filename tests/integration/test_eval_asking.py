"""How the evaluation asks a mesh."""

from __future__ import annotations

import pytest

from specfuse.client import AsyncClient
from specfuse.errors import Unavailable
from specfuse.eval.asking import Mesh
from tests.support.fuser_door import ScriptedFuser, open_door, script, segment, started


async def test_an_interrupted_answer_is_a_failure_to_be_seen() -> None:
    fuser = ScriptedFuser(script(started("ada"), segment(1, "One"), Unavailable("gone")))
    async with open_door(fuser) as door, Mesh(AsyncClient(door.address), {}) as mesh:
        with pytest.raises(Unavailable, match="gone"):
            await mesh.answer("Why?", "duo", None)
    assert len(fuser.requests) == 1
