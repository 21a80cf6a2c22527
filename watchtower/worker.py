"""A process that answers questions: code that may hang, crash or eat memory does so without its caller.

A `Worker` promises an answer or a `WorkerFailed` within its time limit, whatever the code inside does, and a fresh
process for the next question after a failure. It is no sandbox against hostile code: what runs inside was chosen
by the operator. It gets no environment variables of its parent, which may hold passwords.

`python -m watchtower.worker FD SECONDS BYTES TARGET [ARGUMENT …]` is the inside. TARGET is `module:function`; the
function is called once with the arguments and returns what turns a question into an answer. Frames on the socket:
length (4 bytes, little-endian), then the bytes; an answer begins with 0, a raised error (its text) with 1.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import ClassVar

from watchtower.ports import WatchtowerError

Answering = Callable[[bytes], bytes]
"""A question in, an answer out."""

MAX_FRAME = 4 * 2**20
"""Bytes of a question or an answer: two states with the largest state data are far below."""
AT_ONCE = 4096
"""Bytes of an answer that are asked for before its length is known."""
START_SECONDS = 30.0
"""An interpreter starts and imports its target in well under a second; a loaded machine gets this long."""
WAITING, PATIENCE = 4, 1.0
"""Questions that wait for one process, the one that is being answered among them, and how many seconds others wait for
such a place. Quick answers make room in time for all; slow ones must not hold every thread of the caller."""
MEMORY = 512 * 2**20
MAX_TEXT = 500
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "HOME")


class WorkerFailed(WatchtowerError):
    """No answer: the code raised, answered nonsense, took too long, or its process died."""

    slug: ClassVar[str] = "worker-failed"


class WorkerSlow(WorkerFailed):
    """No answer within the time limit; the process was ended."""

    slug: ClassVar[str] = "worker-slow"


class WorkerUnavailable(WorkerFailed):
    """The process cannot be started: a missing module, or no memory. The question was not looked at."""

    slug: ClassVar[str] = "worker-unavailable"


class WorkerBusy(WorkerUnavailable):
    """Too many questions wait already. The question was not looked at."""

    slug: ClassVar[str] = "too-busy"


class Worker:
    """One such process, started at the first question or before. Several threads may use it; a few questions queue up.

    `seconds` limits one question, `memory` (bytes) the address space of the process.
    """

    def __init__(
        self, target: str, arguments: Sequence[str] = (), *, seconds: float = 1.0, memory: int = MEMORY
    ) -> None:
        self.seconds = seconds
        self._inside = (repr(seconds), str(memory), target, *arguments)
        self._mutex = Lock()
        self._places = BoundedSemaphore(WAITING)
        self._running: _Running | None = None

    def start(self) -> None:
        """Start the process before there is a question; raises `WorkerUnavailable`."""
        with self._mutex:
            if self._running is None:
                self._running = self._started()

    def ask(self, question: bytes) -> bytes:
        """The answer; `WorkerSlow` after the time limit, `WorkerFailed` with the reason for anything else.

        `WorkerUnavailable` if the process cannot be started, `WorkerBusy` if too many questions wait.
        """
        if not self._places.acquire(timeout=PATIENCE):
            raise WorkerBusy(f"{WAITING} other questions wait for the process for {self._inside[2]}; try again")
        try:
            return self._ask(question)
        finally:
            self._places.release()

    def _ask(self, question: bytes) -> bytes:
        with self._mutex:
            if self._running is not None and not self._running.is_alive:
                self._end()  # it died between two questions: no fault of this one
            if self._running is None:
                self._running = self._started()
            return self._answer_of(self._running, question)

    def close(self) -> None:
        """End the process; a later question would start a new one."""
        with self._mutex:
            self._end()

    def _started(self) -> _Running:
        running = _Running(self._inside)
        try:
            running.receive(time.monotonic() + START_SECONDS)
        except (OSError, EOFError) as error:
            running.end()
            raise self._unavailable(str(error) or "it ended") from None
        except WorkerFailed as failure:
            running.end()
            raise self._unavailable(str(failure)) from None
        return running

    def _unavailable(self, reason: str) -> WorkerUnavailable:
        return WorkerUnavailable(f"the process for {' '.join(self._inside[2:])} did not start: {reason}")

    def _answer_of(self, running: _Running, question: bytes) -> bytes:
        deadline = time.monotonic() + self.seconds
        try:
            running.send(question, deadline)
            return running.receive(deadline)
        except (OSError, EOFError) as error:
            self._end()
            # Behind the limit the end is that by its own alarm clock: on a machine that stood still it comes first.
            if isinstance(error, TimeoutError) or time.monotonic() >= deadline:
                raise WorkerSlow(f"no answer within {self.seconds:g} s; the process was ended") from None
            raise WorkerFailed("the process died before it answered") from None

    def _end(self) -> None:
        if self._running is not None:
            self._running.end()
            self._running = None


class _Running:
    """A started process and our end of its socket; both are let go with this object."""

    def __init__(self, inside: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = (sys.executable, "-m", "watchtower.worker", str(theirs.fileno()), *inside)
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # a crash report may quote its input, which is not ours to log
                pass_fds=(theirs.fileno(),),
                env=_environment(),
                start_new_session=True,  # an interrupt at the terminal is for the parent, which then ends us
            )
        self._socket = ours
        self.end = weakref.finalize(self, _end, self._process, ours)

    @property
    def is_alive(self) -> bool:
        # Looked at and not reaped: until `end` the number of the process, and of its group, stays its own.
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def send(self, question: bytes, deadline: float) -> None:
        if len(question) > MAX_FRAME:
            raise WorkerFailed(f"a question of {len(question)} bytes is above the limit of {MAX_FRAME}")
        self._socket.settimeout(_left(deadline))
        self._socket.sendall(len(question).to_bytes(4, "little") + question)

    def receive(self, deadline: float) -> bytes:
        received = self._read(4, deadline)
        size = int.from_bytes(received[:4], "little")
        if not 1 <= size <= MAX_FRAME:
            raise EOFError
        received += self._read(4 + size - len(received), deadline)
        if len(received) != 4 + size:
            raise EOFError  # nobody asked for more
        if received[4] != 0:
            raise WorkerFailed(received[5:].decode("utf-8", "replace"))
        return bytes(received[5:])

    def _read(self, least: int, deadline: float) -> bytearray:
        """At least so many bytes; most answers arrive with their length, in one piece."""
        parts = bytearray()
        while len(parts) < least:
            self._socket.settimeout(_left(deadline))
            part = self._socket.recv(max(least - len(parts), AT_ONCE))
            if not part:
                raise EOFError
            parts += part
        return parts


def _end(process: subprocess.Popen[bytes], ours: socket.socket) -> None:
    ours.close()
    # The whole group, which has the number of its first member: what foreign code started goes with it, unless that
    # left the group on purpose.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _environment() -> dict[str, str]:
    """What an interpreter needs to find the same modules, and nothing else."""
    paths = [str(Path(entry).resolve()) for entry in sys.path]
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}


# ── inside ───────────────────────────────────────────────────────────────────────────────────────────────


def target_of(text: str) -> object:
    """What `module:name` names; raises ImportError, AttributeError or ValueError in the words of Python."""
    module, _, name = text.partition(":")
    if not module or not name:
        raise ValueError(f"{text!r} does not have the form package.module:name")
    return getattr(importlib.import_module(module), name)


def main(arguments: Sequence[str]) -> None:
    """Answer questions until the parent hangs up."""
    number, seconds, memory, target, *rest = arguments
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    own = os.getpid()
    with socket.socket(fileno=int(number)) as parent, parent.makefile("rb") as frames:
        try:
            make = target_of(target)
            assert callable(make), "a target is a function"
            answering: Answering = make(*rest)
        except BaseException as error:
            _only(own)
            _send(parent, b"\x01" + _told(error))
            raise
        _only(own)
        _send(parent, b"\x00")
        while len(head := frames.read(4)) == 4:
            question = frames.read(int.from_bytes(head, "little"))
            # The parent ends us after its time limit; if it is gone, the alarm clock of the system does.
            signal.setitimer(signal.ITIMER_REAL, 2 * float(seconds) + 1)
            answer = _answer(answering, question)
            _only(own)
            _send(parent, answer)
            signal.setitimer(signal.ITIMER_REAL, 0)


def _only(own: int) -> None:
    """End a fork that came back out of foreign code: its answer would be read as the one to the next question."""
    if os.getpid() != own:
        os._exit(1)


def _answer(answering: Answering, question: bytes) -> bytes:
    try:
        answer = b"\x00" + answering(question)
    except Exception as error:  # noqa: BLE001 - the border of foreign code: told to the parent, which refuses
        return b"\x01" + _told(error)
    return answer if len(answer) <= MAX_FRAME else b"\x01the answer is too long"


def _told(error: BaseException) -> bytes:
    return f"{type(error).__name__}: {error}"[:MAX_TEXT].encode("utf-8", "replace")


def _send(parent: socket.socket, frame: bytes) -> None:
    parent.sendall(len(frame).to_bytes(4, "little") + frame)


if __name__ == "__main__":
    main(sys.argv[1:])
