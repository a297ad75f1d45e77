"""A node as a process: `python -m tests.cluster.kubelet CONFIGURATION`."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from tests.cluster.kubelet.configuration import Configuration
from tests.cluster.kubelet.kubelet import run

if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.INFO)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    asyncio.run(run(Configuration.read(Path(sys.argv[1]))))
