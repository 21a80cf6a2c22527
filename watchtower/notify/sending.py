"""What every way to a person has in common: one call per message, an end to waiting, and what went wrong in words."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar, Literal, Protocol

from watchtower.notify.message import Message
from watchtower.ports import WatchtowerError

Transport = Literal["webhook", "ntfy", "email"]

STEP_SECONDS = 5.0
"""Time for one step: connect, or the next bytes."""

SHUT_AGAIN_SECONDS = 1.0
"""After the time is over, how often connections that came even later are shut: a name may be looked up for long."""

SEND_SECONDS = 15.0
"""Time for all of it, however slowly a server sends."""


class SendFailed(WatchtowerError):
    """A target did not take a message. `about_message` if it may take others; `wait` seconds that it asked for."""

    slug: ClassVar[str] = "notification-failed"

    def __init__(self, reason: str, *, about_message: bool = False, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.about_message, self.wait = about_message, wait


class Target(Protocol):
    """A way to a person."""

    @property
    def transport(self) -> Transport:
        """Its name in metrics and logs."""

    def send(self, message: Message, body: bytes) -> None:
        """Deliver; raises `SendFailed`. `body` is the message as JSON. Blocks for `SEND_SECONDS` at most."""


def trust(ca_path: str) -> ssl.SSLContext:
    """Certificates are verified, by the authorities of the system or of a file; raises `SendFailed`."""
    try:
        return ssl.create_default_context(cafile=ca_path or None)
    except OSError as error:
        raise SendFailed(f"notify.ca_path cannot be used: {error.strerror or error}") from None


@contextmanager
def sending(held: list[socket.socket]) -> Iterator[None]:
    """Inside, every failure of the network is a `SendFailed`, and the sockets in `held` are shut after the time.

    `held` may be filled inside.
    """
    late, over = threading.Event(), threading.Event()

    def shut() -> None:
        late.set()
        while True:
            for sock in tuple(held):
                with suppress(OSError):
                    # Not `SSLSocket.shutdown`: it takes the encryption away from under the thread that waits.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
            if over.wait(SHUT_AGAIN_SECONDS):
                return

    timer = threading.Timer(SEND_SECONDS, shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, EOFError, ValueError, http.client.HTTPException) as error:
        raise SendFailed(_too_slow() if late.is_set() else in_words(error)) from None
    finally:
        over.set()
        timer.cancel()


def connect(host: str, port: int, context: ssl.SSLContext | None, held: list[socket.socket]) -> socket.socket:
    """A connection whose every step has a limit, encrypted with a `context`; it is in `held` from the beginning."""
    sock = socket.create_connection((host, port), timeout=STEP_SECONDS)
    held.append(sock)
    if context is not None:
        encrypted = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        held.append(encrypted)
        encrypted.do_handshake()
        sock = encrypted
    return sock


def in_words(error: Exception) -> str:
    """What to look at. Nothing of an address: it may be a secret."""
    if isinstance(error, TimeoutError):
        return _too_slow()
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no encrypted connection: {error.reason or 'the other side ended it'}"
    if isinstance(error, socket.gaierror):
        return "the name of the host is not known; is it right, does DNS work?"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there; are host and port right, does the service run?"
    if isinstance(error, OSError) and error.strerror:
        return f"the connection failed: {error.strerror}"
    return f"the answer cannot be understood ({type(error).__name__})"


def _too_slow() -> str:
    return "no answer in time"
