"""Who has logged in: a random name in a cookie, and the hash of the token that opened it.

The cookie does not hold the token: a browser sends cookies to every port of a host, and other programs stand there. The
token is looked at again with every request, so one that was revoked ends at once; so does everything with the process.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

import msgspec

LIFETIME = 12 * 3_600.0
"""Seconds after which a visitor logs in again."""

CAPACITY = 256
"""Sessions at once; the oldest one gives way. Only who has a token can open one."""

LONGEST_NAME = 64


class _Session(msgspec.Struct, frozen=True):
    token_sha256: bytes
    until: float


class Sessions:
    """Not for several threads."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._known: OrderedDict[bytes, _Session] = OrderedDict()

    @staticmethod
    def digest(text: str) -> bytes:
        """SHA-256 of a token or name, whatever was typed."""
        return sha256(text.encode("utf-8", "surrogatepass")).digest()

    def open(self, token_sha256: bytes) -> str:
        """The name of a new session for a token (its hash) that was found good."""
        name = secrets.token_urlsafe(32)
        until = self._monotonic() + LIFETIME
        self._known[self.digest(name)] = _Session(token_sha256, until)
        if len(self._known) > CAPACITY:
            self._known.popitem(last=False)
        return name

    def token_sha256(self, name: str) -> bytes | None:
        """Hash of the token of a session; None if there is none or its time is over."""
        # By its hash, so that the time of the look-up tells nothing about names.
        session = self._known.get(self.digest(name)) if len(name) <= LONGEST_NAME else None
        if session is None or session.until < self._monotonic():
            return None
        return session.token_sha256

    def close(self, name: str) -> None:
        """End a session; one that does not exist is nothing."""
        self._known.pop(self.digest(name[:LONGEST_NAME]), None)
