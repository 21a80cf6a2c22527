"""What stands in the records of an export: entries as the commit chain hashes them, states, rows of the chain.

Integers are unsigned big-endian, as in the hash inputs of `domain/log_chain.py`.
"""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import NamedTuple

from domain.log_chain import HASH_SIZE, entry
from watchtower.store.exports.records import ExportMalformed
from watchtower.store.source import Commit

_PREFIX = entry("", 0, "", b"")[:9]
_FIXED = len(_PREFIX)
_PLACE, _SIZE = struct.Struct(">QH"), struct.Struct(">I")
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
    try:
        name_end = _FIXED + 1 + raw[_FIXED]
        version, length = _PLACE.unpack_from(raw, name_end)
        kind_end = name_end + _PLACE.size + length
        (size,) = _SIZE.unpack_from(raw, kind_end)
        if len(raw) != kind_end + _SIZE.size + HASH_SIZE or not raw.startswith(_PREFIX):
            raise ExportMalformed(f"{len(raw)} bytes are no entry of an event log")
        stream, topic = raw[_FIXED + 1 : name_end].decode(), raw[name_end + _PLACE.size : kind_end].decode()
    except (IndexError, struct.error):
        raise ExportMalformed(f"{len(raw)} bytes are no entry of an event log") from None
    except UnicodeDecodeError:
        raise ExportMalformed("stream or topic of an entry is no text") from None
    return EntryFields(stream, version, topic, size, raw[kind_end + _SIZE.size :])


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
