"""A mesh of services as processes on loopback: started in order, watched, drained in order.

`LocalMesh` knows nothing of gRPC or of what the programs do. A service is any command line that
understands `--ready-fd FD` and `--die-with PID`; see `specfuse.localmesh.handshake`. A server that
one of them runs on may be any program.
"""

from __future__ import annotations

from specfuse.localmesh.handshake import ServiceAddresses
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
from specfuse.localmesh.process import Program

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
