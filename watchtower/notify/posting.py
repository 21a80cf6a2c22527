"""One HTTP POST to one place: certificates verified, no redirect followed, no proxy asked, an end to waiting."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping

from watchtower.config.targets import HttpAddress
from watchtower.notify.sending import SendFailed, connect, sending

LONGEST_WAIT = 600.0
"""Seconds that a server may ask for before the next try."""

_ABOUT_MESSAGE = (400, 413, 415, 422)
"""Answers about this message; another one may be taken."""


def post(address: HttpAddress, context: ssl.SSLContext | None, headers: Mapping[str, str], body: bytes) -> None:
    """Send; returns if the answer is 2xx, else raises `SendFailed`."""
    assert context is not None or not address.tls  # never open what was to be encrypted
    connection = http.client.HTTPConnection(address.host, address.port)
    held: list[socket.socket] = []
    try:
        with sending(held):
            connection.sock = connect(address.host, address.port, context if address.tls else None, held)
            connection.request("POST", address.path, body, {"Host": _host(address), **headers})
            with connection.getresponse() as answer:
                status, wait = answer.status, answer.getheader("Retry-After", "")
    finally:
        connection.close()
        for sock in held:
            sock.close()
    _judge(status, wait)


def _judge(status: int, wait: str) -> None:
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise SendFailed(f"it answers {status} and points elsewhere; set the address that it points to")
    if status in (401, 403):
        raise SendFailed(f"it answers {status}: token or rights are wrong")
    if status in (404, 410):
        raise SendFailed(f"it answers {status}: there is nothing at this address")
    seconds = min(float(wait), LONGEST_WAIT) if wait.isdecimal() else 0.0
    raise SendFailed(f"it answers {status}", about_message=status in _ABOUT_MESSAGE, wait=seconds)


def _host(address: HttpAddress) -> str:
    name = f"[{address.host}]" if ":" in address.host else address.host
    return name if address.port == (443 if address.tls else 80) else f"{name}:{address.port}"
