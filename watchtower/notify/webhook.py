"""Signed JSON by HTTP POST. Receivers check the signature and drop ids that they have seen (docs/notifications.md)."""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Callable

from watchtower.config import Secret
from watchtower.config.targets import HttpAddress
from watchtower.notify.message import Message
from watchtower.notify.posting import post
from watchtower.notify.sending import Transport

VERSION = "v1"


def signature(secret: bytes, timestamp: int, body: bytes) -> str:
    """Value of the header: `v1=` and HMAC-SHA256 over the timestamp in decimal digits, a dot, and the body."""
    return f"{VERSION}={hmac.digest(secret, b'%d.' % timestamp + body, 'sha256').hex()}"


class Webhook:
    """One address. The timestamp is that of the attempt, so that a receiver can refuse old ones."""

    transport: Transport = "webhook"

    def __init__(
        self, address: HttpAddress, secret: Secret, context: ssl.SSLContext | None, now: Callable[[], float]
    ) -> None:
        self._address, self._secret, self._context, self._now = address, secret, context, now

    def send(self, message: Message, body: bytes) -> None:
        """Post; raises `SendFailed`."""
        timestamp = int(self._now())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "state-channel-watchtower",
            "Watchtower-Id": message.id,
            "Watchtower-Timestamp": str(timestamp),
            "Watchtower-Signature": signature(self._secret.reveal().encode(), timestamp, body),
        }
        post(self._address, self._context, headers, body)
