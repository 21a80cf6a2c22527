"""Killing the writing process: what was acknowledged is there, what is there is whole."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stores import new_log
from watchtower.store.create import open_store
from watchtower.store.verify import verify_log

KILLS = 20

PROGRAM = """
import os, sys, threading
from pathlib import Path
from tests.support.stores import note
from watchtower.store.create import open_store

store, turn = open_store(Path(sys.argv[1])), sys.argv[2]

def work(name):
    for number in range(1, 1_000_000):
        stream = f"c{turn}-{name}-{number}"
        last = store.append([note(stream, 1), note(stream, 2), note(stream, 3)], chain=name == 0)
        os.write(1, f"{stream} {last}\\n".encode())

workers = [threading.Thread(target=work, args=(name,)) for name in range(4)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
threading.Event().wait()  # the store counts as closed when the main thread ends
"""


@pytest.mark.slow
def test_killed_writers_lose_nothing_acknowledged(tmp_path: Path) -> None:
    """Twenty kills under load: every acknowledged job is complete under its id, and the chain verifies."""
    path = new_log(tmp_path)
    moments = random.Random(20)
    acknowledged: list[tuple[str, int]] = []
    for turn in range(KILLS):
        acknowledged += _run_and_kill(path, turn, moments.randint(1, 60))

        with open_store(path) as store:
            for stream, last in acknowledged[-300:]:
                assert [(stream, 1), (stream, 2), (stream, 3)] == [
                    (item.envelope.stream, item.envelope.version) for item in store.read_log(last - 3, 3)
                ]

    assert len(acknowledged) > KILLS
    with open_store(path) as store, store.connection() as connection:
        report = verify_log(connection)
        assert report.findings == ()
        assert (store.last_id() - 1) % 3 == 0
        stored = {item.envelope.stream for item in store.read_log(1, store.last_id())}
    assert {stream for stream, _ in acknowledged} <= stored


def _run_and_kill(path: Path, turn: int, lines: int) -> list[tuple[str, int]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path), str(turn)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        head = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
    complete = "".join(head) + rest[: rest.rfind("\n") + 1]
    return [(stream, int(last)) for stream, last in (line.split() for line in complete.splitlines())]
