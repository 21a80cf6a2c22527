"""What stands in the records of an export: entries as the commit chain hashes them, states, rows of the chain.

Integers are unsigned big-endian, as in the hash inputs of `domain/log_chain.py`.
"""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from domain.log_chain import HASH_SIZE, entry
from watchtower.store.exports.records import ExportMalformed
from watchtower.store.source import Commit

_PREFIX = entry("", 0, "", b"")[:9]
_COMMIT_FIXED = 8 + 8 + 8 + HASH_SIZE


class EntryFields(NamedTuple):
    """What an entry names: stream, version, topic, bytes and SHA-256 of the state."""

    stream: str
    version: int
    topic: str
    size: int
    state_hash: bytes


def read_entry(raw: bytes) -> EntryFields:
    """The fields of an entry's bytes; raises `ExportMalformed` for bytes that no event has as its entry."""
    fixed = len(_PREFIX)
    name_end = fixed + 1 + (raw[fixed] if len(raw) > fixed else 0)
    kind_end = name_end + 10 + int.from_bytes(raw[name_end + 8 : name_end + 10], "big")
    if raw[:fixed] != _PREFIX or len(raw) != kind_end + 4 + HASH_SIZE:
        raise ExportMalformed(f"{len(raw)} bytes are no entry of an event log")
    try:
        stream, topic = raw[fixed + 1 : name_end].decode(), raw[name_end + 10 : kind_end].decode()
    except UnicodeDecodeError:
        raise ExportMalformed("stream or topic of an entry is no text") from None
    version, size = raw[name_end : name_end + 8], raw[kind_end : kind_end + 4]
    return EntryFields(stream, int.from_bytes(version, "big"), topic, int.from_bytes(size, "big"), raw[kind_end + 4 :])


def entry_leaf(raw: bytes) -> bytes:
    """Leaf hash of the event that an entry names, 32 bytes."""
    return sha256(b"\x00" + raw).digest()


def write_commit(commit: Commit) -> bytes:
    """`u64 commit_no | u64 first_leaf | u64 last_id | head 32 | leaves`; the leaves say how many events there are."""
    numbers = (commit.commit_no, commit.first_leaf, commit.last_id)
    return b"".join(number.to_bytes(8, "big") for number in numbers) + commit.head + commit.leaves


def read_commit(raw: bytes) -> Commit:
    """The row of the chain; raises `ExportMalformed` if the bytes are none."""
    count, rest = divmod(len(raw) - _COMMIT_FIXED, HASH_SIZE)
    if rest or count < 0:
        raise ExportMalformed(f"{len(raw)} bytes are no row of a commit chain")
    number, first_leaf, last_id = (int.from_bytes(raw[at : at + 8], "big") for at in (0, 8, 16))
    return Commit(number, first_leaf, count, last_id, raw[24:_COMMIT_FIXED], raw[_COMMIT_FIXED:])
