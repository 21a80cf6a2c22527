"""The socket of a running party: one call, one answer, one line each; only the owner of the directory may connect.

A running party has its log open and locked, so commands let it do the work. The socket is `party.sock` in the
party's directory, mode 0600.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from domain.errors import DomainError
from watchtower.client.errors import ConfigurationError, StateChannelError
from watchtower.party.calls import Call, plain
from watchtower.party.faults import UNREACHABLE, CallFailed, Fault
from watchtower.party.wire import LIMIT, Answer, decode_answer, decode_call, encode_answer, encode_call, fault_of
from watchtower.ports import WatchtowerError

LONGEST_PATH = 107
"""Bytes of a Unix socket's path on Linux; other systems allow a few less."""

REFUSALS = (StateChannelError, DomainError, WatchtowerError, TimeoutError)
"""What a call may raise; anything else is a fault of the program."""

_log = logging.getLogger(__name__)


def ask(path: Path, call: Call) -> tuple[bool, Any]:
    """Let the party that listens at `path` do a call: (True, the document), or (False, None) if nobody listens.

    Raises `CallFailed` with the fault of the call, or if the party ended before it answered.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False, None
        except OSError as error:
            raise ConfigurationError(f"the socket {path} cannot be used ({error.strerror})") from None
        connection.sendall(encode_call(call))
        with connection.makefile("rb") as answers:
            line = answers.readline(LIMIT)
    if not line.endswith(b"\n"):
        raise CallFailed(Fault("party-ended", "the party ended before it answered; ask again", UNREACHABLE))
    return True, decode_answer(line).unpack()


class ControlServer:
    """Answers calls until the block ends. `answer` does one call and may raise `REFUSALS`."""

    def __init__(self, path: Path, answer: Callable[[Call], Awaitable[Any]]) -> None:
        self._path = path
        self._answer = answer
        self._server: asyncio.AbstractServer | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        """Listen; `ConfigurationError` if the path is too long. A socket that a killed party left is replaced."""
        if len(bytes(self._path)) > LONGEST_PATH:
            raise ConfigurationError(
                f"the path {self._path} is longer than the {LONGEST_PATH} bytes that a socket may have; "
                "move the party's directory"
            )
        self._path.unlink(missing_ok=True)  # the log is locked: no other party serves this directory
        self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=LIMIT)
        self._path.chmod(0o600)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None, "it was entered"
        self._server.close()
        self._path.unlink(missing_ok=True)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "connections run in tasks"
        self._tasks.add(task)
        try:
            line = await reader.readline()
            writer.write(encode_answer(await self._answered(line)))
            await writer.drain()
        except (ConnectionError, ValueError) as error:
            _log.info("call_dropped reason=%s", type(error).__name__)  # the command ended, or sent too long a line
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answered(self, line: bytes) -> Answer:
        try:
            return Answer(result=plain(await self._answer(decode_call(line))))
        except REFUSALS as error:
            return Answer(fault=fault_of(error))
        except Exception as error:  # noqa: BLE001 - the border of a call: one command must not end the party
            _log.exception("call_failed")
            return Answer(fault=Fault("internal", f"the party failed ({type(error).__name__}); its log says where"))
