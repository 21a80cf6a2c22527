"""Logs in several segments, and what is read of them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from domain.events import Recorded
from tests.support.exports import long_log
from tests.support.stores import CHAIN_HASH, note
from watchtower.audit.findings import Report
from watchtower.audit.progress import Progress
from watchtower.audit.resume import Notebook
from watchtower.audit.verify import Audit, Wish
from watchtower.store.create import open_reader, open_store
from watchtower.store.segments.cut import close_segment
from watchtower.store.segments.source import open_log_files

OLD, NEW = "k" + "0" * 21 + "6", "k" + "z" * 22


LATER = 1_700_000_100_000_000
"""Microseconds: behind every event of the log."""


def three_segments(directory: Path) -> Path:
    """A log in three segments; the stream OLD has events in all of them."""
    path = long_log(directory)
    for number in range(2):
        close_segment(path, LATER)
        with open_store(path, chain_hash=CHAIN_HASH) as store:
            store.append([note(OLD, store.version(OLD) + 1, number), note(OLD, store.version(OLD) + 2)])
            store.append([note(NEW, number + 1)])
    return path


def read_all(path: Path) -> list[Recorded]:
    """Every event of a log."""
    with open_reader(path) as reader:
        return reader.read_log(0, 10**6)


def audit(path: Path, scratch: Path) -> Report:
    """The report on all segments of a log."""
    with open_log_files(path) as source:
        wish = Wish(storage=True, stretch=50)
        progress = Progress("none", sys.stderr, monotonic)
        return Audit(source, wish, Notebook(None, scratch, monotonic), progress, threading.Event()).run()


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


def killer(at: str) -> Callable[[str], None]:
    """A failpoint that ends the process at this point."""

    def failpoint(name: str) -> None:
        if name == at:
            raise Killed(name)

    return failpoint
