"""A mesh of services as processes on loopback: started in order, watched, drained in order.

`LocalMesh` knows nothing of gRPC or of what the programs do. A service is any command line that
understands `--ready-fd FD` and `--die-with PID`; see `specfuse.localmesh.handshake`. A server that
one of them runs on may be any program.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from specfuse.localmesh.handshake import ServiceAddresses

if TYPE_CHECKING:
    from specfuse.localmesh.mesh import (
        Died,
        Event,
        Launched,
        Listener,
        LocalMesh,
        MeshAddresses,
        Plan,
        Ready,
        Stopped,
    )
    from specfuse.localmesh.program import Program

__all__ = [
    "Died",
    "Event",
    "Launched",
    "Listener",
    "LocalMesh",
    "MeshAddresses",
    "Plan",
    "Program",
    "Ready",
    "ServiceAddresses",
    "Stopped",
]


def __getattr__(name: str) -> object:
    """What runs a mesh is imported when first used: the command line knows the handshake only."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "program" if name == "Program" else "mesh"
    return getattr(import_module(f"{__name__}.{module}"), name)
