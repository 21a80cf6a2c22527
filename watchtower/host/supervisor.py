"""The service manager's notification socket (sd_notify(3)): ready, alive, stopping, and what is going on.

Without a manager every call does nothing. A lost datagram is no error: the manager restarts what stays silent.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

OPENING_LIMIT = 3_600.0
"""Seconds for which more time is asked while the parts open; what takes longer hangs."""

SEND_SECONDS = 0.5
"""The queue of a manager's socket is short, and a full one holds the sender, here the event loop, until it is read."""


class Supervisor:
    """Speaks to the socket that NOTIFY_SOCKET names (a path, or `@` and an abstract name)."""

    def __init__(self, environ: Mapping[str, str], pid: int | None = None) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        mine = environ.get("WATCHDOG_PID", "") in ("", str(pid or os.getpid()))
        self.watchdog_seconds = int(environ.get("WATCHDOG_USEC", "0")) / 1e6 if mine else 0.0
        """Time within which `alive` is expected, 0 without a watchdog."""

    def ready(self) -> None:
        """The tower watches."""
        self._send("READY=1")

    def alive(self) -> None:
        """Everything that matters made progress."""
        self._send("WATCHDOG=1")

    def waiting(self, seconds: int) -> None:
        """Starting takes longer, and that is in order: give `seconds` more."""
        self._send(f"EXTEND_TIMEOUT_USEC={seconds * 1_000_000}")

    @contextmanager
    def opening(self, seconds: int = 30) -> Iterator[None]:
        """Ask for more time while the block runs: read models of a large log take longer than any fixed limit."""
        over = threading.Event()

        def ask() -> None:
            end = time.monotonic() + OPENING_LIMIT
            while time.monotonic() < end:
                self.waiting(seconds)
                if over.wait(seconds / 2):
                    return

        thread = threading.Thread(target=ask, name="opening", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def reloading(self) -> None:
        """The configuration is read again; `ready` says that it is over. The time tells the manager which request."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """A stop was asked for."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
                door.settimeout(SEND_SECONDS)
                door.sendto(message.encode(), self._address)
        except OSError:  # nobody listens, nobody reads, or no descriptor is free
            return
