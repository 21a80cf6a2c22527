"""The service manager's notification socket (sd_notify(3)): ready, alive, stopping, and what is going on.

Without a manager every call does nothing. A lost datagram is no error: the manager restarts what stays silent.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


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
                door.sendto(message.encode(), self._address)
        except OSError:  # nobody listens, or no descriptor is free
            return
