"""Receipts beside a log or an export: does it hold what the tower signed that it holds?

`judge` weighs one receipt, for a proof of misbehavior; `check` weighs many, as findings of an audit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from domain.contract.params import ChannelParams
from domain.contract.receipt_proofs import ReceiptJudgement, ReceiptReason, ReceiptVerdict, Shown, judge_receipt
from domain.contract.receipts import LogReceipt, SignedReceipt, state_upload_sha256
from domain.contract.state import StateHeader, StateSignatures
from domain.contract.uploads import REGISTRATION_SEQ
from domain.errors import InvalidSignature, LogCorrupt, MalformedInput
from domain.events import (
    LOG_STREAM,
    BlockConnected,
    ChannelRegistered,
    Payload,
    SignatureSet,
    StateRevoked,
    StateUpdated,
    StoreRestored,
    decode_payload,
)
from domain.log_chain import HASH_SIZE, leaf
from watchtower.audit.findings import ExitCode, Finding
from watchtower.audit.known import UnreadableHeads
from watchtower.receipts.files import read_receipt_file
from watchtower.store.exports.source import ExportSource
from watchtower.store.source import Commit, LogSource, RawRow, Unreadable

PAGE = 5_000
"""Rows read at once."""

CODES = {
    ReceiptReason.OTHER_EVENT: ExitCode.FORK,
    ReceiptReason.OTHER_HISTORY: ExitCode.FORK,
    ReceiptReason.ANOTHER_LOG: ExitCode.FORK,
    ReceiptReason.EPOCH_WENT_BACK: ExitCode.FORK,
    ReceiptReason.MISSING: ExitCode.ROLLBACK,
    ReceiptReason.RESTORED: ExitCode.ROLLBACK,
    ReceiptReason.OTHER_UPLOAD: ExitCode.ROLLBACK,
    ReceiptReason.NOT_COVERED: ExitCode.INCOMPLETE,
}
"""What a reason is to an audit; a receipt whose event stands where it should is no finding."""


class Kept(msgspec.Struct, frozen=True):
    """A receipt and what to call it in a report, for example file and line."""

    name: str
    signed: SignedReceipt


def read_kept(path: Path) -> list[Kept]:
    """The receipts in a file, or in all files of a directory (`receipts/files.py`), whatever their names.

    Raises `UnreadableHeads` for a line that is no receipt, and if there is none: nobody shall believe it was compared.
    """
    try:
        paths = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
        kept = [
            Kept(f"{each.name}:{number}", signed)
            for each in paths
            for number, signed in enumerate(read_receipt_file(each), 1)
        ]
    except MalformedInput as error:
        raise UnreadableHeads(str(error)) from None
    except OSError as error:
        raise UnreadableHeads(f"{path} cannot be read: {error.strerror}") from None
    if not kept:
        raise UnreadableHeads(f"{path} holds no receipt")
    return kept


def check(
    source: LogSource, receipts: Iterable[Kept], tower_id: bytes | None = None, *, is_current: bool = True
) -> list[Finding]:
    """What is wrong with receipts beside this log. Raises `StoreError`.

    A wrong signature, or one of another tower than `tower_id`, is 31; another event, history or log 40; a missing event
    or upload 41, also where the log says that it went on from an older copy; a position that an export does not cover,
    or of which the log has no more than the leaf, 80.
    """
    findings, epochs = [], _Epochs(source)
    for kept in receipts:
        try:
            receipt = kept.signed.verified(tower_id)
        except (InvalidSignature, MalformedInput) as error:
            findings.append(Finding(code=ExitCode.SIGNATURE, sentence=f"{kept.name}: {error}"))
            continue
        judged = judge(source, receipt, is_current=is_current, epochs=epochs)
        if judged.reason in CODES:
            words = f"{kept.name}: {judged.sentence}"
            findings.append(Finding(code=CODES[judged.reason], position=receipt.position, sentence=words))
    return findings


class _Epochs:
    """The epochs of events; the log is searched for its restores once, and only if something differs."""

    def __init__(self, source: LogSource) -> None:
        self._source = source
        self._restored: list[tuple[int, int]] | None = None

    def at(self, position: int) -> int:
        """That of the event at a position. Raises `StoreError`."""
        if self._restored is None:
            self._restored = [
                (payload.position, payload.epoch)
                for row in _forward(self._source, self._source.meta.first_id)
                if row[1] == LOG_STREAM and isinstance(payload := _payload(row), StoreRestored)
            ]
        return max((epoch for behind, epoch in self._restored if position > behind), default=0)


def judge(
    source: LogSource, receipt: LogReceipt, *, is_current: bool = True, epochs: _Epochs | None = None
) -> ReceiptJudgement:
    """What a receipt (its signature verified before) is worth beside a log. Raises `StoreError`.

    `is_current`: the log is as it stands now. Of a copy or an export nobody knows that, unless it has blocks that are
    younger than the receipt.
    """
    try:
        shown = _shown_by(source, receipt, epochs or _Epochs(source), is_current=is_current)
        judged = judge_receipt(receipt, shown)
    except Unreadable as error:
        return ReceiptJudgement(
            ReceiptVerdict.CANNOT_TELL,
            ReceiptReason.NOT_COVERED,
            f"event {receipt.position} is not what the receipt says, but the log may have gone on from an older copy, "
            f"and that cannot be read: {error}; ask for all events with their payloads",
        )
    if judged.verdict is not ReceiptVerdict.CONSISTENT:
        return judged
    held = _holds_upload(source, receipt)
    if held is None:
        return ReceiptJudgement(
            ReceiptVerdict.CANNOT_TELL,
            ReceiptReason.NOT_COVERED,
            f"the commit chain has the leaf of event {receipt.position}, but the event itself is missing, changed or "
            "not readable: see `watchtower audit verify`, and ask for a copy that holds it",
        )
    if held:
        return judged
    return ReceiptJudgement(
        ReceiptVerdict.MISBEHAVIOR,
        ReceiptReason.OTHER_UPLOAD,
        f"event {receipt.position} is the one that the receipt names, but it does not hold the upload of "
        f"{receipt.what} that the tower signed",
    )


def _shown_by(source: LogSource, receipt: LogReceipt, epochs: _Epochs, *, is_current: bool) -> Shown:
    """What a log says about the position of a receipt. Raises `StoreError`."""
    meta, last = source.meta, source.last_commit()
    if meta.log_id != receipt.log_id:
        return Shown(meta.log_id, 0, last.last_id, None, None)
    before = meta.first_id - 1
    covers = before < receipt.position <= last.last_id
    commit = source.commit_at(receipt.position) if covers else None
    if covers and commit is None:
        raise Unreadable("no commit of its chain holds that event")
    found = None if commit is None else leaf_in(commit, receipt.position)
    head = None if commit is None else commit.head
    if (found, head) == (receipt.leaf, receipt.head):
        return Shown(meta.log_id, receipt.epoch, last.last_id, found, head, starts_after=before)
    return Shown(
        log_id=meta.log_id,
        epoch=epochs.at(min(receipt.position, last.last_id)),
        last_position=last.last_id,
        leaf=found,
        head=head,
        is_whole=is_current or _is_younger(source, receipt),
        starts_after=before,
    )


def leaf_in(commit: Commit, position: int) -> bytes:
    """The leaf of an event in the commit that holds it."""
    start = HASH_SIZE * (position - commit.first_id)
    return commit.leaves[start : start + HASH_SIZE]


def _is_younger(source: LogSource, receipt: LogReceipt) -> bool:
    """Whether the newest block in the evidence came after the receipt: then the receipt's event should be there."""
    for row in _backward(source, source.last_commit().last_id):
        payload = _payload(row)
        if isinstance(payload, BlockConnected):
            return payload.block.height > receipt.tip_height
    return False


def _holds_upload(source: LogSource, receipt: LogReceipt) -> bool | None:
    """Whether the event at the position holds the bytes that the receipt names; None if there is no such event.

    True if payloads are out of scope: an export of entries says of each event no more than its leaf.
    """
    if isinstance(source, ExportSource) and source.manifest.entries_only:
        return True
    try:
        rows = source.rows(receipt.position, receipt.position)
    except Unreadable:
        return None
    if not rows or leaf_of(rows[0]) != receipt.leaf:
        return None
    payload = _payload(rows[0])
    if isinstance(payload, ChannelRegistered):
        told = (REGISTRATION_SEQ, ChannelParams.decode(payload.params).channel_id, payload.upload_sha256)
        return told == (receipt.seq, receipt.subject, receipt.upload_sha256)
    if isinstance(payload, StateUpdated):
        return _is_of(payload, receipt) and receipt.upload_sha256 in _digests(payload, payload)
    if isinstance(payload, StateRevoked):
        state = _state_before(source, rows[0], payload.sequence + 1)
        return state is not None and _is_of(state, receipt) and receipt.upload_sha256 in _digests(state, payload)
    return False


def leaf_of(row: RawRow) -> bytes | None:
    """The leaf of a stored event; None for values that nobody writes."""
    try:
        return leaf(row[1], row[2], row[3], row[4])
    except (AttributeError, TypeError, OverflowError, IndexError, UnicodeEncodeError):  # as nobody wrote it
        return None


def _is_of(state: StateUpdated, receipt: LogReceipt) -> bool:
    return (state.sequence, StateHeader.decode(state.header).channel_id) == (receipt.seq, receipt.subject)


def _digests(state: StateUpdated, revoked: StateUpdated | StateRevoked) -> set[bytes]:
    """The upload of a state bare, and with the revocation that an event holds."""
    secret = revoked.revoked_secret if isinstance(revoked, StateUpdated) else revoked.secret
    parts = (state.header, _encoded(state.sigs_a), _encoded(state.sigs_b), state.own_point)
    found = {state_upload_sha256(*parts)}
    if secret is not None and revoked.next_point is not None:
        found.add(state_upload_sha256(*parts, secret, revoked.next_point))
    return found


def _encoded(signed: SignatureSet) -> bytes:
    return StateSignatures(signed.state, signed.settle_a, signed.settle_b, signed.commit_peer).encode()


def _state_before(source: LogSource, revocation: RawRow, sequence: int) -> StateUpdated | None:
    """The state that a late revocation completes: nearly always the event before it in its stream."""
    for row in _backward(source, revocation[0] - 1):
        if row[1] == revocation[1]:
            payload = _payload(row)
            if isinstance(payload, StateUpdated) and payload.sequence == sequence:
                return payload
    return None


def _payload(row: RawRow) -> Payload | None:
    try:
        return decode_payload(row[3], row[4])
    except LogCorrupt:
        return None


def _forward(source: LogSource, first: int) -> Iterator[RawRow]:
    last = source.last_id()
    while first <= last:
        yield from source.rows(first, min(first + PAGE - 1, last))
        first += PAGE


def _backward(source: LogSource, last: int) -> Iterator[RawRow]:
    while last >= source.meta.first_id:
        first = max(source.meta.first_id, last - PAGE + 1)
        yield from reversed(source.rows(first, last))
        last = first - 1
