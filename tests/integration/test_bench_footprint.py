"""What stands between a fuser and its members to count."""

from __future__ import annotations

import asyncio

from bench.footprint import Relay


async def test_a_relay_passes_on_and_counts_both_ways() -> None:
    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readexactly(1000)
        writer.write(asked[:10])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answered, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        relay = Relay(f"{host}:{port}")
        async with relay.listening() as address:
            for _ in range(2):
                reader, writer = await asyncio.open_connection(*address.split(":"))
                writer.write(b"a" * 1000)
                assert await reader.read() == b"a" * 10
                writer.close()
                await writer.wait_closed()
    assert (relay.connections, relay.there, relay.back) == (2, 2000, 20)
