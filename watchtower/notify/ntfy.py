"""Messages for phones through an ntfy server, the public one or one's own."""

from __future__ import annotations

import ssl

from watchtower.config import Secret
from watchtower.config.targets import HttpAddress
from watchtower.notify.message import Message
from watchtower.notify.posting import post
from watchtower.notify.sending import Transport
from watchtower.notify.words import plain_text

PRIORITIES = {"page": "5", "ticket": "3", "info": "2"}
"""5 breaks through "do not disturb", 3 is the default, 2 makes no sound."""

OVER = "3"
TAGS = {"page": "rotating_light", "ticket": "warning", "info": "information_source"}


class Ntfy:
    """One topic. A server from 2.16 on replaces a message that comes twice; an older one shows it twice."""

    transport: Transport = "ntfy"

    def __init__(self, address: HttpAddress, token: Secret | None, context: ssl.SSLContext | None) -> None:
        self._address, self._token, self._context = address, token, context

    def send(self, message: Message, body: bytes) -> None:
        """Publish; raises `SendFailed`."""
        del body
        over = message.status == "ends"
        headers = {
            "Content-Type": "text/plain; charset=utf-8",
            "User-Agent": "state-channel-watchtower",
            "Title": message.title,
            "Priority": OVER if over else PRIORITIES[message.severity],
            "Tags": "white_check_mark" if over else TAGS[message.severity],
            "X-Sequence-ID": message.id,
        }
        if message.runbook_url:
            headers["Click"] = message.runbook_url
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        post(self._address, self._context, headers, plain_text(message, link=False).encode())
