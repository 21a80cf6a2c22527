"""Who may connect, as libzmq asks it (ZAP, RFC 27): once per connection, after the peer has proved its key."""

from __future__ import annotations

import logging

import zmq
import zmq.asyncio

from watchtower.client.transport.admission import Admission

ENDPOINT = "inproc://zeromq.zap.01"
DOMAIN = "party"
VERSION = b"1.0"

_log = logging.getLogger(__name__)


class Gate:
    """Answers libzmq's questions for one context. Without a running gate nobody gets in."""

    def __init__(self, context: zmq.asyncio.Context, admission: Admission) -> None:
        self._socket = context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(ENDPOINT)
        self._admission = admission

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            frames = await self._socket.recv_multipart()
            await self._socket.send_multipart(self._answer(frames))

    def close(self) -> None:
        """Let nobody in any more."""
        self._socket.close()

    def _answer(self, frames: list[bytes]) -> list[bytes]:
        """Version, request, status, text, the proved identity in hexadecimal, no metadata."""
        request = frames[1] if len(frames) > 1 else b""
        if len(frames) != 7 or frames[0] != VERSION or frames[5] != b"CURVE" or len(frames[6]) != 32:
            return [VERSION, request, b"500", b"not understood", b"", b""]
        if not self._admits(frames[6]):
            _log.warning("peer_refused peer=%s address=%s", frames[6].hex()[:16], frames[3].decode("ascii", "replace"))
            return [VERSION, request, b"400", b"not allowed", b"", b""]
        return [VERSION, request, b"200", b"OK", frames[6].hex().encode(), b""]

    def _admits(self, identity: bytes) -> bool:
        """The callback's word; one that fails lets nobody in."""
        try:
            return self._admission(identity) is True
        except Exception:  # noqa: BLE001 - the application's own code
            _log.exception("admission_failed peer=%s", identity.hex()[:16])
            return False
