"""Real processes that write one log and are killed at random moments: `python -m tests.crash.kills DIR KILLS SEED`.

Each process has many callers that append jobs of several events, and one that appends blocks: a step of the cursor
and an event for some streams in one job. Every acknowledged job is told through a pipe before the next one is sent.
After each SIGKILL the log is compared with what was told. Prints one line of JSON; exit code 1 says what was lost.
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

import msgspec

from domain.events import AlertCleared, Recorded
from tests.support.stores import new_log, note
from watchtower.store.create import open_reader, open_store
from watchtower.store.event_store import SqliteEventStore
from watchtower.store.verify import verify_log

CALLERS = 16
EVENTS = 3
"""Events of one job of a caller."""

CURSOR = "cursor"
BLOCK_STREAMS = ("block-a", "block-b")
MOST_ACKS, MOST_SECONDS = 120, 0.004
"""A process dies behind a random number of answers and a random pause."""


class Loss(AssertionError):
    """The log does not hold what was promised."""


class Count(msgspec.Struct, frozen=True):
    """What a run has seen."""

    kills: int = 0
    acknowledged: int = 0
    events: int = 0


def write(path: Path, pipe: int) -> None:
    """The body of a process: write until it is killed. An answer is told as `stream version` in one line."""
    store = open_store(path)
    threads = [threading.Thread(target=_call, args=(store, f"caller-{number}", pipe)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    version = store.version(CURSOR)
    while True:
        version += 1
        block = [note(CURSOR, version, version), *(note(name, version, version) for name in BLOCK_STREAMS)]
        store.append(block, chain=True)
        os.write(pipe, f"{CURSOR} {version}\n".encode())


def _call(store: SqliteEventStore, stream: str, pipe: int) -> None:
    version = store.version(stream)
    while True:
        store.append([note(stream, version + step, version) for step in range(1, EVENTS + 1)])
        version += EVENTS
        os.write(pipe, f"{stream} {version}\n".encode())


def kill_one(path: Path, chance: random.Random) -> list[bytes]:
    """Start a writer, kill it; the answers that it told."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        write(path, writing)
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


def check(path: Path, after: int, told: dict[str, int]) -> list[Recorded]:
    """The new events: dense, jobs whole, everything that was told is there, cursor and blocks agree."""
    with open_reader(path) as log:
        new = log.read_log(after, 1_000_000)
        versions = {stream: log.version(stream) for stream in (*told, CURSOR, *BLOCK_STREAMS)}
    if [recorded.id for recorded in new] != list(range(after + 1, after + 1 + len(new))):
        raise Loss("ids are not dense")
    lost = {stream: version for stream, version in told.items() if versions[stream] < version}
    if lost:
        raise Loss(f"acknowledged and not there: {lost}")
    if len({versions[stream] for stream in (CURSOR, *BLOCK_STREAMS)}) != 1:
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


def run(directory: Path, kills: int, seed: int) -> Count:
    """That many kills of writers of one log; raises `Loss`."""
    path, chance, count = new_log(directory), random.Random(seed), Count()
    last_id = 1
    for _ in range(kills):
        answers = kill_one(path, chance)
        new = check(path, last_id, _highest(answers))
        last_id += len(new)
        count = Count(count.kills + 1, count.acknowledged + len(answers), count.events + len(new))
    with open_reader(path) as log, log.connection() as connection:
        findings = verify_log(connection).findings
    if findings:
        raise Loss(findings[0].sentence)
    return count


if __name__ == "__main__":
    print(json.dumps(msgspec.to_builtins(run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))))  # noqa: T201
