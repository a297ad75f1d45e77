"""A made-up text-generation-inference as a process of its own.

python -m tests.support.fakes.tgi_process DIRECTORY --port PORT
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

import torch

from tests.support.fakes.tgi import FakeTgi


async def serve(directory: Path, window: int, port: int) -> None:
    """Serves the model in a directory until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with FakeTgi(directory=directory, window=window, port=port):
        await ended.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    asyncio.run(serve(arguments.directory, arguments.window, arguments.port))


if __name__ == "__main__":
    main()
