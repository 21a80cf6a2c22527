"""A TCP proxy in front of a server that can lose what was asked, lose the answer, fall silent, or refuse connections.

`lose_answers`: the server gets what is sent, nobody hears of it. `cut`: all connections are gone.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

CHUNK = 1 << 16


class CuttingProxy:
    """Passes bytes on, as long as it is not told otherwise. Listens on a free port of 127.0.0.1."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._answers = threading.Event()
        self._requests = threading.Event()
        self._answers.set()
        self._requests.set()
        self._is_refusing = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.swallowed = threading.Event()
        """Set when an answer was lost."""
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def lose_answers(self) -> None:
        """From now on no byte of the server arrives."""
        self.swallowed.clear()
        self._answers.clear()

    def lose_requests(self) -> None:
        """From now on no byte of the client arrives."""
        self._requests.clear()

    def heal(self) -> None:
        """Pass everything on again, on new connections; what was lost stays lost."""
        self._answers.set()
        self._requests.set()
        self._is_refusing = False

    def refuse(self) -> None:
        """Cut all connections, and every new one at once."""
        self._is_refusing = True
        self.cut()

    def cut(self) -> None:
        """End all connections on both sides."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                _end(end)

    def abandon(self) -> None:
        """End all connections on the side of the client only: the server believes that it still has one."""
        for client, _ in self._pairs:
            _end(client)

    def close(self) -> None:
        """End everything."""
        self._listener.close()
        self.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._is_refusing:
                    client.close()
                    continue
                try:
                    server = socket.create_connection(self._server)
                except OSError:  # the server is away, perhaps not for long
                    client.close()
                    continue
                self._pairs.append((client, server))
                if self._is_refusing:  # since a moment ago
                    self.cut()
                    continue
                for source, target, passing, is_answer in (
                    (client, server, self._requests, False),
                    (server, client, self._answers, True),
                ):
                    arguments = (source, target, passing, is_answer)
                    threading.Thread(target=self._pass_on, args=arguments, name="proxy", daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, passing: threading.Event, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                if passing.is_set():
                    target.sendall(data)
                elif is_answer:
                    self.swallowed.set()
        if passing.is_set():
            _end(target)


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
