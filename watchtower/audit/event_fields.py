"""The fields of an event by name, for people and programs: what the positions in the stored array mean."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

import msgspec

from domain.chain import BlockRef, display, display_outpoint
from domain.events import Payload, PreimageLearned

_OUTPOINTS = frozenset({"outpoint", "contest"})
_HASHES = frozenset({"by", "chain_hash", "conflict", "prev", "replaces"})
"""Transactions and blocks whose names do not end with txid."""


class Fields(msgspec.Struct, frozen=True, kw_only=True):
    """Values in the order in which they are stored: bytes as hexadecimal, words for kinds, inner values in lists.

    `display_order` names those whose bytes are shown reversed, as Bitcoin nodes show transactions and blocks, and the
    outpoints `txid:number`. `withheld` names those that are not shown.
    """

    values: dict[str, Any]
    display_order: tuple[str, ...]
    withheld: tuple[str, ...]


def fields_of(payload: Payload) -> Fields:
    """All fields; a preimage that this event does not make public is withheld, as in every read model."""
    withheld = ("preimage",) if isinstance(payload, PreimageLearned) and payload.txid is None else ()
    values = {
        name: None if name in withheld else _shown(name, value)
        for name, value in msgspec.structs.asdict(payload).items()
    }
    return Fields(values=values, display_order=tuple(_reversed(payload)), withheld=withheld)


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, BlockRef):
        return {"height": value.height, "hash": display(value.hash)}
    if isinstance(value, msgspec.Struct):
        return {inner: _shown(inner, each) for inner, each in msgspec.structs.asdict(value).items()}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, tuple | list):
        return [_shown("", each) for each in value]
    if not isinstance(value, bytes):
        return value
    if name in _OUTPOINTS:
        return display_outpoint(value)
    return display(value) if _is_hash(name) else value.hex()


def _reversed(payload: Payload) -> Iterator[str]:
    for name, value in msgspec.structs.asdict(payload).items():
        if isinstance(value, BlockRef):
            yield f"{name}.hash"
        elif isinstance(value, bytes) and (name in _OUTPOINTS or _is_hash(name)):
            yield name


def _is_hash(name: str) -> bool:
    return name in _HASHES or name.endswith("txid")
