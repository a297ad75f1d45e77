"""A mesh of services as processes on loopback: started in order, watched, drained in order.

`LocalMesh` knows nothing of gRPC or of what the programs do. A program is any command line that
understands `--ready-fd FD` and `--die-with PID`; see `specfuse.localmesh.handshake`.
"""

from __future__ import annotations

from specfuse.localmesh.handshake import ServiceAddresses
from specfuse.localmesh.mesh import Died, Listener, LocalMesh, MeshAddresses, Plan, Ready, Stopped
from specfuse.localmesh.process import Program

__all__ = [
    "Died",
    "Listener",
    "LocalMesh",
    "MeshAddresses",
    "Plan",
    "Program",
    "Ready",
    "ServiceAddresses",
    "Stopped",
]
