"""Own commitments that were asked for and are not at the node yet.

Their own signature is in no file: whoever has the complete witness can publish the state, also long after it was
revoked. This memory ends with the process, and the owner may ask again.
"""

from __future__ import annotations

from threading import Lock

CAPACITY = 100_000
"""Channels; more than a tower has, so that all can be closed at once while the node is away, at 500 bytes each. Beyond
that the oldest entry is dropped."""


class Outbox:
    """Signed commitments by stream. Filled by requests, emptied by the pass thread."""

    def __init__(self) -> None:
        self._raws: dict[str, bytes] = {}
        self._mutex = Lock()

    def keep(self, stream: str, raw: bytes) -> None:
        """Remember the newest commitment of a channel."""
        with self._mutex:
            self._raws.pop(stream, None)
            self._raws[stream] = raw
            if len(self._raws) > CAPACITY:
                del self._raws[next(iter(self._raws))]

    def get(self, stream: str) -> bytes | None:
        """What is kept for a channel."""
        with self._mutex:
            return self._raws.get(stream)

    def drop(self, stream: str) -> None:
        """Forget a channel's commitment: the log has its bytes, or it is of no use any more."""
        with self._mutex:
            self._raws.pop(stream, None)

    def streams(self) -> list[str]:
        """All channels with an entry."""
        with self._mutex:
            return list(self._raws)

    def __repr__(self) -> str:
        return f"<Outbox of {len(self._raws)} commitments>"
