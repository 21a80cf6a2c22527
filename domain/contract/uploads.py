"""What a client entrusts to its own tower (mode K) and what it gets back (protocol 8.1).

`KRG1` registers a channel with the keys that punish, `KUP1` adds one revealed secret, `RCP1` is the receipt.
None of them holds an amount: a tower of mode K learns no balances.
"""

from __future__ import annotations

import msgspec

from domain.contract.hashes import sha256, tagged_hash
from domain.contract.params import PARAMS_SIZE, ChannelParams, read_spk_field, spk_field
from domain.contract.revocation import FIRST_INDEX, Buckets
from domain.errors import MalformedInput
from domain.units import MAX_SEQUENCE, Side

REGISTER_MAGIC, UPDATE_MAGIC, RECEIPT_MAGIC = b"KRG1", b"KUP1", b"RCP1"
REGISTER_SIZE, BUCKET_SIZE, MAX_BUCKETS = 671, 38, 49
UPDATE_SIZE, RECEIPT_SIZE = 109, 112
REGISTRATION_SEQ = 2**64 - 1
"""Number that the receipt of a registration carries."""


class KeyedRegistration(msgspec.Struct, frozen=True):
    """`KRG1`. `watched` is the side that may cheat; points are its P of states h+1 and h+2.

    `highest_revoked` h is -1 before the first revocation. `rev_secret` and `buckets` are secrets and not
    shown in a repr.
    """

    params: ChannelParams
    watched: Side
    rev_secret: bytes
    sweep_spk: bytes
    highest_revoked: int
    next_points: tuple[bytes, bytes]
    buckets: Buckets

    def __repr__(self) -> str:
        return f"<KeyedRegistration {self.params.channel_id.hex()} watching {self.watched.name}>"

    def encode(self) -> bytes:
        """671 + 38·n bytes; `MalformedInput` if a field does not fit its place."""
        if not -1 <= self.highest_revoked <= MAX_SEQUENCE or len(self.buckets) > MAX_BUCKETS:
            raise MalformedInput("a registration has a highest revoked state from -1 and at most 49 secrets")
        head = REGISTER_MAGIC + self.params.encode() + bytes((self.watched,)) + self.rev_secret
        head += spk_field(self.sweep_spk) + self.highest_revoked.to_bytes(8, "little", signed=True)
        head += self.next_points[0] + self.next_points[1] + bytes((len(self.buckets),))
        if len(head) != REGISTER_SIZE:
            raise MalformedInput("a secret or point of the registration has a wrong length")
        return head + b"".join(index.to_bytes(6, "little") + secret for index, secret in self.buckets)

    @classmethod
    def decode(cls, raw: bytes) -> KeyedRegistration:
        """Read a registration; refuses wrong lengths and values out of range."""
        if len(raw) < REGISTER_SIZE or raw[:4] != REGISTER_MAGIC:
            raise MalformedInput(f"a registration starts with KRG1 and has at least {REGISTER_SIZE} bytes")
        count = raw[REGISTER_SIZE - 1]
        if count > MAX_BUCKETS or len(raw) != REGISTER_SIZE + BUCKET_SIZE * count:
            raise MalformedInput("the length of the registration does not match its number of secrets")
        start = 4 + PARAMS_SIZE
        if raw[start] not in (0, 1):
            raise MalformedInput(f"the watched side is 0 or 1, got {raw[start]}")
        highest = int.from_bytes(raw[596:604], "little", signed=True)
        if not -1 <= highest <= MAX_SEQUENCE:
            raise MalformedInput("the highest revoked state lies between -1 and 2^48-2")
        return cls(
            params=ChannelParams.decode(raw[4:start]),
            watched=Side(raw[start]),
            rev_secret=raw[start + 1 : start + 33],
            sweep_spk=read_spk_field(raw[start + 33 : start + 76]),
            highest_revoked=highest,
            next_points=(raw[604:637], raw[637:670]),
            buckets=_read_buckets(raw[REGISTER_SIZE:]),
        )


class KeyedUpdate(msgspec.Struct, frozen=True):
    """`KUP1`: the secret of a revoked state and the cheater's point two states on; repr hides the secret."""

    channel_id: bytes
    seq: int
    secret: bytes
    point: bytes

    def __repr__(self) -> str:
        return f"<KeyedUpdate {self.channel_id.hex()} state {self.seq}>"

    def encode(self) -> bytes:
        """109 bytes."""
        if not 0 <= self.seq <= MAX_SEQUENCE:
            raise MalformedInput(f"a state number lies between 0 and 2^48-2, got {self.seq}")
        encoded = UPDATE_MAGIC + self.channel_id + self.seq.to_bytes(8, "little") + self.secret + self.point
        if len(encoded) != UPDATE_SIZE:
            raise MalformedInput("a field of the update has a wrong length")
        return encoded

    @classmethod
    def decode(cls, raw: bytes) -> KeyedUpdate:
        """Read exactly 109 bytes."""
        if len(raw) != UPDATE_SIZE or raw[:4] != UPDATE_MAGIC:
            raise MalformedInput(f"an update starts with KUP1 and has {UPDATE_SIZE} bytes, got {len(raw)}")
        seq = int.from_bytes(raw[36:44], "little")
        if seq > MAX_SEQUENCE:
            raise MalformedInput("a state number lies between 0 and 2^48-2")
        return cls(raw[4:36], seq, raw[44:76], raw[76:109])


class ReceiptBody(msgspec.Struct, frozen=True):
    """`RCP1`: what a tower signs for an upload. `subject` is a channel or slot id, 32 bytes."""

    tower_id: bytes
    subject: bytes
    seq: int
    upload_sha256: bytes
    tip_height: int

    def encode(self) -> bytes:
        """112 bytes."""
        try:
            encoded = RECEIPT_MAGIC + self.tower_id + self.subject + self.seq.to_bytes(8, "little")
            encoded += self.upload_sha256 + self.tip_height.to_bytes(4, "little")
        except OverflowError:
            raise MalformedInput("a number of the receipt is negative or too large") from None
        if len(encoded) != RECEIPT_SIZE:
            raise MalformedInput("every name and hash of a receipt has 32 bytes")
        return encoded

    @classmethod
    def decode(cls, raw: bytes) -> ReceiptBody:
        """Read exactly 112 bytes."""
        if len(raw) != RECEIPT_SIZE or raw[:4] != RECEIPT_MAGIC:
            raise MalformedInput(f"a receipt starts with RCP1 and has {RECEIPT_SIZE} bytes, got {len(raw)}")
        seq, height = int.from_bytes(raw[68:76], "little"), int.from_bytes(raw[108:112], "little")
        return cls(raw[4:36], raw[36:68], seq, raw[76:108], height)


def upload_hash(upload: bytes) -> bytes:
    """What the client's `upload_sig` signs, 32 bytes."""
    return tagged_hash("SCT1/upload", upload)


def receipt_hash(body: bytes) -> bytes:
    """What the tower signs for a receipt body, 32 bytes."""
    return tagged_hash("SCT1/receipt", body)


def receipt_for(tower_id: bytes, subject: bytes, seq: int, upload: bytes, tip_height: int) -> ReceiptBody:
    """Receipt body for an upload."""
    return ReceiptBody(tower_id, subject, seq, sha256(upload), tip_height)


def _read_buckets(raw: bytes) -> Buckets:
    starts = range(0, len(raw), BUCKET_SIZE)
    entries = [raw[start : start + BUCKET_SIZE] for start in starts]
    buckets = tuple((int.from_bytes(entry[:6], "little"), entry[6:]) for entry in entries)
    if any(index > FIRST_INDEX for index, _ in buckets) or len({index for index, _ in buckets}) != len(buckets):
        raise MalformedInput("the secrets of a registration must have different 48-bit indexes")
    return buckets
