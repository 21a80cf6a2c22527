"""The process: whatever protects money ends it loudly, a signal ends it quietly."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from watchtower.config import Settings
from watchtower.run import Process
from watchtower.supervisor import Supervisor
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import ReadinessBoard


class Doorbell:
    """Listens for ever, or fails."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def run(self) -> None:
        """Until cancelled."""
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()


class FakeParts(SimpleNamespace):
    """Parts without a node, a store or files."""

    def __init__(self) -> None:
        metrics = Metrics(build=("0", "0", "regtest", "sqlite"))
        threads = SimpleNamespace(start=lambda: None, stop=lambda _seconds: True, last_progress=0.0, height=7)
        super().__init__(
            metrics=metrics,
            board=ReadinessBoard(metrics),
            doorbell=Doorbell(),
            watch=threads,
            reporter=threads,
            bells=SimpleNamespace(look=lambda: None),
            store=SimpleNamespace(last_id=lambda: 1),
            settings=Settings(),
            sockets={name: self._bound() for name in ("api", "admin")},
            facts={"version": "0", "network": "regtest"},
            api=self._app,
            admin=self._app,
            closed=0,
        )

    @staticmethod
    def _bound() -> socket.socket:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        return sock

    @staticmethod
    async def _app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def on_thread_end(self, callback: Callable[[], object]) -> None:
        """Keep the callback, so that a test can end a thread."""
        self.thread_ended = callback

    def close(self) -> None:
        """Count the calls."""
        self.closed += 1
        for sock in self.sockets.values():
            sock.close()


@pytest.fixture
def parts() -> FakeParts:
    """Parts that a test may break."""
    return FakeParts()


async def served(parts: FakeParts, then: Callable[[], object]) -> int:
    """Exit code of a run in which `then` happens once everything is started."""
    process = Process(parts, Supervisor({}))  # type: ignore[arg-type]
    task = asyncio.create_task(process.serve())
    await asyncio.sleep(0.05)
    then()
    return await asyncio.wait_for(task, 10)


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_0(parts: FakeParts, number: signal.Signals) -> None:
    """Everything is closed once, and the last phase is draining."""
    code = await served(parts, lambda: os.kill(os.getpid(), number))
    assert (0, 1, "draining") == (code, parts.closed, parts.board.snapshot().phase)


@pytest.mark.asyncio
async def test_a_thread_that_ends_by_itself_ends_it_with_1(parts: FakeParts) -> None:
    """Without the pass thread nobody is protected: better to start again."""
    code = await served(parts, lambda: parts.thread_ended())
    assert (1, 1) == (code, parts.closed)


@pytest.mark.asyncio
async def test_a_task_that_fails_ends_it_with_1(parts: FakeParts) -> None:
    """The same holds for listeners and the door-bell."""
    parts.doorbell.error = RuntimeError("boom")
    code = await served(parts, lambda: None)
    assert (1, 1) == (code, parts.closed)


@pytest.mark.asyncio
async def test_a_pass_that_does_not_end_is_told_by_the_exit_code(parts: FakeParts) -> None:
    """The stop is not clean then, and the service manager hears of it."""
    parts.watch.stop = lambda _seconds: False
    assert 1 == await served(parts, lambda: os.kill(os.getpid(), signal.SIGTERM))
