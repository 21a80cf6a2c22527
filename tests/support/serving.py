"""The API on a real socket of this machine, without a process: for streams, slow clients and many of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from watchtower.http.connection import ConnectionLimits, Doorman
from watchtower.http.connection import protocol as installed

Protocol = Callable[[Doorman], type[asyncio.Protocol]]


class Clients:
    """Opens connections and remembers them."""

    def __init__(self, port: int, tasks: set[asyncio.Task[None]]) -> None:
        self.port = port
        self._tasks = tasks
        self.writers: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"http://127.0.0.1:{self.port}"

    async def answered(self) -> None:
        """Wait until the API is done with everything that it was asked."""
        await asyncio.gather(*self._tasks)

    async def opened(self, *parts: bytes) -> asyncio.StreamReader:
        """A connection that has sent these bytes; its writer is the last one in the list."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        writer.write(b"".join(parts))
        await writer.drain()
        return reader


@asynccontextmanager
async def served(
    app: ASGIApp, protocol: Protocol = installed, doorman: Doorman | None = None, port: int = 0, keep_alive: int = 600
) -> AsyncIterator[Clients]:
    """Serve until the block ends; open connections are then cut, as when a process dies.

    For `keep_alive` seconds a connection may be idle: a test that is held up shall not lose those that it uses again.
    """
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_keep_alive=keep_alive)
    config.load()
    state, kind = ServerState(), protocol(doorman or Doorman(ConnectionLimits()))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: kind(config, state, {}), "127.0.0.1", port)  # type: ignore[call-arg]
    clients = Clients(server.sockets[0].getsockname()[1], state.tasks)
    try:
        yield clients
    finally:
        for writer in clients.writers:
            writer.close()
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()  # type: ignore[union-attr]
        await asyncio.gather(*state.tasks)
