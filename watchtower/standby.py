"""A tower that stands by: it follows the log of the one that leads, and takes over when that one's session ends.

What the other tower stores arrives within milliseconds, and is applied to the own read models and keystore: a takeover
replays nothing. Meanwhile /healthz and /readyz are answered, and the node is looked at: a standby that could not watch
has to be noticed before it is needed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import structlog
from starlette.applications import Starlette

from projections.catalog import PROJECTIONS
from projections.projector import Projector
from watchtower.access import AccessFile
from watchtower.bootstrap.keys import open_keystore, share_keystore
from watchtower.bootstrap.listening import listen
from watchtower.bootstrap.node import connect
from watchtower.config import Settings
from watchtower.host.hygiene import OPERATOR_CONNECTIONS, PRIVATE_FILES, require_private
from watchtower.host.supervisor import Supervisor
from watchtower.http.app import create_admin_app
from watchtower.http.auth import Gate
from watchtower.http.connection import ConnectionLimits
from watchtower.http.standby_app import create_standby_app
from watchtower.node.checks import require_network
from watchtower.ports import NodeError, StoreAway, StoreFull, WrongChain
from watchtower.receipts.tower_key import load_tower_key
from watchtower.reload import Reload
from watchtower.run import Listener, address, connection_limits, listener
from watchtower.store.ahead import AheadMark
from watchtower.store.places import Turn, open_standby
from watchtower.store.rebuild import open_views
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import ReadinessBoard
from watchtower.watch.watch import reason_of
from watchtower.wire.api import ReadyBody

_log = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0
"""The log is looked at so often although nothing was heard."""

NODE_SECONDS = 15.0
"""Pause between two looks at the node."""

AGAIN_SECONDS = 0.5
"""Pause before a server that is away is asked again."""

TICK = 1.0


class Ended(msgspec.Struct, frozen=True):
    """How standing by ended: with the `turn` of this tower, else with an exit code."""

    code: int = 0
    turn: Turn | None = None


class Standby:
    """One tower that stands by, from open files to its turn. `board` goes on to be that of the tower that leads."""

    def __init__(self, settings: Settings, metrics: Metrics, stack: ExitStack) -> None:
        """Opens everything; raises a typed error that says what to do."""
        require_private(Path(settings.data_dir), PRIVATE_FILES)
        self.settings, self.metrics = settings, metrics
        self.board = ReadinessBoard(metrics)
        self.log = open_standby(settings)
        stack.callback(self.log.close)
        ahead = AheadMark(Path(settings.views_path))
        ahead.discard_views()
        self.log.follow()
        rows = open_views(Path(settings.views_path), self.log.log)
        stack.callback(rows.close)
        self._projector = Projector(self.log.log, rows, PROJECTIONS)
        own = open_keystore(settings)
        stack.callback(own.close)
        shared = share_keystore(settings, own, load_tower_key(settings), self.log.log.meta.log_id, stack)
        assert shared is not None, "a log on a server has a place for sealed secrets"
        self._keystore = shared
        self._node = connect(settings.node)
        stack.callback(self._node.close)
        self.sockets = listen(settings, stack)
        self._turn: Turn | None = None
        self._failure: BaseException | None = None
        self._on_end: Callable[[], object] = lambda: None
        self._following = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for name, work in (("standby-follow", self._follow), ("standby-lead", self._lead))
        ]

    @property
    def turn(self) -> Turn | None:
        """Set once nobody else leads; everything that the old leader committed is here then."""
        return self._turn

    @property
    def failure(self) -> BaseException | None:
        """Why a thread ended by itself."""
        return self._failure

    def start(self, on_end: Callable[[], object]) -> None:
        """Begin; `on_end` is called in a thread of this object when there is a turn or a failure."""
        self._on_end = on_end
        self.board.set("standby")
        _log.info("standby_began", notification_id=self._projector.position)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads; waits for them."""
        self._following.set()
        self.log.stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def ready(self) -> ReadyBody:
        """The body of /readyz."""
        state = self.board.snapshot()
        reasons = tuple(f"{reason.name}: {reason.sentence}" for reason in state.reasons)
        return ReadyBody(ready=False, watching=False, phase=state.phase, reasons=reasons)

    def look(self) -> None:
        """Called every second: nothing waits for ever for a server that is silent."""
        self.log.look()
        self._keystore.look()

    def catch_up(self) -> None:
        """Bring copy, read models and keystore to the end of the log. Raises `StoreError` or `KeystoreError`."""
        self.log.follow()
        for _ in self._projector.catch_up():
            pass
        self._keystore.follow()
        self.metrics.set("event_store_notification_id", value=self._projector.position)
        for projection in PROJECTIONS:
            self.metrics.set("projection_position", projection.name, value=self._projector.position)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the border of the task: the process ends loudly
            self._failure = self._failure or error
            _log.critical("task_ended", task="standby", reason=type(error).__name__, exc_info=error)
            self._on_end()

    def _lead(self) -> None:
        turn = self.log.lead()
        if turn is None:
            return
        self._following.set()
        self.log.wake()
        self._threads[0].join()
        try:
            self.catch_up()
        except StoreFull as error:  # what is missing here can be read at the server; nobody else leads now
            _log.error("copy_failed", path=self.settings.event_log_path, reason=str(error))
        self._turn = turn
        self._on_end()

    def _follow(self) -> None:
        looked = float("-inf")
        while not self._following.is_set():
            if time.monotonic() - looked > NODE_SECONDS:
                self._look_at_node()
                looked = time.monotonic()
            try:
                self.catch_up()
            except StoreAway as error:
                self.board.set("store_unreachable", str(error))
                self._following.wait(AGAIN_SECONDS)
            except StoreFull as error:
                self.board.set("disk_low", str(error))
                self._following.wait(LOOK_SECONDS)
            else:
                self.board.clear("store_unreachable")
                self.board.clear("disk_low")
                self.log.wait(LOOK_SECONDS)

    def _look_at_node(self) -> None:
        """A reason as long as the node could not be used; it is only asked."""
        try:
            require_network(self._node, self.settings.network)
        except (NodeError, WrongChain) as error:
            found = reason_of(error)
            self.board.set(found, str(error))
        else:
            found = ""
        for reason in ("node_unreachable", "node_warming_up", "wrong_chain"):
            if reason != found:
                self.board.clear(reason)


def stand_by(settings: Settings, metrics: Metrics, reload: Reload | None = None) -> tuple[Ended, ReadinessBoard]:
    """Follow until it is this tower's turn, a signal comes (code 0) or something fails (code 1).

    `reload` takes SIGHUP: the log's level at once, everything else when this tower leads.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        supervisor = Supervisor(os.environ)
        with supervisor.opening():
            standby = Standby(settings, metrics, stack)
        try:
            ended = asyncio.run(_serve(standby, supervisor, reload))
        except BaseException:
            _give_up(standby.turn)
            raise
        finally:
            standby.stop()
        position = standby.log.log.last_id()
    if ended.turn is not None:
        standby.board.clear("standby")
        _log.info("standby_ended", notification_id=position, seconds=round(time.monotonic() - began, 3))
    else:
        _give_up(standby.turn)
    return ended, standby.board


def admin_app(settings: Settings, render: Callable[[], bytes]) -> Starlette:
    """`/metrics` of a tower that stands by, shown to whom the tower that leads would show it."""
    token, access = bytes.fromhex(settings.api.token_hash), AccessFile(Path(settings.access_path))
    return create_admin_app(render, Gate(token, access) if settings.admin.require_token else None)


def _give_up(turn: Turn | None) -> None:
    if turn is not None:
        turn[1].close()


async def _serve(standby: Standby, supervisor: Supervisor, reload: Reload | None) -> Ended:
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    signals: list[str] = []

    def asked(name: str) -> None:
        signals.append(name)
        over.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, signal.Signals(number).name)
    servers = {
        "api": listener(create_standby_app(standby.ready), connection_limits(standby.settings)),
        "admin": listener(
            admin_app(standby.settings, standby.metrics.render), ConnectionLimits(total=OPERATOR_CONNECTIONS)
        ),
    }
    tasks = [
        loop.create_task(server.serve(sockets=[standby.sockets[name]]), name=name) for name, server in servers.items()
    ]
    reloads = None if reload is None else loop.create_task(reload.serve(supervisor, is_ready=lambda: True))
    addresses = {name: address(standby.sockets[name]) for name in servers}
    await _listening(list(servers.values()), tasks)
    _log.info("service_started", **addresses, pid=os.getpid(), reason="standby")
    standby.start(lambda: loop.call_soon_threadsafe(over.set))
    supervisor.ready()
    supervisor.status("standing by: another tower leads")
    while not over.is_set():
        supervisor.alive()
        standby.look()
        await _or_timeout(over, min(TICK, supervisor.watchdog_seconds / 2 or TICK), tasks)
    for server in servers.values():
        server.should_exit = True
    if reloads is not None:
        reloads.cancel()
    await asyncio.wait(tasks, timeout=3)
    if signals:
        _log.info("service_stopping", reason=signals[0])
        return Ended()
    if standby.turn is None or standby.failure is not None:
        _log.critical("service_failed", reason=str(standby.failure or "a listener ended"))
        return Ended(code=1)
    return Ended(turn=standby.turn)


async def _listening(servers: Sequence[Listener], tasks: list[asyncio.Task[None]]) -> None:
    """Until all can be reached, or one has ended: who reads the line with their addresses may ask at once."""

    async def all_listen() -> None:
        for server in servers:
            await server.listening.wait()

    waiting = asyncio.get_running_loop().create_task(all_listen())
    await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


async def _or_timeout(over: asyncio.Event, seconds: float, tasks: list[asyncio.Task[None]]) -> None:
    """Until `over`, the end of a listener (which is a failure), or the time."""
    waiting = asyncio.get_running_loop().create_task(over.wait())
    done, _ = await asyncio.wait([waiting, *tasks], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if done - {waiting}:
        over.set()
