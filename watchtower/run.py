"""The process: listeners, door-bell and threads in one task group, signals, watchdog, and an orderly end.

Promises: a signal ends it within 20 seconds with exit code 0; the end of anything that protects money ends it at once
with exit code 1, so that the service manager starts it again. It never ends because the node is gone.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import structlog
import uvicorn

from watchtower.bootstrap.parts import Parts
from watchtower.config import Settings
from watchtower.host.hygiene import OPERATOR_CONNECTIONS, forbid_core_dumps, room_for_connections
from watchtower.host.supervisor import Supervisor
from watchtower.http.connection import HEAD_BYTES, ConnectionLimits, Doorman, protocol
from watchtower.reload import Changes, Reload
from watchtower.telemetry.readiness import Readiness
from watchtower.telemetry.tasks import TaskReport

_log = structlog.get_logger(__name__)

HTTP_SECONDS = 2
"""Time for requests in flight at a stop; without a limit uvicorn waits for ever."""

PASS_SECONDS = 12.0
"""Time for the present pass: one RPC limit of 10 s and a commit."""

BESIDE_SECONDS = 2.0
"""Time for each of the threads that stand beside the pass."""

FRAMING = 8
"""A body in chunks of one byte is six times as long on the wire."""

TICK = 1.0
STALL = 60.0
"""Seconds without progress of a thread until it counts as stalled; a quiet tower passes every 15 s."""

START_EXTENSION = 30


class Listener(uvicorn.Server):
    """A uvicorn server that leaves signals to the process, and says when it can be reached."""

    def __init__(self, config: uvicorn.Config, doorman: Doorman) -> None:
        super().__init__(config)
        self.doorman = doorman
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and then `listening` is set."""
        await super().startup(sockets=sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: they are the process's."""
        yield


def listener(
    app: Any, limits: ConnectionLimits, *, behind_proxy: bool = False, refused: Callable[[], object] = lambda: None
) -> Listener:
    """A server for an ASGI app with limits for its connections; nothing of uvicorn's own logging.

    Only `behind_proxy` believes what a request from this host says about its sender. `refused` is called for each
    connection beyond the limits.
    """
    doorman = Doorman(limits, refused=refused)
    return Listener(
        uvicorn.Config(
            app,
            http=protocol(doorman),
            proxy_headers=behind_proxy,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=HTTP_SECONDS,
        ),
        doorman,
    )


def connection_limits(settings: Settings) -> ConnectionLimits:
    """Those of the API."""
    chosen = settings.api
    return ConnectionLimits(
        seconds=chosen.request_deadline_seconds,
        total=room_for_connections(chosen.max_connections),
        per_address=chosen.max_connections_per_ip,
        request_bytes=FRAMING * chosen.max_body_bytes + HEAD_BYTES,
    )


class Process:
    """One run of the service from open parts to closed parts."""

    def __init__(self, parts: Parts, supervisor: Supervisor, reload: Reload | None = None) -> None:
        """Without `reload` SIGHUP is not taken."""
        self._parts = parts
        self._supervisor = supervisor
        self._reload = reload
        self._stop = asyncio.Event()
        self._failure = ""
        self._ready = False
        self._reports = {name: TaskReport(parts.metrics, name) for name in ("writer", "zmq", "api", "admin")}

    async def serve(self) -> int:
        """Run until a signal or a failure; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop, signal.Signals(number).name)
        self._parts.on_thread_end(lambda: loop.call_soon_threadsafe(self._thread_ended))
        self._parts.board.listen(lambda state: loop.call_soon_threadsafe(self._phase_changed, state))
        servers = {
            "api": listener(
                self._parts.api,
                connection_limits(self._parts.settings),
                behind_proxy=self._parts.settings.api.trust_forwarded_for,
                refused=self._parts.traffic.overloaded,
            ),
            "admin": listener(self._parts.admin, ConnectionLimits(total=OPERATOR_CONNECTIONS)),
        }
        tasks = self._start(servers)
        await self._stop.wait()
        return await self._end(servers, tasks)

    def _start(self, servers: dict[str, Listener]) -> list[asyncio.Task[None]]:
        """Listeners and door-bell first: no metric, no notification may be missed before the first pass."""
        tasks = [
            self._guard(name, server.serve(sockets=[self._parts.sockets[name]])) for name, server in servers.items()
        ]
        tasks.append(self._guard("zmq", self._parts.doorbell.run()))
        tasks.append(self._guard("ticks", self._ticks()))
        tasks.append(self._guard("loop-lag", self._measure_lag()))
        tasks.append(self._guard("threads", self._start_threads(servers)))
        if self._reload is not None:
            tasks.append(self._guard("reload", self._take_reloads(self._reload, servers["api"].doorman)))
        return tasks

    async def _start_threads(self, servers: dict[str, Listener]) -> None:
        """Once the door-bell has subscribed and /metrics can be scraped: a catch-up must be seen in its counters."""
        for server in servers.values():
            await server.listening.wait()
        addresses = {name: address(self._parts.sockets[name]) for name in servers}
        _log.info("service_started", **self._parts.facts, **addresses, pid=os.getpid())
        self._parts.reporter.start()
        self._parts.heads.start()
        self._parts.backups.start()
        self._parts.lookouts.start()
        self._parts.notifier.start()
        self._parts.watch.start()
        with self._reports["writer"].running():
            await self._stop.wait()

    async def _take_reloads(self, reload: Reload, doorman: Doorman) -> None:
        """Log level and notification targets at once, connections and requests from the next one on."""

        def adopt(changes: Changes) -> None:
            self._parts.adopt(changes)
            doorman.limits = connection_limits(changes.settings)

        await reload.serve(self._supervisor, is_ready=lambda: self._ready, prepare=self._parts.prepare, adopt=adopt)

    def _guard(self, name: str, work: Any) -> asyncio.Task[None]:
        """A task whose end before the stop is a failure of the process."""
        report = self._reports.get(name)

        async def guarded() -> None:
            try:
                with report.running() if report is not None else nullcontext():
                    await work
            except asyncio.CancelledError:
                self._ended(name, "CancelledError")
                raise
            except BaseException as error:  # noqa: BLE001 - the border of the task: the process ends loudly
                self._ended(name, type(error).__name__, error)
            else:
                self._ended(name, "it returned")

        return asyncio.get_running_loop().create_task(guarded(), name=name)

    def _ended(self, name: str, reason: str, error: BaseException | None = None) -> None:
        """The end of a task is in order after the stop only, whoever ended it."""
        if not self._stop.is_set():
            _log.critical("task_ended", task=name, reason=reason, exc_info=error)
            self._fail(f"task {name} ended")

    async def _ticks(self) -> None:
        """Heartbeats: silence of ZMQ, stalled threads, a log that failed, the manager's watchdog."""
        while True:
            self._parts.bells.look()
            self._parts.disk.look()
            self._parts.look_after_store()
            self._show_progress()
            if self._parts.store.broken.is_set():
                # Without this the process would live on until the pass thread next has something to write.
                _log.critical("task_ended", task="store-writer", reason="the log failed")
                self._fail("task store-writer ended")
                return
            stalled = self._stalled()
            if stalled:
                self._parts.board.set("task_stalled", stalled)
            else:
                self._parts.board.clear("task_stalled")
            if not stalled:
                self._tell_manager()
            await asyncio.sleep(min(TICK, self._supervisor.watchdog_seconds / 2 or TICK))

    def _tell_manager(self) -> None:
        """That all goes on: at the start it takes as long as it takes, also while the node is away."""
        self._supervisor.alive()
        if not self._ready:
            self._supervisor.waiting(START_EXTENSION)
            self._tell_status(self._parts.board.snapshot())

    def _show_progress(self) -> None:
        """Of what lives in this loop, which turns, and of the log's writer unless one commit takes long."""
        for name, report in self._reports.items():
            if name != "writer" or self._parts.store.writing_for() < TICK:
                report.progressed()

    async def _measure_lag(self) -> None:
        """How late a timer of this loop is: so long a request or a notification waits although nothing is slow."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK
            await asyncio.sleep(TICK)
            self._parts.metrics.observe("event_loop_lag_seconds", value=max(0.0, loop.time() - due))

    def _stalled(self) -> str:
        """Which thread has made no progress for long, in words; empty if all do.

        The pass thread moves with each turn that ends and with each commit of its own, so that a long catch-up counts
        as progress. What clients store does not count: it is no sign that anybody looks at the chain.
        """
        moved = max(self._parts.watch.last_progress, self._parts.chain_stored_at)
        if time.monotonic() - moved > STALL:
            return f"the pass thread has made no progress for {STALL:g} seconds"
        if self._parts.store.writing_for() > STALL:
            return f"the log has been writing one commit for {STALL:g} seconds; is the disk all right?"
        return ""

    def _phase_changed(self, state: Readiness) -> None:
        self._tell_status(state)
        if state.watching and not self._ready:
            self._ready = True
            self._supervisor.ready()

    def _tell_status(self, state: Readiness) -> None:
        height, lag = self._parts.watch.height, self._parts.watch.lag
        names = ", ".join(reason.name for reason in state.reasons)
        place = f"{height} of {height + lag}" if lag else str(height)
        self._supervisor.status(f"{state.phase} at height {place}" + (f": {names}" if names else ""))

    def _asked_to_stop(self, name: str) -> None:
        self._stop.set()
        _log.info("service_stopping", reason=name)

    def _thread_ended(self) -> None:
        if not self._stop.is_set():
            self._fail("a thread ended")

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or reason
        self._stop.set()
        _log.critical("service_failed", reason=reason)

    async def _end(self, servers: dict[str, Listener], tasks: list[asyncio.Task[None]]) -> int:
        began = time.monotonic()
        self._supervisor.stopping()
        self._parts.board.draining()
        for server in servers.values():
            server.should_exit = True
        stopped = await asyncio.to_thread(self._parts.watch.stop, PASS_SECONDS)
        parts = self._parts
        beside = (parts.reporter, parts.heads, parts.backups, parts.lookouts, parts.notifier)
        # At once: one after the other they could take longer than the twenty seconds that a stop may last.
        await asyncio.gather(*(asyncio.to_thread(each.stop, BESIDE_SECONDS) for each in beside))
        serving = [task for task in tasks if task.get_name() in servers]
        await asyncio.wait(serving, timeout=HTTP_SECONDS + 1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._parts.close)
        _log.info("service_stopped", seconds=round(time.monotonic() - began, 3), clean=stopped and not self._failure)
        return 0 if stopped and not self._failure else 1


def address(sock: socket.socket) -> str:
    """`host:port` of a bound socket."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def run(parts: Parts, reload: Reload | None = None) -> int:
    """Run the service in this thread; returns the exit code. `reload` takes SIGHUP."""
    supervisor = Supervisor(os.environ)
    if not forbid_core_dumps():
        _log.warning("config_questioned", reason="this system cannot make the process undumpable; core files are off")

    async def main() -> int:
        return await Process(parts, supervisor, reload).serve()

    # A shorter switch interval: the pass thread must not wait 5 ms for the event loop's thread.
    sys.setswitchinterval(0.001)
    # What is loaded stays until the end. Each full collection would visit every watched outpoint: 40 ms with a million,
    # in which no breach is answered.
    gc.collect()
    gc.freeze()
    try:
        import uvloop  # noqa: PLC0415 - an extra; asyncio's own loop does the same work, slower
    except ImportError:
        return asyncio.run(main())
    return uvloop.run(main())
