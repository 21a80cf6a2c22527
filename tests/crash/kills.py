"""Real processes that write one log and are killed at random moments.

`python -m tests.crash.kills DIR KILLS SEED [URL]`

The log is a file in DIR, or the one at URL. Each process has many callers that append jobs of several events, and one
that appends blocks: a step of the cursor and an event for some streams in one job. Every acknowledged job is told
through a pipe before the next one is sent. After each SIGKILL the log is compared with what was told. The last line of
stdout is JSON; exit code 1 says what was lost.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Protocol

import msgspec

from domain.events import AlertCleared, Recorded
from tests.support.stores import new_log, note
from watchtower.store.create import open_reader, open_store
from watchtower.store.postgres.event_store import open_server_log, open_server_reader
from watchtower.store.postgres.source import PostgresSource
from watchtower.store.reader import LogReader
from watchtower.store.source import LogSource
from watchtower.store.sqlite_source import SqliteSource
from watchtower.store.verify import verify_source
from watchtower.store.writer import LogWriter

CALLERS = 16
EVENTS = 3
"""Events of one job of a caller."""

CURSOR = "cursor"
BLOCK_STREAMS = ("block-a", "block-b")
MOST_ACKS, MOST_SECONDS = 120, 0.004
"""A process dies behind a random number of answers and a random pause."""


class Loss(AssertionError):
    """The log does not hold what was promised."""


class Ground(Protocol):
    """Where the log is."""

    def writer(self) -> LogWriter:
        """Open it for writing."""

    def reader(self) -> LogReader:
        """Open it for reading."""

    def source(self) -> LogSource:
        """Open its rows."""


class FileGround:
    """A new log file in a directory."""

    def __init__(self, directory: Path) -> None:
        self._path = new_log(directory)

    def writer(self) -> LogWriter:
        """With the lock of the file."""
        return open_store(self._path)

    def reader(self) -> LogReader:
        """The file."""
        return open_reader(self._path)

    def source(self) -> LogSource:
        """The file."""
        return SqliteSource(self._path)


class ServerGround:
    """A log on a server that holds `LogOpened` only."""

    def __init__(self, directory: Path, url: str) -> None:
        self._copy, self._url = directory / "copy.db", url

    def writer(self) -> LogWriter:
        """As its leader."""
        return open_server_log(self._url, self._copy)

    def reader(self) -> LogReader:
        """What is on the server."""
        return open_server_reader(self._url)

    def source(self) -> LogSource:
        """What is on the server."""
        return PostgresSource(self._url)


class Count(msgspec.Struct, frozen=True):
    """What a run has seen."""

    kills: int = 0
    acknowledged: int = 0
    events: int = 0


def write(ground: Ground, pipe: int) -> None:
    """The body of a process: write until it is killed. An answer is told as `stream version` in one line."""
    store = ground.writer()
    threads = [threading.Thread(target=_call, args=(store, f"caller-{number}", pipe)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    version = store.version(CURSOR)
    while True:
        version += 1
        block = [note(CURSOR, version, version), *(note(name, version, version) for name in BLOCK_STREAMS)]
        store.append(block, chain=True)
        os.write(pipe, f"{CURSOR} {version}\n".encode())


def _call(store: LogWriter, stream: str, pipe: int) -> None:
    version = store.version(stream)
    while True:
        store.append([note(stream, version + step, version) for step in range(1, EVENTS + 1)])
        version += EVENTS
        os.write(pipe, f"{stream} {version}\n".encode())


def kill_one(ground: Ground, chance: random.Random) -> list[bytes]:
    """Start a writer, kill it; the answers that it told."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        write(ground, writing)
        os._exit(1)
    os.close(writing)
    told = b""
    with os.fdopen(reading, "rb") as pipe:
        for _ in range(chance.randrange(1, MOST_ACKS)):
            told += pipe.readline()
        time.sleep(chance.random() * MOST_SECONDS)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        told += pipe.read()
    if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        raise Loss(f"a writer ended by itself with status {status}")
    return told.splitlines()


def _highest(answers: list[bytes]) -> dict[str, int]:
    """The highest version that was told of each stream."""
    highest: dict[str, int] = defaultdict(int)
    for line in answers:
        stream, _, version = line.decode().partition(" ")
        highest[stream] = max(highest[stream], int(version))
    return highest


def check(ground: Ground, after: int, told: dict[str, int], versions: dict[str, int]) -> list[Recorded]:
    """The new events: dense, jobs whole, everything that was told is there, cursor and blocks agree.

    `versions` has the last version of each stream up to `after`, and is brought up to date.
    """
    with ground.reader() as log:
        new = log.read_log(after, 1_000_000)
        behind = {stream: log.version(stream) for stream in (*told, CURSOR, *BLOCK_STREAMS)}
    # A server may finish a commit after the death of its client, and between two questions: `new` is one answer.
    versions |= {recorded.envelope.stream: recorded.envelope.version for recorded in new}
    if any(version < versions.get(stream, 0) for stream, version in behind.items()):
        raise Loss("a stream ends before its last event")
    if [recorded.id for recorded in new] != list(range(after + 1, after + 1 + len(new))):
        raise Loss("ids are not dense")
    lost = {stream: version for stream, version in told.items() if versions.get(stream, 0) < version}
    if lost:
        raise Loss(f"acknowledged and not there: {lost}")
    if len({versions.get(stream, 0) for stream in (CURSOR, *BLOCK_STREAMS)}) != 1:
        raise Loss("the cursor and the events of its blocks disagree")
    _check_jobs(new)
    return new


def _check_jobs(new: list[Recorded]) -> None:
    """Events of one job carry one number and stand side by side, all of them."""
    jobs: dict[tuple[str, int], list[int]] = defaultdict(list)
    for recorded in new:
        payload = recorded.envelope.payload
        assert isinstance(payload, AlertCleared)
        kind = "block" if recorded.envelope.stream in (CURSOR, *BLOCK_STREAMS) else recorded.envelope.stream
        jobs[kind, payload.height].append(recorded.id)
    for job, ids in jobs.items():
        if ids != list(range(ids[0], ids[0] + EVENTS)):
            raise Loss(f"job {job} is half written: {ids}")


def run(ground: Ground, kills: int, seed: int) -> Count:
    """That many kills of writers of one log; raises `Loss`."""
    chance, count, last_id = random.Random(seed), Count(), 1
    versions: dict[str, int] = {}
    for _ in range(kills):
        answers = kill_one(ground, chance)
        new = check(ground, last_id, _highest(answers), versions)
        last_id += len(new)
        count = Count(count.kills + 1, count.acknowledged + len(answers), count.events + len(new))
    source = ground.source()
    findings = verify_source(source).findings
    source.close()
    if findings:
        raise Loss(findings[0].sentence)
    return count


def main(directory: str, kills: str, seed: str, url: str = "") -> None:
    """Run and print."""
    ground = ServerGround(Path(directory), url) if url else FileGround(Path(directory))
    print(json.dumps(msgspec.to_builtins(run(ground, int(kills), int(seed)))))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
