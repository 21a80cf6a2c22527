"""Folds of channels with long streams, kept beside the views: a channel that is not in memory answers at once.

A snapshot is a cache of the log, made from the log alone: it holds what the fold of a stream's first events gives, with
no secret that is not in those events. It is thrown away with the views, and passed over if the shape of a channel or
the rules of its fold have changed since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache

import msgspec

from domain.channel import Channel
from domain.channel_fold import FOLD_VERSION
from watchtower.store.views import SqliteRows

_SELECT = "SELECT channel FROM channel_snapshots WHERE stream = ? AND shape = ?"
_VERSION = "SELECT version FROM channel_snapshots WHERE stream = ? AND shape = ?"
_REPLACE = "INSERT OR REPLACE INTO channel_snapshots (stream, version, shape, channel) VALUES (?, ?, ?, ?)"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Channel).decode


@cache
def shape() -> bytes:
    """Fingerprint of what a snapshot means: the fields of a channel with all that they hold, and how it is folded."""
    fields = repr(msgspec.inspect.type_info(Channel))
    return hashlib.sha256(f"fold {FOLD_VERSION} {fields}".encode()).digest()


class ChannelSnapshots:
    """Snapshots in a views file. Reading is possible from any thread, `keep` belongs to whoever writes the views."""

    def __init__(self, rows: SqliteRows) -> None:
        self._rows = rows

    def load(self, stream: str) -> Channel | None:
        """The snapshot of a channel, or None. Raises `StoreError`."""
        found = self._rows.select(_SELECT, (stream, shape()))
        if not found:
            return None
        encoded = found[0][0]
        assert isinstance(encoded, bytes)
        return _decode(encoded)

    def version(self, stream: str) -> int:
        """How many events the snapshot of a channel stands for, 0 if there is none. Raises `StoreError`."""
        found = self._rows.select(_VERSION, (stream, shape()))
        return int(found[0][0] or 0) if found else 0

    def keep(self, channels: Iterable[Channel]) -> None:
        """Replace the snapshots of these channels. Raises `StoreError`."""
        made = [(each.stream, each.version, shape(), _encode(each)) for each in channels]
        if made:
            self._rows.replace(_REPLACE, made)
