"""Real servers on this host that notifications are sent to: HTTP for webhook and ntfy, SMTP, both with or without TLS.

Each can be told how to behave; what arrived is kept and can be waited for.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Post(msgspec.Struct, frozen=True):
    """One request that arrived completely. `at` is the monotonic time."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def document(self) -> dict[str, Any]:
        """The body as JSON."""
        document: dict[str, Any] = msgspec.json.decode(self.body)
        return document


class Kept:
    """What arrived, in its order."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self._changed = threading.Condition()

    def add(self, one: Any) -> None:
        """Something arrived."""
        with self._changed:
            self.all.append(one)
            self._changed.notify_all()

    def wait(self, count: int, seconds: float = 30.0) -> list[Any]:
        """Until so many arrived; fails with what did."""
        with self._changed:
            if self._changed.wait_for(lambda: len(self.all) >= count, seconds):
                return list(self.all)
        raise AssertionError(f"{len(self.all)} of {count} arrived within {seconds} s: {self.all}")

    def wait_for(self, holds: Callable[[list[Any]], bool], seconds: float = 30.0) -> list[Any]:
        """Until what arrived is enough; fails with what did."""
        with self._changed:
            if self._changed.wait_for(lambda: holds(self.all), seconds):
                return list(self.all)
        raise AssertionError(f"not enough arrived within {seconds} s: {self.all}")


class HttpReceiver:
    """Answers posts with `statuses` in turn, then with 200. Negative ones: -1 closes without an answer, -2 hangs."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.posts = Kept()
        self.tries = Kept()
        self.statuses: list[int] = []
        self.released = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.answer(self)

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that ended the handshake is part of the tests."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"http{'' if context is None else 's'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request, in a thread of its own."""
        body = request.rfile.read(int(request.headers["Content-Length"]))
        post = Post(request.path, dict(request.headers.items()), body, time.monotonic())
        self.tries.add(post)
        status = self.statuses.pop(0) if self.statuses else 200
        if status == -2:
            self.released.wait(60)
        if status < 0:
            request.close_connection = True
            return
        if status == 200:
            self.posts.add(post)
        request.send_response(status)
        if status == 302:
            request.send_header("Location", f"http://127.0.0.1:{self.port}/elsewhere")
        request.send_header("Content-Length", "0")
        request.end_headers()

    def close(self) -> None:
        """End the server."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


class Letter(msgspec.Struct, frozen=True):
    """One mail that arrived; `secure` if the connection was encrypted, `login` what the client authenticated with."""

    sender: str
    recipients: tuple[str, ...]
    text: str
    secure: bool
    login: str


class _Talk:
    """One connection to the mail server."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._file = sock, sock.makefile("rb")
        self.secure, self.login = False, ""
        self.told: dict[str, str] = {}
        self.recipients: list[str] = []

    def encrypt(self, context: ssl.SSLContext) -> None:
        self._file.close()
        self._sock = context.wrap_socket(self._sock, server_side=True)
        self._file, self.secure = self._sock.makefile("rb"), True

    def line(self) -> str:
        return self._file.readline().decode().rstrip()

    def text(self) -> str:
        body = b""
        while (part := self._file.readline()) != b".\r\n":
            if not part:
                raise ConnectionError("the client left in the middle of its mail")
            body += part
        return body.decode()

    def say(self, text: str) -> None:
        self._sock.sendall(text.encode() + b"\r\n")

    def close(self) -> None:
        self._file.close()
        self._sock.close()


class SmtpReceiver:
    """Speaks as much SMTP as smtplib needs. `replies` overrides the answer to a verb once: {"DATA": "554 no"}."""

    def __init__(self, context: ssl.SSLContext | None = None, *, tls: bool = False, with_login: bool = False) -> None:
        """With a `context` it offers STARTTLS, or with `tls` it speaks TLS from the start."""
        self.letters = Kept()
        self.replies: dict[str, str] = {}
        self.greeting = "220 here"
        self._context, self._tls, self._with_login = context, tls, with_login
        receiver = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    receiver.talk(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def talk(self, sock: socket.socket) -> None:
        """One connection, until QUIT."""
        talk = _Talk(sock)
        try:
            if self._context is not None and self._tls:
                talk.encrypt(self._context)
            talk.say(self.greeting)
            while (line := talk.line()) and self._answered(talk, line):
                pass
        finally:
            talk.close()

    def _answered(self, talk: _Talk, line: str) -> bool:
        """False after the last line."""
        verb, _, rest = line.partition(" ")
        verb = verb.upper()
        if (reply := self.replies.pop(verb, None)) is not None:
            talk.say(reply)
            return True
        match verb:
            case "EHLO":
                extras = ["STARTTLS"] if self._context is not None and not talk.secure else []
                lines = ["here", *extras, *(["AUTH PLAIN"] if self._with_login else [])]
                talk.say("\r\n".join([*(f"250-{one}" for one in lines[:-1]), f"250 {lines[-1]}"]))
            case "STARTTLS":
                assert self._context is not None
                talk.say("220 go on")
                talk.encrypt(self._context)
            case "AUTH":
                talk.login = rest
                talk.say("235 welcome")
            case "DATA":
                talk.say("354 go on")
                self.letters.add(
                    Letter(talk.told["MAIL"], tuple(talk.recipients), talk.text(), talk.secure, talk.login)
                )
                talk.say("250 taken")
            case "QUIT":
                talk.say("221 bye")
                return False
            case _:
                talk.told[verb] = rest
                talk.recipients += [rest] if verb == "RCPT" else []
                talk.say("250 ok")
        return True

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def receiving(receiver: Any) -> Iterator[Any]:
    """The receiver ends with the block."""
    try:
        yield receiver
    finally:
        receiver.close()


def make_certificate(directory: Path, name: str = "localhost") -> tuple[ssl.SSLContext, Path]:
    """A server's context with a certificate for `name` that signs itself, and the PEM file that makes it trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = directory / f"{name}.pem", directory / f"{name}.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, secret)
    return context, pem
