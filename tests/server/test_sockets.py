"""How servers of the loop end: nobody who was let in is forgotten."""

import asyncio
import gc
import socket
from pathlib import Path

from target.sockets import close_servers, listen_unix


async def test_who_was_accepted_in_the_turn_in_which_a_server_is_closed_is_not_forgotten(tmp_path: Path) -> None:
    made: list[asyncio.BaseTransport] = []

    class Visitor(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    path = str(tmp_path / "s")
    server = await asyncio.get_running_loop().create_unix_server(Visitor, sock=listen_unix(path, others="", remedy=""))
    with socket.socket(socket.AF_UNIX) as visitor:
        gc.disable()                    # which would close what was forgotten
        try:
            visitor.connect(path)
            for _ in range(2):
                await asyncio.sleep(0)  # in the second turn the loop accepts, behind this task
            await close_servers(server)
            await asyncio.sleep(0)
        finally:
            gc.enable()
        assert len(made) == 1
        made[0].close()
        await asyncio.sleep(0)
        assert visitor.recv(1) == b""


async def test_a_server_that_is_closed_twice(tmp_path: Path) -> None:
    server = await asyncio.get_running_loop().create_unix_server(
        asyncio.Protocol, sock=listen_unix(str(tmp_path / "s"), others="", remedy=""))
    await close_servers(server)
    await close_servers(server)
