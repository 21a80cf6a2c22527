"""A world whose tower runs by itself: door-bell, wake flag and pass thread as in the service, without a process.

    with Live(world, endpoint, poll_seconds=0.5) as live:
        node.mine(1)
        live.until(lambda: live.height == node.height(), seconds=3.0)

Nobody else may run passes of the world's tower meanwhile.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Self

from tests.regtest.world import World
from watchtower.node.checks import require_network
from watchtower.node.zmq import Bell, BellKind, ZmqDoorbell
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import ReadinessBoard
from watchtower.tower import Hints, PassReport
from watchtower.watch.bells import Bells
from watchtower.watch.passes import Wake
from watchtower.watch.watch import Watch

TOPICS = ("sequence", "rawtx", "hashblock")


class _Counted:
    """The tower, with a note of each pass."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def start(self) -> PassReport:
        return self._noted(self._live.world.tower.start)

    def run_pass(self, hints: Hints) -> PassReport:
        self._live.sweeps += hints.full_sweep
        return self._noted(lambda: self._live.world.tower.run_pass(hints))

    def _noted(self, work: Callable[[], PassReport]) -> PassReport:
        self._live.passes.append(time.monotonic())
        return work()


class Live:
    """Threads for one tower. `passes` has the start of each pass, `rung` every bell, `failure` what must not happen.

    `sweeps` counts the passes that were asked for everything.
    """

    def __init__(
        self, world: World, endpoint: str | Mapping[str, str], *, poll_seconds: float = 15.0, heard: bool = True
    ) -> None:
        """`endpoint` is one address for all topics, or one for each; `heard` waits for the connection at the start."""
        self.world = world
        self.endpoints = dict.fromkeys(TOPICS, endpoint) if isinstance(endpoint, str) else dict(endpoint)
        self.wake = Wake()
        self.metrics = Metrics(build=("0", "0", "regtest", "sqlite"))
        self.board = ReadinessBoard(self.metrics)
        self.passes: list[float] = []
        self.sweeps = 0
        self.rung: list[Bell] = []
        self._heard = heard
        self._changed = threading.Condition()
        self.bells = Bells(
            endpoints=self.endpoints,
            wake=self.wake,
            metrics=self.metrics,
            board=self.board,
            is_ours=lambda txid: self.world.tower.is_ours(txid),
        )
        self.watch = Watch(
            core=_Counted(self),
            contested=lambda: bool(world.models.contested()),
            check_node=lambda: require_network(world.port, "regtest"),
            chain_info=world.port.chain_info,
            wake=self.wake,
            board=self.board,
            metrics=self.metrics,
            poll_seconds=poll_seconds,
            block_found=self.bells.block_found,
        )
        self.doorbell = ZmqDoorbell(self.endpoints, self._ring, lambda outpoint: self.world.tower.is_watched(outpoint))
        self._loop = asyncio.new_event_loop()
        self._listening: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if self._heard:
            self.until(lambda: BellKind.CONNECTED in {bell.kind for bell in list(self.rung)})
        self.watch.start()
        self.until(lambda: self.board.snapshot().watching or self.board.snapshot().reasons)
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.stop(20.0)
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join(30)
        self._loop.close()
        assert self.watch.failure is None
        assert not self._thread.is_alive()

    @property
    def height(self) -> int:
        """Height of the tower's last pass."""
        return self.watch.height

    @property
    def reasons(self) -> list[str]:
        """Readiness reasons that hold now."""
        self.bells.look()
        return [reason.name for reason in self.board.snapshot().reasons]

    def until(self, predicate: Callable[[], object], seconds: float = 60.0) -> float:
        """Wait until something is true, asked again after each ring and every 20 ms; returns the seconds it took."""
        began = time.monotonic()
        while not predicate():
            if time.monotonic() - began > seconds:
                raise AssertionError(f"not within {seconds} s: {_source(predicate)}; {self.board.snapshot()}")
            with self._changed:
                self._changed.wait(0.02)
        return time.monotonic() - began

    def quiet(self, seconds: float) -> None:
        """Wait until no pass has started for this time."""
        self.until(lambda: time.monotonic() - self.passes[-1] > seconds, seconds=seconds + 20.0)

    def _ring(self, bell: Bell) -> None:
        self.rung.append(bell)
        self.bells.ring(bell)
        with self._changed:
            self._changed.notify_all()

    def _listen(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._listening = self._loop.create_task(self.doorbell.run())
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._listening)

    def _end(self) -> None:
        if self._listening is not None:
            self._listening.cancel()


def _source(predicate: Callable[[], object]) -> str:
    try:
        return inspect.getsource(predicate).strip()
    except TypeError:
        return repr(predicate)
