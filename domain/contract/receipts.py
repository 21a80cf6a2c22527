"""`RCP2`: the receipt of a tower that says where in its log an upload stands (docs/receipts.md).

It extends `RCP1` (`uploads.py`) by the log, the epoch, the position of the event, its leaf hash and the head of the
chain after the commit that holds it. One signature covers all of it. `RCP1` stays readable and verifiable.
"""

from __future__ import annotations

import hmac
from functools import partial

import msgspec

from domain.contract.hashes import sha256
from domain.contract.keys import SchnorrSigner, sign_schnorr, verify_schnorr
from domain.contract.uploads import RECEIPT_MAGIC, REGISTRATION_SEQ, ReceiptBody, receipt_hash
from domain.errors import InvalidSignature, MalformedInput

LOG_RECEIPT_MAGIC, LOG_RECEIPT_SIZE = b"RCP2", 204
SIGNATURE_SIZE = 64
SIGNED_RECEIPT_SIZE = LOG_RECEIPT_SIZE + SIGNATURE_SIZE
STATE_UPLOAD_MAGIC = b"OUP1"
MAX_POSITION = 2**63 - 1
"""Ids of both databases are signed numbers of 64 bits."""


class LogReceipt(msgspec.Struct, frozen=True):
    """The body of `RCP2`. `subject` is the channel id, `seq` a state number or `REGISTRATION_SEQ`.

    `position` (from 1) counts the events up to and including the one that holds the upload, `leaf` is that event's
    leaf hash and `head` the head of the chain after its commit. `epoch` grows with every restored backup.
    """

    tower_id: bytes
    subject: bytes
    seq: int
    upload_sha256: bytes
    tip_height: int
    log_id: bytes
    epoch: int
    position: int
    leaf: bytes
    head: bytes

    def encode(self) -> bytes:
        """204 bytes; `MalformedInput` if a field does not fit its place."""
        if not 1 <= self.position <= MAX_POSITION:
            raise MalformedInput(f"the position of a receipt lies between 1 and 2^63-1, got {self.position}")
        try:
            encoded = LOG_RECEIPT_MAGIC + self.tower_id + self.subject + self.seq.to_bytes(8, "little")
            encoded += self.upload_sha256 + self.tip_height.to_bytes(4, "little") + self.log_id
            encoded += self.epoch.to_bytes(4, "little") + self.position.to_bytes(8, "little") + self.leaf + self.head
        except OverflowError:
            raise MalformedInput("a number of the receipt is negative or too large") from None
        hashes = (self.tower_id, self.subject, self.upload_sha256, self.leaf, self.head)
        if len(self.log_id) != 16 or any(len(each) != 32 for each in hashes):
            raise MalformedInput("every name and hash of a receipt has 32 bytes, its log_id 16")
        return encoded

    @classmethod
    def decode(cls, raw: bytes) -> LogReceipt:
        """Read exactly 204 bytes; `MalformedInput` for anything else."""
        if len(raw) != LOG_RECEIPT_SIZE or raw[:4] != LOG_RECEIPT_MAGIC:
            raise MalformedInput(f"a receipt starts with RCP2 and has {LOG_RECEIPT_SIZE} bytes, got {len(raw)}")
        position = _u(raw, 132, 8)
        if not 1 <= position <= MAX_POSITION:
            raise MalformedInput("the position of a receipt lies between 1 and 2^63-1")
        return cls(
            tower_id=raw[4:36],
            subject=raw[36:68],
            seq=_u(raw, 68, 8),
            upload_sha256=raw[76:108],
            tip_height=_u(raw, 108, 4),
            log_id=raw[112:128],
            epoch=_u(raw, 128, 4),
            position=position,
            leaf=raw[140:172],
            head=raw[172:204],
        )

    @property
    def is_registration(self) -> bool:
        """Whether it stands for the registration of the channel, not for a state."""
        return self.seq == REGISTRATION_SEQ

    @property
    def what(self) -> str:
        """What was taken, for people: "the registration" or "state 7"."""
        return "the registration" if self.is_registration else f"state {self.seq}"


class SignedReceipt(msgspec.Struct, frozen=True):
    """A receipt as it travels and is kept: the body (`RCP2` 204 bytes, or `RCP1` 112) and 64 bytes of signature."""

    body: bytes
    signature: bytes

    def read(self) -> LogReceipt:
        """The fields of an `RCP2` body; `MalformedInput` for another body."""
        return LogReceipt.decode(self.body)

    def verified(self, tower_id: bytes | None = None) -> LogReceipt:
        """The fields, once the signature fits.

        Raises `MalformedInput` for a body that cannot be read and `InvalidSignature` for a signature that is not that
        of the tower it names, or of another tower than `tower_id` (32 bytes).
        """
        receipt = self.read()
        require_receipt_signature(self.body, self.signature, receipt.tower_id)
        if tower_id is not None and receipt.tower_id != tower_id:
            raise InvalidSignature(f"the receipt is signed by tower {receipt.tower_id.hex()}, not by {tower_id.hex()}")
        return receipt

    def encode(self) -> bytes:
        """Body and signature in one piece: 268 bytes."""
        return self.body + self.signature

    @classmethod
    def decode(cls, raw: bytes) -> SignedReceipt:
        """Read 268 bytes (`RCP2`) or 176 (`RCP1`); the signature is not checked."""
        body, signature = raw[:-SIGNATURE_SIZE], raw[-SIGNATURE_SIZE:]
        read_receipt(body)
        return cls(body, signature)


def read_receipt(body: bytes) -> LogReceipt | ReceiptBody:
    """Either form of a receipt body by its first four bytes; `MalformedInput` if it is none."""
    if body[:4] == RECEIPT_MAGIC:
        return ReceiptBody.decode(body)
    return LogReceipt.decode(body)


def sign_receipt(secret: bytes, body: bytes, signer: SchnorrSigner | None = None) -> bytes:
    """The tower's signature (64 bytes) of a receipt body; the same body always gets the same bytes.

    Instead of fresh randomness the nonce is hardened with HMAC-SHA256(secret, body): a repeated upload, also after a
    crash, is answered with an identical receipt. A `signer` of the same secret spares the making of one.
    """
    sign = partial(sign_schnorr, secret) if signer is None else signer.sign
    return sign(receipt_hash(body), hmac.digest(secret, body, "sha256"))


def require_receipt_signature(body: bytes, signature: bytes, tower_id: bytes) -> None:
    """Raise `InvalidSignature` unless the tower (x-only key, 32 bytes) signed exactly this body, of either form."""
    if not verify_schnorr(tower_id, receipt_hash(body), signature):
        raise InvalidSignature("the signature of the receipt does not fit its body and the tower it names")


def state_upload(
    header: bytes,
    sigs_a: bytes,
    sigs_b: bytes,
    own_point: bytes,
    revoked_secret: bytes | None,
    next_point: bytes | None,
) -> bytes:
    """`OUP1`, the byte form of a complete state given to the owner's tower: 870 bytes, 935 with a revocation.

    `header` has 320 bytes and binds conditions and state data, `sigs_a` and `sigs_b` have 256 each. Only its hash
    travels: both sides build it from what they have.
    """
    if (revoked_secret is None) != (next_point is None):
        raise MalformedInput("a revoked secret and the next point belong together: give both or none")
    if (len(header), len(sigs_a), len(sigs_b), len(own_point)) != (320, 256, 256, 33):
        raise MalformedInput(
            "a state is uploaded with a header of 320 bytes, twice 256 of signatures and a point of 33"
        )
    upload = STATE_UPLOAD_MAGIC + header + sigs_a + sigs_b + own_point
    if revoked_secret is None or next_point is None:
        return upload + b"\x00"
    if (len(revoked_secret), len(next_point)) != (32, 33):
        raise MalformedInput("a revocation is a secret of 32 bytes and a point of 33")
    return upload + b"\x01" + revoked_secret + next_point


def state_upload_sha256(
    header: bytes,
    sigs_a: bytes,
    sigs_b: bytes,
    own_point: bytes,
    revoked_secret: bytes | None = None,
    next_point: bytes | None = None,
) -> bytes:
    """What the receipt of a state names as its upload, 32 bytes."""
    return sha256(state_upload(header, sigs_a, sigs_b, own_point, revoked_secret, next_point))


def _u(raw: bytes, start: int, size: int) -> int:
    return int.from_bytes(raw[start : start + size], "little")
