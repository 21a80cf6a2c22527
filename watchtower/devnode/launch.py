"""The process of a private regtest node: ports, command line, the wait for readiness, the end."""

from __future__ import annotations

import atexit
import fcntl
import os
import random
import select
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from watchtower.ports import WatchtowerError

START_SECONDS = 60.0
STOP_SECONDS = 20.0
"""bitcoind writes its caches when it is stopped; after this time it is killed."""


class NodeDied(WatchtowerError):
    """bitcoind ended by itself or did not get ready; the text holds the last lines of its log."""

    slug: ClassVar[str] = "node-died"


PORTS = range(12_000, 32_000)
"""Below the range from which systems take the local ports of outgoing connections (Linux 32768, others 49152): a
port that a stopped program will want again must not be lent to somebody's connection meanwhile."""

_reserved: list[Path] = []


def free_ports(count: int) -> list[int]:
    """Ports on the loopback interface that nobody listens on now; all different.

    They stay reserved until this process ends: no other process of this user is given them by this function, also
    while the program that shall listen on them has not started yet or is being restarted.
    """
    found: list[int] = []
    with _reservations() as folder:
        for port in random.sample(PORTS, len(PORTS)):
            if len(found) == count:
                break
            place = folder / str(port)
            # A reserved port is not even tried: its owner may be about to listen on it.
            if not _is_held(place) and _is_free(port):
                _reserve(place)
                found.append(port)
    if len(found) < count:
        raise OSError(f"no {count} free ports between {PORTS.start} and {PORTS.stop}")
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def _reservations(folder: Path | None = None) -> Iterator[Path]:
    """The folder with a file for each reserved port, as long as no other process reads or changes it.

    Without the lock two processes that find the file of a dead one could both take its port.
    """
    folder = folder or Path(tempfile.gettempdir()) / f"state-channel-ports-{os.getuid()}"
    opened = _locked(folder)
    try:
        yield folder
    finally:
        os.close(opened)


def _locked(folder: Path) -> int:
    """Descriptor of the folder, which is there and locked until the descriptor is closed."""
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):  # the last process with reservations removed the folder just now
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(opened, fcntl.LOCK_EX)
            if _is_opened(folder, opened):
                return opened
            os.close(opened)


def _is_opened(folder: Path, opened: int) -> bool:
    try:
        return os.path.samestat(os.fstat(opened), folder.stat())
    except FileNotFoundError:
        return False


def _reserve(place: Path) -> None:
    """Put our process id into the port's file."""
    place.write_text(str(os.getpid()))
    if not _reserved:
        atexit.register(_release, os.getpid())
    _reserved.append(place)


def _is_held(place: Path) -> bool:
    """A living process has reserved it. One that was killed left its file behind."""
    try:
        os.kill(int(place.read_text()), 0)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except (PermissionError, ValueError):
        return True
    return True


def _release(pid: int) -> None:
    """Give the reservations back, but not those of a parent process; the last process removes the folder."""
    if os.getpid() != pid:
        return
    for folder in {place.parent for place in _reserved}:
        with _reservations(folder):
            for place in _reserved:
                place.unlink(missing_ok=True)
            with suppress(OSError):  # others have reservations
                folder.rmdir()


class Process:
    """One bitcoind on one data directory; it can be started again after it ended."""

    def __init__(self, binary: Path, datadir: Path, arguments: Sequence[str]) -> None:
        self.datadir = datadir
        self._command = [str(binary), "-regtest", f"-datadir={datadir}", *arguments]
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs, else None."""
        if self._running is None or self._running.poll() is not None:
            return None
        return self._running.pid

    def start(self, extra: Sequence[str] = ()) -> None:
        """Start and return when RPC is ready; raises `NodeDied`."""
        if self.pid is not None:
            raise RuntimeError("the node is already running")
        self.datadir.mkdir(parents=True, exist_ok=True)
        bell = self.datadir / "ready.fifo"
        bell.unlink(missing_ok=True)
        os.mkfifo(bell, 0o600)
        notify = f"-startupnotify=echo ready > {shlex.quote(str(bell))}"
        reader = os.open(bell, os.O_RDONLY | os.O_NONBLOCK)
        try:
            self._running = subprocess.Popen(
                [*self._command, *extra, notify],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            self._await_bell(reader)
        except BaseException:
            self.kill()  # also after Ctrl-C: nobody else knows of this process yet
            raise
        finally:
            os.close(reader)
            bell.unlink(missing_ok=True)

    def wait(self, seconds: float = STOP_SECONDS) -> bool:
        """True if the process ended within the time (it closes its output when it ends)."""
        running, deadline = self._running, time.monotonic() + seconds
        if running is None or running.stdout is None:
            return True
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([running.stdout], [], [], left)[0]:
                return False
            if not os.read(running.stdout.fileno(), 65536):
                running.wait()
                running.stdout.close()
                self._running = None
                return True
        return False

    def kill(self) -> None:
        """End it at once, as a power cut would (SIGKILL); no cache is written."""
        if self._running is not None:
            self._running.kill()
            self.wait()

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of debug.log."""
        path = self.datadir / "regtest" / "debug.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.is_file() else "(no log)"

    def remove(self) -> None:
        """Delete the data directory; the process must have ended."""
        shutil.rmtree(self.datadir, ignore_errors=True)

    def _await_bell(self, reader: int) -> None:
        running, deadline = self._running, time.monotonic() + START_SECONDS
        if running is None or running.stdout is None:
            raise NodeDied("bitcoind was not started")
        output = b""
        while (left := deadline - time.monotonic()) > 0:
            output_end = running.stdout.fileno()
            readable = select.select([reader, output_end], [], [], left)[0]
            if reader in readable:
                return
            if readable:
                chunk = os.read(output_end, 65536)
                output += chunk
                if not chunk:
                    break
        raise NodeDied(f"bitcoind did not get ready:\n{output.decode(errors='replace')[-2000:]}\n{self.log_tail()}")
