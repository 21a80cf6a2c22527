"""A tower's API on a socket of this machine, in a thread of its own: for programs that ask it from outside."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp

from tests.support.serving import served


@contextmanager
def tower_thread(app: ASGIApp) -> Iterator[str]:
    """The address of the API until the block ends."""
    loop, listening, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    urls: list[str] = []

    async def serve() -> None:
        async with served(app) as clients:
            urls.append(clients.url)
            listening.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert listening.wait(60), "the API did not start"
    try:
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        loop.close()
