"""Channels as lists: a page in a fixed order, the largest of a status, those that a search means, their owners.

Every question is answered from an index, so its cost does not grow with the number of channels; only the count of
owners reads one index from end to end.
"""

from __future__ import annotations

import msgspec

from projections import channel_info, closings, open_breaches, watch_index
from projections.channel_info import ChannelInfoRow
from projections.landmarks import LANDMARKS
from projections.open_breaches import OpenBreachRow
from watchtower.store.views import SqliteRows

_INFO = channel_info.TABLE.name
_WATCH = watch_index.TABLE.name
_CLOSINGS = closings.TABLE.name
_BREACHES = open_breaches.TABLE.name
_WIDTH = 64
"""Hexadecimal digits of an id."""


class Place(msgspec.Struct, frozen=True):
    """Where a page of one status goes on: behind this capacity (satoshi) and row."""

    capacity: int
    row: int


class Owner(msgspec.Struct, frozen=True):
    """A client by its x-only auth key (32 bytes) and the number of its channels, those that are over included."""

    key: bytes
    channels: int


class BlockMark(msgspec.Struct, frozen=True):
    """A block of the followed chain: position of its event in the log, and when (Unix microseconds) it was stored."""

    height: int
    id: int
    recorded_at: int


def channel_page(rows: SqliteRows, after: str, limit: int) -> list[ChannelInfoRow]:
    """Channels behind a stream name, in the order of their names; "" is the beginning."""
    return _read(rows.page(channel_info.TABLE, (after,) if after else None, limit))


def largest_of(rows: SqliteRows, status: str, after: Place | None, limit: int) -> list[tuple[Place, ChannelInfoRow]]:
    """Channels of a status (upper case), largest capacity first, each with its place."""
    bound = "" if after is None else "AND (capacity, rowid) < (?, ?)"
    query = f"SELECT rowid, * FROM {_INFO} WHERE status = ? {bound} ORDER BY capacity DESC, rowid DESC LIMIT ?"  # noqa: S608
    values = (status, limit) if after is None else (status, after.capacity, after.row, limit)
    found = ((row[0], ChannelInfoRow(*row[1:])) for row in rows.select(query, values))  # type: ignore[arg-type]
    return [(Place(info.capacity, int(number or 0)), info) for number, info in found]


def channels_of(rows: SqliteRows, streams: list[str]) -> dict[str, ChannelInfoRow]:
    """The channels with these stream names that the view has."""
    marks = ", ".join("?" * len(streams))
    found = _read(rows.select(f"SELECT * FROM {_INFO} WHERE stream IN ({marks})", streams))  # noqa: S608
    return {info.stream: info for info in found}


def by_digits(rows: SqliteRows, digits: str, limit: int) -> list[ChannelInfoRow]:
    """Channels whose id, or whose owner's key, begins with lower-case hexadecimal digits."""
    low, high = bytes.fromhex(digits.ljust(_WIDTH, "0")), bytes.fromhex(digits.ljust(_WIDTH, "f"))
    found: dict[str, ChannelInfoRow] = {}
    for column in ("channel_id", "owner_key"):
        query = f"SELECT * FROM {_INFO} WHERE {column} BETWEEN ? AND ? ORDER BY {column} LIMIT ?"  # noqa: S608
        found.update((info.stream, info) for info in _read(rows.select(query, (low, high, limit))))
    return list(found.values())[:limit]


def by_transaction(rows: SqliteRows, txid: bytes, limit: int) -> list[ChannelInfoRow]:
    """Channels whose watched output, or whose contested commitment, belongs to a transaction (internal order)."""
    outputs = f"SELECT stream FROM {_WATCH} WHERE outpoint BETWEEN ? AND ? LIMIT ?"  # noqa: S608
    streams = rows.select(outputs, (txid, txid + b"\xff" * 4, limit))
    # Both tables hold what is contested now: few rows.
    for table in (_CLOSINGS, _BREACHES):
        streams += rows.select(f"SELECT stream FROM {table} WHERE commit_txid = ? LIMIT ?", (txid, limit))  # noqa: S608
    return list(channels_of(rows, sorted({str(row[0]) for row in streams})).values())[:limit]


def breach_of(rows: SqliteRows, stream: str, txid: bytes) -> OpenBreachRow | None:
    """The open breach of a channel by the txid (internal order) of the commitment."""
    found = rows.select(f"SELECT * FROM {_BREACHES} WHERE stream = ? AND commit_txid = ?", (stream, txid))  # noqa: S608
    return OpenBreachRow(*found[0]) if found else None  # type: ignore[arg-type]


def owners(rows: SqliteRows, limit: int) -> tuple[int, list[Owner]]:
    """How many clients have channels, and those with the most."""
    # Two walks along one index are twice as fast as one that has to keep all groups to count them.
    counted = f"SELECT owner_key, count(*) FROM {_INFO} GROUP BY owner_key ORDER BY 2 DESC LIMIT ?"  # noqa: S608
    number = rows.select(f"SELECT count(DISTINCT owner_key) FROM {_INFO}", ())  # noqa: S608
    return int(number[0][0] or 0), [Owner(*row) for row in rows.select(counted, (limit,))]  # type: ignore[arg-type]


def last_blocks(rows: SqliteRows, count: int) -> list[BlockMark]:
    """The newest blocks of the followed chain, oldest first."""
    query = f"SELECT height, id, recorded_at FROM {LANDMARKS.name} WHERE connected = 1 ORDER BY height DESC LIMIT ?"  # noqa: S608
    return [BlockMark(*row) for row in rows.select(query, (count,))][::-1]  # type: ignore[arg-type]


def _read(rows: list[tuple[int | str | bytes | None, ...]]) -> list[ChannelInfoRow]:
    return [ChannelInfoRow(*row) for row in rows]  # type: ignore[arg-type]
