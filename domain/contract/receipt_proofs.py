"""Proof of misbehavior: what a receipt promises beside what the tower's log shows (docs/receipts.md).

A receipt says that an event with a certain leaf stands at a position of a certain log, under a certain head. `Shown`
is what a log, an export, or the tower's own signed answer (`RCA1`) says about that position. Both cannot be true if
they differ within one epoch.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from domain.contract.hashes import sha256, tagged_hash
from domain.contract.keys import verify_schnorr
from domain.contract.receipts import MAX_POSITION, LogReceipt, SignedReceipt
from domain.errors import InvalidSignature, MalformedInput

ANSWER_MAGIC, ANSWER_SIZE = b"RCA1", 164
NOTHING = bytes(32)
"""Leaf and head of an answer that says: there is no event at this position."""


class ReceiptVerdict(StrEnum):
    """What receipt and evidence say together."""

    CONSISTENT = "consistent"
    MISBEHAVIOR = "misbehavior"
    CANNOT_TELL = "cannot_tell"


class ReceiptReason(StrEnum):
    """Why; the names are stable and part of the public interface."""

    STORED = "stored"
    OTHER_EVENT = "other_event"
    OTHER_HISTORY = "other_history"
    OTHER_UPLOAD = "other_upload"
    MISSING = "missing"
    EPOCH_WENT_BACK = "epoch_went_back"
    ANOTHER_LOG = "another_log"
    RESTORED = "restored"
    NOT_COVERED = "not_covered"


class Shown(msgspec.Struct, frozen=True):
    """What evidence says about one position of a log.

    `epoch` is that of the event there, or of the log now if there is none. `leaf` is None if there is no event, `head`
    None if the evidence does not reach the end of its commit. `last_position` is where the evidence ends;
    `is_whole` says that the log ends there, too, and `starts_after` how many events stand before the evidence.
    """

    log_id: bytes
    epoch: int
    last_position: int
    leaf: bytes | None
    head: bytes | None
    is_whole: bool = True
    starts_after: int = 0


class ReceiptJudgement(msgspec.Struct, frozen=True):
    """Verdict, reason and a sentence for people."""

    verdict: ReceiptVerdict
    reason: ReceiptReason
    sentence: str


class ReceiptAnswer(msgspec.Struct, frozen=True):
    """`RCA1`: what a tower says about a receipt that somebody holds, signed by it.

    `receipt_sha256` covers body and signature of the receipt: the answer was given after the receipt.
    `leaf` and `head` are zero if the log has no event at the receipt's position.
    """

    tower_id: bytes
    receipt_sha256: bytes
    log_id: bytes
    epoch: int
    last_position: int
    epoch_there: int
    leaf: bytes
    head: bytes

    def encode(self) -> bytes:
        """164 bytes."""
        try:
            encoded = ANSWER_MAGIC + self.tower_id + self.receipt_sha256 + self.log_id
            encoded += self.epoch.to_bytes(4, "little") + self.last_position.to_bytes(8, "little")
            encoded += self.epoch_there.to_bytes(4, "little") + self.leaf + self.head
        except OverflowError:
            raise MalformedInput("a number of the answer is negative or too large") from None
        hashes = (self.tower_id, self.receipt_sha256, self.leaf, self.head)
        if len(self.log_id) != 16 or any(len(each) != 32 for each in hashes):
            raise MalformedInput("every name and hash of an answer has 32 bytes, its log_id 16")
        return encoded

    @classmethod
    def decode(cls, raw: bytes) -> ReceiptAnswer:
        """Read exactly 164 bytes."""
        if len(raw) != ANSWER_SIZE or raw[:4] != ANSWER_MAGIC:
            raise MalformedInput(f"an answer about a receipt starts with RCA1 and has {ANSWER_SIZE} bytes")
        last = int.from_bytes(raw[88:96], "little")
        if last > MAX_POSITION:
            raise MalformedInput("the last position of an answer is below 2^63")
        epochs = int.from_bytes(raw[84:88], "little"), int.from_bytes(raw[96:100], "little")
        return cls(raw[4:36], raw[36:68], raw[68:84], epochs[0], last, epochs[1], raw[100:132], raw[132:164])

    def shown(self) -> Shown:
        """The answer as evidence."""
        there = self.leaf != NOTHING
        return Shown(
            log_id=self.log_id,
            epoch=self.epoch_there,
            last_position=self.last_position,
            leaf=self.leaf if there else None,
            head=self.head if there else None,
        )


def answer_hash(body: bytes) -> bytes:
    """What the tower signs for an answer about a receipt, 32 bytes."""
    return tagged_hash("SCT1/receipt-answer", body)


def receipt_fingerprint(signed: SignedReceipt) -> bytes:
    """How an answer names the receipt it is about, 32 bytes."""
    return sha256(signed.encode())


def read_answer(body: bytes, signature: bytes, receipt: SignedReceipt) -> ReceiptAnswer:
    """A tower's answer about exactly this receipt.

    Raises `MalformedInput`, and `InvalidSignature` if it is not signed by the tower that signed the receipt, or is
    about another receipt.
    """
    answer = ReceiptAnswer.decode(body)
    if answer.tower_id != receipt.read().tower_id or not verify_schnorr(answer.tower_id, answer_hash(body), signature):
        raise InvalidSignature("the answer is not signed by the tower that signed the receipt")
    if answer.receipt_sha256 != receipt_fingerprint(receipt):
        raise InvalidSignature("the answer is about another receipt")
    return answer


def judge_receipt(receipt: LogReceipt, shown: Shown) -> ReceiptJudgement:
    """Whether a receipt (its signature verified before) and what is shown of the log can both be true."""
    if shown.log_id != receipt.log_id:
        return _cannot_tell(
            ReceiptReason.ANOTHER_LOG,
            f"the evidence is of log {shown.log_id.hex()}, the receipt of log {receipt.log_id.hex()}; "
            "ask for evidence of that log",
        )
    if shown.leaf is None:
        return _judge_absent(receipt, shown)
    return _judge_present(receipt, shown, shown.leaf)


def _judge_absent(receipt: LogReceipt, shown: Shown) -> ReceiptJudgement:
    if receipt.position <= shown.starts_after or not shown.is_whole:
        return _cannot_tell(
            ReceiptReason.NOT_COVERED,
            f"the evidence holds events {shown.starts_after + 1} to {shown.last_position}, the receipt names event "
            f"{receipt.position}; ask for an export that covers it",
        )
    if shown.epoch > receipt.epoch:
        return _restored(receipt, shown)
    if shown.epoch < receipt.epoch:
        return _went_back(receipt, shown)
    return _misbehavior(
        ReceiptReason.MISSING,
        f"the tower signed that {receipt.what} stands at event {receipt.position}; its log ends at event "
        f"{shown.last_position} in the same epoch {receipt.epoch}",
    )


def _judge_present(receipt: LogReceipt, shown: Shown, leaf: bytes) -> ReceiptJudgement:
    if leaf == receipt.leaf and shown.head in (None, receipt.head):
        return ReceiptJudgement(
            ReceiptVerdict.CONSISTENT,
            ReceiptReason.STORED,
            f"the log holds {receipt.what} at event {receipt.position}, as the receipt says",
        )
    if shown.epoch > receipt.epoch:
        return _restored(receipt, shown)
    if shown.epoch < receipt.epoch:
        return _went_back(receipt, shown)
    if leaf != receipt.leaf:
        return _misbehavior(
            ReceiptReason.OTHER_EVENT,
            f"the tower signed that {receipt.what} stands at event {receipt.position}; its log holds another one there",
        )
    return _misbehavior(
        ReceiptReason.OTHER_HISTORY,
        f"the log holds {receipt.what} at event {receipt.position}, but under another head than the tower signed: "
        "its history was written anew",
    )


def _restored(receipt: LogReceipt, shown: Shown) -> ReceiptJudgement:
    return _cannot_tell(
        ReceiptReason.RESTORED,
        f"the receipt is of epoch {receipt.epoch}; the log went on from an older copy since (epoch {shown.epoch}) and "
        f"says so: {receipt.what} has to be uploaded again, and gets a receipt of the new epoch",
    )


def _went_back(receipt: LogReceipt, shown: Shown) -> ReceiptJudgement:
    return _misbehavior(
        ReceiptReason.EPOCH_WENT_BACK,
        f"the tower signed event {receipt.position} in epoch {receipt.epoch}; its log claims to be in epoch "
        f"{shown.epoch} there, as if it had never been restored",
    )


def _misbehavior(reason: ReceiptReason, sentence: str) -> ReceiptJudgement:
    return ReceiptJudgement(ReceiptVerdict.MISBEHAVIOR, reason, sentence)


def _cannot_tell(reason: ReceiptReason, sentence: str) -> ReceiptJudgement:
    return ReceiptJudgement(ReceiptVerdict.CANNOT_TELL, reason, sentence)
