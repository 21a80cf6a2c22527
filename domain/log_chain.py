"""Hashes that make the event log tamper-evident: entry, leaf and the chain of commit heads.

Integers in these hash inputs are unsigned big-endian. The leaf of an event is its RFC 6962 leaf hash and its id:
the same history has the same ids. The functions are pure; `watchtower/store` keeps the rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from domain.contract.hashes import tagged_hash

_MAGIC = b"wtlog/v1"
_TEXT_ID = b"\x01"  # 0 would mean a 16-byte uuid as stream id, which this log does not use

_LEAF = b"\x00"

_BEGINNINGS = tuple(_LEAF + _MAGIC + _TEXT_ID + bytes([length]) for length in range(256))
"""What is hashed for a leaf, up to the stream, by the stream's length."""

HASH_SIZE = 32


def entry(stream: str, version: int, topic: str, state: bytes) -> bytes:
    """Bytes that name one event; `state` is the stored column and enters as its SHA-256."""
    name = stream.encode()
    begin = _MAGIC + _TEXT_ID + len(name).to_bytes(1, "big") + name
    return begin + _middle(version, topic, len(state)) + sha256(state).digest()


def leaf(stream: str, version: int, topic: str, state: bytes) -> bytes:
    """Leaf hash of one event, 32 bytes."""
    return sha256(_LEAF + entry(stream, version, topic, state)).digest()


def leaves(events: Iterable[tuple[int, str, int, str, bytes]]) -> bytes:
    """Leaf hashes of events (id, stream, version, topic, state), one behind the other: for millions of them.

    Values of other types raise `AttributeError` or `TypeError`, values out of range `OverflowError` or `IndexError`.
    """
    found: list[bytes] = []
    add, middles = found.append, dict[tuple[int, str, int], bytes]()
    for _, stream, version, topic, state in events:
        name, place = stream.encode(), (version, topic, len(state))
        middle = middles.get(place)
        if middle is None:
            middle = middles[place] = _middle(*place)
        add(sha256(_BEGINNINGS[len(name)] + name + middle + sha256(state).digest()).digest())
    return b"".join(found)


def _middle(version: int, topic: str, size: int) -> bytes:
    """What an entry holds between the stream and the hash of a state of `size` bytes."""
    kind = topic.encode()
    return version.to_bytes(8, "big") + len(kind).to_bytes(2, "big") + kind + size.to_bytes(4, "big")


def first_head(origin: str, log_id: bytes, first_leaf: int, first_id: int, prev_head: bytes) -> bytes:
    """Head before the first commit of a log (segment): binds its name, 32 bytes."""
    name = origin.encode()
    place = first_leaf.to_bytes(8, "big") + first_id.to_bytes(8, "big")
    return sha256(b"\x03" + _MAGIC + len(name).to_bytes(1, "big") + name + log_id + place + prev_head).digest()


def next_head(head: bytes, first_leaf: int, first_id: int, leaves: bytes) -> bytes:
    """Head after a commit; `leaves` are the concatenated leaf hashes of its events in order."""
    count = len(leaves) // HASH_SIZE
    place = first_leaf.to_bytes(8, "big") + first_id.to_bytes(8, "big") + count.to_bytes(4, "big")
    return sha256(b"\x02" + head + place + leaves).digest()


def sealed_head_hash(log_id: bytes, position: int, head: bytes) -> bytes:
    """What the tower signs to vouch for the first `position` events of a log, 32 bytes."""
    return tagged_hash("SCT1/log-head", log_id + position.to_bytes(8, "big") + head)
