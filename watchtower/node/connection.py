"""HTTP connections to the node: bounded in size and time, with credentials that nobody else sees."""

from __future__ import annotations

import http.client
import time
from typing import Any

REPLY_LIMIT = 64 * 1024 * 1024
"""The largest useful reply, `getblock` 0 of a full block, has 8 MB; the rest is room for batches."""

_CHUNK = 1 << 18


class ReplyTooLarge(Exception):
    """The reply is larger than `REPLY_LIMIT`."""


class _BoundedResponse(http.client.HTTPResponse):
    """Reads at most `REPLY_LIMIT` bytes, and not longer than until `deadline` (monotonic seconds)."""

    deadline = float("inf")

    def read(self, amt: int | None = None) -> bytes:
        if amt is not None:
            return super().read(amt)
        announced = self.length
        if announced is not None and announced > REPLY_LIMIT:
            raise ReplyTooLarge
        chunks: list[bytes] = []
        size = 0
        while chunk := self.read1(_CHUNK):  # `read` would wait for a full chunk, however slowly the bytes come
            chunks.append(chunk)
            size += len(chunk)
            if size > REPLY_LIMIT:
                raise ReplyTooLarge
            if time.monotonic() > self.deadline:
                raise TimeoutError("the reply did not end in time")
        if announced is not None and size != announced:
            raise http.client.IncompleteRead(b"", announced - size)
        self.close()
        return b"".join(chunks)


class NodeConnection(http.client.HTTPConnection):
    """A connection of one thread. It replaces any `Authorization` field by its own and remembers the status."""

    response_class = _BoundedResponse
    authorization: str | None = None
    status = 0
    last_used = 0.0
    deadline = float("inf")
    _latest: http.client.HTTPResponse | None = None

    def __del__(self) -> None:
        """A thread that ends takes its connection along."""
        self.close()

    def close(self) -> None:
        """As in the base class; a response that nobody read to its end goes too, else it would keep the socket open."""
        super().close()
        if self._latest is not None:
            self._latest.close()
            self._latest = None

    def allow(self, seconds: float, silence: float | None = None) -> None:
        """Give the next exchange this much time in total, and for each wait on the socket `silence` if that is less."""
        self.timeout = seconds if silence is None else min(seconds, silence)
        self.deadline = time.monotonic() + seconds
        if self.sock is not None:
            self.sock.settimeout(self.timeout)

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> None:
        """As in the base class, with our credentials and status 0 until an answer comes."""
        fields = dict(headers or {})
        if self.authorization is not None:
            fields["Authorization"] = self.authorization
        self.status = 0
        super().request(method, url, body, fields, **options)

    def getresponse(self) -> http.client.HTTPResponse:
        """As in the base class; the response ends at the deadline."""
        if self.sock is not None:
            self.sock.settimeout(self.timeout)  # python-bitcoinrpc sets its own in between
        response = super().getresponse()
        self.status = response.status
        self._latest = response
        if isinstance(response, _BoundedResponse):
            response.deadline = self.deadline
        return response
