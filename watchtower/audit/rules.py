"""The rules of the domain that an audit applies."""

from __future__ import annotations

from collections.abc import Iterable

from domain.contract.keys import is_xonly
from domain.errors import MalformedInput
from watchtower.audit.domain_rules import DomainRules
from watchtower.audit.receipts import Kept
from watchtower.audit.rules_chain import CursorWalk
from watchtower.audit.rules_channel import ChannelRules
from watchtower.audit.rules_log import LogRules


def tower_key_of(named: str | None, receipts: Iterable[Kept] = (), signer: str | None = None) -> bytes | None:
    """The key that seals are verified with: the one that was named, else the one that signed an export or all receipts.

    Raises `MalformedInput` unless 64 hexadecimal digits name a point of the curve.
    """
    if named is not None:
        key = _read_key(named)
        if key is None:
            raise MalformedInput("a tower key has 64 hexadecimal digits: the tower_id that receipts show")
        return key
    if signer is not None:
        return _read_key(signer)  # a signature that fits no key is found where the manifest is checked
    towers = {kept.signed.body[4:36] for kept in receipts}
    return towers.pop() if len(towers) == 1 else None


def _read_key(text: str) -> bytes | None:
    digits = len(text) == 64 and set(text.lower()) <= set("0123456789abcdef")
    return bytes.fromhex(text) if digits and is_xonly(bytes.fromhex(text)) else None


def rules_for(*, signatures: bool, tower_key: bytes | None = None) -> tuple[DomainRules, ...]:
    """All rules. What costs operations on the curve, which take most of the time, only if `signatures` are asked for.

    `tower_key` (x-only, 32 bytes) verifies sealed heads.
    """
    return CursorWalk(), ChannelRules(signatures=signatures), LogRules(tower_key if signatures else None)
