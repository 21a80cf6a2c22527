"""The sockets of the listeners."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import ClassVar

from watchtower.config import Settings, parse_listen
from watchtower.ports import WatchtowerError


class ListenFailed(WatchtowerError):
    """An address cannot be listened on: in use, not ours, or a privileged port."""

    slug: ClassVar[str] = "listen-failed"


def listen(settings: Settings, stack: ExitStack) -> dict[str, socket.socket]:
    """Sockets of the listeners, `api` and `admin`, closed with the stack; raises `ListenFailed`."""
    sockets = {}
    for name, text in (("api", settings.api.listen), ("admin", settings.admin.listen)):
        host, port = parse_listen(text)
        sockets[name] = sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        stack.callback(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            raise ListenFailed(f"{name}.listen = {text}: {error.strerror}; choose another address or port") from None
    return sockets
