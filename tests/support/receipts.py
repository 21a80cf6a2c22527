"""Receipts as a tower would give them, for tests that need no tower."""

from __future__ import annotations

from hashlib import sha256

from domain.contract.receipts import LogReceipt, SignedReceipt
from domain.contract.uploads import REGISTRATION_SEQ
from watchtower.client.party.party import ChannelParty
from watchtower.receipts.tower_key import TowerKey

KEY = TowerKey(sha256(b"a tower of the tests").digest())
TOWER = KEY.tower_id
UPLOAD = bytes(32)


def receipt_of(subject: bytes, sequence: int, *, key: TowerKey = KEY, **fields: object) -> SignedReceipt:
    """A good receipt of a state (`REGISTRATION_SEQ`: the registration); each state stands ten events on."""
    place = 1 if sequence == REGISTRATION_SEQ else 10 * sequence + 10
    values: dict[str, object] = {
        "tower_id": key.tower_id,
        "subject": subject,
        "seq": sequence,
        "upload_sha256": UPLOAD,
        "tip_height": 100,
        "log_id": bytes(16),
        "epoch": 0,
        "position": place,
        "leaf": sha256(b"leaf" + place.to_bytes(8, "big")).digest(),
        "head": sha256(b"head" + place.to_bytes(8, "big")).digest(),
    }
    return key.receipt(LogReceipt(**(values | fields)).encode())  # type: ignore[arg-type]


def acknowledge(party: ChannelParty, channel_id: bytes, sequence: int) -> None:
    """The party's tower has this state, as it would say; for -1 it has nothing."""
    if sequence >= 0:
        party.acknowledge(channel_id, receipt_of(channel_id, sequence or REGISTRATION_SEQ), UPLOAD)
