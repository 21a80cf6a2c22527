"""Ending a long command on request: what is running is finished, what was found is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(Exception):
    """The user asked to stop; what was done so far is saved if that was asked for."""


@contextmanager
def stop_at_interrupt() -> Iterator[threading.Event]:
    """An event that the first SIGINT sets; the second one ends the program as always."""
    wanted = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        wanted.set()
        signal.signal(signal.SIGINT, before)

    before: Any = signal.signal(signal.SIGINT, note)
    try:
        yield wanted
    finally:
        signal.signal(signal.SIGINT, before)
