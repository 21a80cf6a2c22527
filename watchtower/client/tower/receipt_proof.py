"""A receipt as a proof: beside a log, an export, or the tower's own signed answer.

A receipt and evidence that contradict each other prove that the tower lost, replaced or never stored what it had
acknowledged. `docs/receipts.md` says what counts as evidence.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import msgspec

from domain.contract.receipt_proofs import ReceiptJudgement, judge_receipt, read_answer
from domain.contract.receipts import LOG_RECEIPT_MAGIC, LogReceipt, SignedReceipt
from domain.errors import DomainError, InvalidSignature, MalformedInput
from watchtower.audit.receipts import judge
from watchtower.audit.sealed import is_sealed
from watchtower.client.dispute_types import VerificationResult
from watchtower.client.errors import ReceiptForged
from watchtower.client.tower.receipts import ReceiptText
from watchtower.client.tower.session import read
from watchtower.store.exports.manifest import MANIFEST
from watchtower.store.exports.signature import read_signature
from watchtower.store.exports.source import ExportSource
from watchtower.store.segments.source import open_log_files
from watchtower.store.source import LogSource
from watchtower.store.sqlite_source import is_written
from watchtower.wire.receipts import body_of

Ask = Callable[[str, str, object], Awaitable[tuple[bytes, httpx.Response]]]
"""Sends a body to an address of the tower."""

_VERDICTS = {"misbehavior": "MISBEHAVIOR", "consistent": "CONSISTENT", "cannot_tell": "CANNOT_TELL"}


def is_receipt(proof: str) -> bool:
    """Whether a proof in hexadecimal digits is a receipt (`RCP2`), by its first bytes."""
    return proof[:8].lower() == LOG_RECEIPT_MAGIC.hex()


def read_proof(proof: str) -> SignedReceipt:
    """The receipt (268 bytes in hexadecimal digits); `MalformedInput`. Its signature is not checked."""
    try:
        raw = bytes.fromhex(proof)
    except ValueError:
        raise MalformedInput("a receipt is written in hexadecimal digits") from None
    signed = SignedReceipt.decode(raw)
    signed.read()
    return signed


def verify_by_log(proof: str, source: LogSource, *, is_current: bool) -> VerificationResult:
    """What a receipt is worth beside the rows of a log. Raises `MalformedInput` and `StoreError`."""
    signed = read_proof(proof)
    receipt = _checked(signed)
    if receipt is None:
        return invalid(signed)
    judged = judge(source, receipt, is_current=is_current)
    shown = source.meta.first_id <= receipt.position <= source.last_id()
    sealed = shown and source.meta.log_id == receipt.log_id and is_sealed(source, receipt.tower_id, receipt.position)
    return result(receipt, judged, signed_by_tower=sealed)


def verify_by_file(proof: str, path: Path) -> VerificationResult:
    """Beside a log file, with its closed segments, as it stands now. Raises `MalformedInput` and `StoreError`."""
    source = open_log_files(path, immutable=not is_written(path))
    try:
        return verify_by_log(proof, source, is_current=True)
    finally:
        source.close()


def verify_by_export(proof: str, directory: Path) -> VerificationResult:
    """Beside an export, whose integrity `watchtower audit verify-export` checks. `MalformedInput`, `StoreError`.

    The tower's signature over the manifest stands behind the files only if they are those that it lists.
    """
    source = ExportSource(directory)
    try:
        found = verify_by_log(proof, source, is_current=False)
        seal = read_signature(directory, (directory / MANIFEST).read_bytes())
        is_signed = seal == (found.tower_id, True) and not source.storage_faults()
    finally:
        source.close()
    if not is_signed:
        return found
    return msgspec.structs.replace(found, signed_by_tower=True)


async def verify_by_tower(call: Ask, proof: str) -> VerificationResult:
    """Beside what the tower itself says and signs now; `call` reaches it.

    Raises `ReceiptForged` for an answer that it did not sign, or that is about another receipt.
    """
    signed = read_proof(proof)
    receipt = _checked(signed)
    if receipt is None:
        return invalid(signed)
    raw, _ = await call("POST", "/v1/receipts/check", body_of(signed))
    told = read(raw, ReceiptText).read()
    try:
        answer = read_answer(told.body, told.signature, signed)
    except DomainError as error:
        raise ReceiptForged(f"the tower's answer proves nothing: {error}") from None
    found = result(receipt, judge_receipt(receipt, answer.shown()), signed_by_tower=True)
    return msgspec.structs.replace(found, answer=told.encode().hex())


def invalid(signed: SignedReceipt) -> VerificationResult:
    """A receipt that nobody signed accuses nobody."""
    receipt = signed.read()
    return VerificationResult(
        verdict="INVALID",
        reason="receipt_signature",
        message="the signature of the receipt does not fit its body and the tower it names",
        channel_id=receipt.subject.hex(),
        tower_id=receipt.tower_id.hex(),
    )


def result(receipt: LogReceipt, judged: ReceiptJudgement, *, signed_by_tower: bool) -> VerificationResult:
    """A judgement in the form of the SDK."""
    return VerificationResult(
        verdict=_VERDICTS[judged.verdict],  # type: ignore[arg-type]
        reason=str(judged.reason),
        message=judged.sentence,
        channel_id=receipt.subject.hex(),
        tower_id=receipt.tower_id.hex(),
        sequence=None if receipt.is_registration else receipt.seq,
        position=receipt.position,
        epoch=receipt.epoch,
        signed_by_tower=signed_by_tower,
    )


def _checked(signed: SignedReceipt) -> LogReceipt | None:
    try:
        return signed.verified()
    except InvalidSignature:
        return None
