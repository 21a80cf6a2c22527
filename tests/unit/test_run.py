"""The process: whatever protects money ends it loudly, a signal ends it quietly."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from domain.events import AlertCleared, AlertKind, Envelope, envelopes
from tests.support.new_towers import create
from watchtower import run
from watchtower.bootstrap.parts import Parts, open_parts
from watchtower.config import Settings, load
from watchtower.host.supervisor import Supervisor
from watchtower.http.traffic import Traffic
from watchtower.run import Process
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


SECONDS = 30
"""How long a start or a stop may take on a busy machine."""

JUST_NOW = float("inf")
"""When a thread made progress that does not stand, however long the test is held up."""


class FakeParts(SimpleNamespace):
    """Parts without a node, a store or files."""

    def __init__(self) -> None:
        metrics = Metrics(build=("0", "0", "regtest", "sqlite"))
        self.started, self.ticked = asyncio.Event(), asyncio.Event()
        threads = SimpleNamespace(
            start=lambda: None, stop=lambda _seconds: True, last_progress=JUST_NOW, height=7, lag=None
        )
        super().__init__(
            metrics=metrics,
            board=ReadinessBoard(metrics),
            doorbell=Doorbell(),
            watch=SimpleNamespace(**{**vars(threads), "start": self.started.set}),
            reporter=threads,
            heads=threads,
            backups=threads,
            lookouts=threads,
            notifier=threads,
            bells=SimpleNamespace(look=lambda: None),
            look_after_store=lambda: None,
            disk=SimpleNamespace(look=self.ticked.set),
            store=SimpleNamespace(last_id=lambda: 1, broken=threading.Event(), writing_for=lambda: self.writing),
            chain_stored_at=0.0,
            writing=0.0,
            settings=Settings(),
            sockets={name: self._bound() for name in ("api", "admin")},
            facts={"version": "0", "network": "regtest"},
            api=self._app,
            traffic=Traffic(),
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

    async def ticks(self, count: int) -> None:
        """Return when that many ticks of the process have begun."""
        for _ in range(count):
            self.ticked.clear()
            await self.ticked.wait()

    def close(self) -> None:
        """Count the calls."""
        self.closed += 1
        for sock in self.sockets.values():
            sock.close()


@pytest.fixture
def parts() -> Iterator[FakeParts]:
    """Parts that a test may break."""
    made = FakeParts()
    yield made
    for sock in made.sockets.values():
        sock.close()


async def served(parts: FakeParts, then: Callable[[], object]) -> int:
    """Exit code of a run in which `then` happens once everything is started, or has failed before."""
    process = Process(parts, Supervisor({}))  # type: ignore[arg-type]
    task = asyncio.create_task(process.serve())
    started = asyncio.create_task(parts.started.wait())
    await asyncio.wait({task, started}, timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    then()
    return await asyncio.wait_for(task, SECONDS)


def test_what_is_loaded_is_left_out_of_collections(parts: FakeParts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full collection that visits every watched outpoint would hold up the answer to a breach."""

    async def frozen(_process: Process) -> int:
        return sum(each is parts.sockets for each in gc.get_objects())

    monkeypatch.setattr(run, "forbid_core_dumps", lambda: True)
    monkeypatch.setattr(sys, "setswitchinterval", lambda _seconds: None)
    monkeypatch.setattr(Process, "serve", frozen)
    before = sum(each is parts.sockets for each in gc.get_objects())
    try:
        visited = run.run(parts)  # type: ignore[arg-type]
    finally:
        gc.unfreeze()

    assert (1, 0) == (before, visited)


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_0(parts: FakeParts, number: signal.Signals) -> None:
    """Everything is closed once, and the last phase is draining."""
    code = await served(parts, lambda: os.kill(os.getpid(), number))
    assert (0, 1, "draining") == (code, parts.closed, parts.board.snapshot().phase)


class Reader:
    """Reads the log and dials the addresses in it at once; `reached` has how that ended for each."""

    def __init__(self) -> None:
        self.reached: list[int] = []

    def info(self, _event: str, **facts: Any) -> None:
        """A line."""
        for name in {"api", "admin"} & set(facts):
            host, _, port = facts[name].partition(":")
            with socket.socket() as dialing:
                self.reached.append(dialing.connect_ex((host, int(port))))


@pytest.mark.asyncio
async def test_the_addresses_are_told_once_they_can_be_reached(
    parts: FakeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for the line asks the moment after it."""
    reader = Reader()
    monkeypatch.setattr(run, "_log", reader)
    await served(parts, lambda: os.kill(os.getpid(), signal.SIGTERM))

    assert [0, 0] == reader.reached


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


@pytest.mark.asyncio
async def test_metrics_can_be_scraped_before_the_first_pass(parts: FakeParts) -> None:
    """A counter that jumps before its first scrape is invisible: both listeners answer when the pass thread starts."""
    reached: list[str] = []

    def start() -> None:
        for name, sock in parts.sockets.items():
            with socket.create_connection(sock.getsockname(), SECONDS):
                reached.append(name)
        parts.started.set()

    parts.watch = SimpleNamespace(**{**vars(parts.watch), "start": start})
    code = await served(parts, lambda: os.kill(os.getpid(), signal.SIGTERM))

    assert (0, ["api", "admin"]) == (code, reached)


# ── death of a task ──────────────────────────────────────────────────────────────────────────────────────


def ended(logs: list[Any]) -> list[str]:
    """The names of what died, as the log tells them."""
    return [line["task"] for line in logs if line["event"] == "task_ended"]


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["api", "admin", "zmq", "ticks", "threads"])
async def test_fault_P12_a_task_that_is_killed(parts: FakeParts, name: str) -> None:
    """Each task of the loop, cancelled from outside: exit code 1, and the log names it."""

    def kill() -> None:
        for task in asyncio.all_tasks():
            if task.get_name() == name:
                task.cancel()

    with capture_logs() as logs:
        code = await served(parts, kill)

    assert (1, 1, [name]) == (code, parts.closed, ended(logs))
    assert [f"task {name} ended"] == [line["reason"] for line in logs if line["event"] == "service_failed"]


@pytest.mark.asyncio
async def test_fault_P12_a_log_that_failed(parts: FakeParts) -> None:
    """The writer ended: the process does not wait until the pass thread has something to write."""
    parts.store.broken.set()
    with capture_logs() as logs:
        code = await served(parts, lambda: None)

    assert (1, ["store-writer"]) == (code, ended(logs))


# ── stalls ───────────────────────────────────────────────────────────────────────────────────────────────


class Manager(Supervisor):
    """Counts the signs of life."""

    def __init__(self) -> None:
        super().__init__({})
        self.watchdog_seconds = 0.02
        self.pings = 0

    def alive(self) -> None:
        """One more."""
        self.pings += 1


def pass_thread(parts: FakeParts, *, stands: bool) -> None:
    """The pass thread makes no progress any more, or made some just now."""
    parts.watch.last_progress = time.monotonic() - 1.0 if stands else JUST_NOW


def writer(parts: FakeParts, *, stands: bool) -> None:
    """The same for the thread that writes the log."""
    parts.writing = 1.0 if stands else 0.0


def only_clients_store(parts: FakeParts, *, stands: bool) -> None:
    """The log grows, and nothing of it comes from the pass thread."""
    pass_thread(parts, stands=stands)
    numbers = iter(range(10**6))
    parts.store.last_id = lambda: next(numbers)


@pytest.mark.asyncio
@pytest.mark.parametrize("stall", [pass_thread, writer, only_clients_store])
async def test_fault_P12_a_stalled_thread(
    parts: FakeParts, stall: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a reason, the manager hears nothing while it holds, and it clears by itself."""
    monkeypatch.setattr(run, "STALL", 0.5)
    manager = Manager()
    task = asyncio.create_task(Process(parts, manager).serve())  # type: ignore[arg-type]
    stall(parts, stands=True)
    await parts.ticks(2)  # when the second one begins, the first one has said what it found
    reasons, silent = [reason.name for reason in parts.board.snapshot().reasons], manager.pings
    stall(parts, stands=False)
    await parts.ticks(2)
    after, heard = parts.board.snapshot().reasons, manager.pings
    os.kill(os.getpid(), signal.SIGTERM)
    code = await asyncio.wait_for(task, SECONDS)

    assert (["task_stalled"], ()) == (reasons, after)
    assert silent == 0
    assert heard > 0
    assert code == 0


@pytest.mark.asyncio
async def test_fault_P12_a_long_catch_up_is_no_stall(parts: FakeParts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that lasts and stores block after block moves."""
    monkeypatch.setattr(run, "STALL", 0.5)
    pass_thread(parts, stands=True)
    parts.chain_stored_at = JUST_NOW
    process = Process(parts, Supervisor({}))  # type: ignore[arg-type]

    assert process._stalled() == ""


@pytest.mark.asyncio
async def test_fault_P12_a_stalled_loop(parts: FakeParts) -> None:
    """Signs of life come from the loop itself: when it hangs, the manager hears nothing."""
    manager = Manager()
    task = asyncio.create_task(Process(parts, manager).serve())  # type: ignore[arg-type]
    await parts.ticks(2)
    before = manager.pings
    threading.Event().wait(0.1)  # the loop hangs in here
    after = manager.pings
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(task, SECONDS)

    assert before == after > 0


# ── the real threads ─────────────────────────────────────────────────────────────────────────────────────


def kill_pass(parts: Parts) -> None:
    """The core raises what nobody expects."""
    parts.watch.take_turn = fail  # type: ignore[method-assign]
    parts.wake.ring(urgent=True)


def kill_reporter(parts: Parts) -> None:
    """The reader of the log fails."""
    parts.reporter.catch_up = fail  # type: ignore[method-assign]


def kill_writer(parts: Parts) -> None:
    """A commit fails with a mistake of the program."""
    parts.store._writer._recorder.insert_jobs = fail  # type: ignore[method-assign]
    job = parts.store.submit(block_job())
    job.add_done_callback(lambda done: done.exception())


def fail(*_: object) -> Any:
    """Whatever it is asked."""
    raise ZeroDivisionError("boom")


def block_job() -> list[Envelope]:
    """A job that the store takes."""
    return envelopes("c" + "x" * 22, 0, [AlertCleared(recorded_at=1, kind=AlertKind.SELF_BREACH, height=1)])


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("kill", "name"), [(kill_pass, "pass"), (kill_reporter, "reporter"), (kill_writer, "store-writer")]
)
async def test_fault_P12_a_thread_of_the_service_dies(tmp_path: Path, kill: Callable[[Parts], None], name: str) -> None:
    """With the parts of a real service whose node is away: the process ends with 1, and the log names the thread."""
    anywhere = {"listen": "127.0.0.1:0"}
    settings = {"node": {"rpc_url": "http://127.0.0.1:9"}, "api": anywhere, "admin": anywhere}
    made = create(tmp_path / "t", tmp_path / "t" / "config.toml", "regtest", settings)
    with capture_logs() as logs:
        real = open_parts(
            load({}, config_path=str(made.config_path)).settings, Metrics(build=("0", "0", "regtest", "sqlite"))
        )
        task = asyncio.create_task(Process(real, Supervisor({})).serve())
        await asyncio.sleep(0.1)
        kill(real)
        code = await asyncio.wait_for(task, 2 * SECONDS)

    assert (1, name) == (code, ended(logs)[0])
