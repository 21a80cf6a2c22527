"""Heads that were kept outside the log: high-water files, receipts that clients hold, heads that the tower sealed.

The chain in the log proves only that the log fits itself. A cut tail or another history shows beside these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from domain.contract.receipts import SIGNED_RECEIPT_SIZE, SignedReceipt
from domain.errors import InvalidSignature, MalformedInput
from watchtower.audit.findings import ExitCode, Finding
from watchtower.audit.stretches import Restore, Seal
from watchtower.store.high_water import HighWater, HighWaterDamaged
from watchtower.store.source import LogSource, commit_holding

MAX_FILE = 1 << 30


class UnreadableHeads(Exception):
    """A file that should hold known heads holds none, or those of another log; the text says which."""


class KnownHead(msgspec.Struct, frozen=True, kw_only=True):
    """At `position` of the log, in this `epoch` of it, the chain head was `head`: known from `source`.

    `leaf` is that of the event at the position, if it is known. `ends_commit`: the position is the end of a commit.
    """

    log_id: bytes
    epoch: int
    position: int
    head: bytes
    source: str
    leaf: bytes | None = None
    ends_commit: bool = False


def read_known(path: Path) -> tuple[list[KnownHead], list[Finding]]:
    """The heads in a file, or in all files of a directory; receipts with a wrong signature are findings.

    A file is a high-water mark, or receipts of 268 bytes: one after the other, or in hexadecimal, one per line. Raises
    `UnreadableHeads`.
    """
    if path.is_dir():
        parts = [read_known(each) for each in sorted(path.iterdir()) if each.is_file()]
        return [head for heads, _ in parts for head in heads], [finding for _, found in parts for finding in found]
    try:
        if path.stat().st_size > MAX_FILE:
            raise UnreadableHeads(f"{path} is too long for a file of known heads")
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableHeads(f"{path} cannot be read: {error.strerror}") from None
    if content.startswith(b"origin "):
        return [_mark(path, content)], []
    return _receipts(path, content)


def compare(source: LogSource, known: Iterable[KnownHead], restores: Sequence[Restore] = ()) -> list[Finding]:
    """What the log lacks, or has otherwise, beside known heads. Raises `StoreError`."""
    last_id = source.last_commit().last_id
    findings = []
    for head in known:
        finding = _compare(source, head, last_id)
        gone_back = next((each for each in restores if each.epoch > head.epoch and each.position < head.position), None)
        if finding is not None and gone_back is not None:
            words = (
                f"{head.source}: position {head.position} was reached in epoch {head.epoch}; the log went on from an "
                f"older copy behind position {gone_back.position} (epoch {gone_back.epoch}) and does not hold it"
            )
            finding = Finding(code=ExitCode.ROLLBACK, position=head.position, sentence=words)
        if finding is not None:
            findings.append(finding)
    return findings


def check_seals(source: LogSource, seals: Iterable[Seal]) -> list[Finding]:
    """Whether the log has the heads that its own `HeadSealed` events name. Raises `StoreError`."""
    findings = []
    start = source.meta.start()
    for seal in seals:
        if seal.position < start.last_id:  # the log begins later here; what was sealed is elsewhere
            continue
        commit = start if seal.position == start.last_id else commit_holding(source, seal.position)
        if commit is None or commit.head != seal.head or seal.position >= seal.id:
            words = f"event {seal.id} seals another head for position {seal.position} than the log has"
            findings.append(Finding(code=ExitCode.FORK, position=seal.id, stream="log", topic="lg03", sentence=words))
    return findings


def _mark(path: Path, content: bytes) -> KnownHead:
    try:
        mark = HighWater.decode(content.decode())
    except (HighWaterDamaged, UnicodeDecodeError) as error:
        raise UnreadableHeads(f"{path}: {error}") from None
    return KnownHead(
        log_id=mark.log_id,
        epoch=mark.epoch,
        position=mark.position,
        head=mark.head,
        source=f"high-water file {path.name}",
        ends_commit=True,
    )


def _receipts(path: Path, content: bytes) -> tuple[list[KnownHead], list[Finding]]:
    heads, findings = [], []
    for number, raw in enumerate(_split(path, content), start=1):
        name = f"receipt {number} of {path.name}"
        try:
            receipt = SignedReceipt.decode(raw).verified()
        except MalformedInput as error:
            raise UnreadableHeads(f"{name}: {error}") from None
        except InvalidSignature as error:
            findings.append(Finding(code=ExitCode.SIGNATURE, sentence=f"{name}: {error}"))
            continue
        heads.append(
            KnownHead(
                log_id=receipt.log_id,
                epoch=receipt.epoch,
                position=receipt.position,
                head=receipt.head,
                leaf=receipt.leaf,
                source=f"{name} by tower {receipt.tower_id.hex()[:16]}",
            )
        )
    return heads, findings


def _split(path: Path, content: bytes) -> list[bytes]:
    if content.startswith(b"RCP"):
        if len(content) % SIGNED_RECEIPT_SIZE:
            raise UnreadableHeads(
                f"{path}: receipts have {SIGNED_RECEIPT_SIZE} bytes each, the file has {len(content)}"
            )
        return [content[start : start + SIGNED_RECEIPT_SIZE] for start in range(0, len(content), SIGNED_RECEIPT_SIZE)]
    try:
        found = [bytes.fromhex(line) for line in content.decode("ascii").split()]
    except ValueError:
        found = []
    if not found:
        raise UnreadableHeads(f"{path} is neither a high-water file nor a file of receipts")
    return found


def _compare(source: LogSource, known: KnownHead, last_id: int) -> Finding | None:
    if known.position > last_id:
        words = f"{known.source} knows position {known.position}, the log ends at {last_id}: later events are gone"
        return Finding(code=ExitCode.ROLLBACK, position=known.position, sentence=words)
    start = source.meta.start()
    if known.position < start.last_id:
        words = f"{known.source} knows position {known.position}, which lies before the first one here"
        return Finding(code=ExitCode.INCOMPLETE, position=known.position, sentence=words)
    commit = start if known.position == start.last_id else commit_holding(source, known.position)
    fits = commit is not None and commit.head == known.head
    if fits and known.ends_commit and commit is not None:
        fits = commit.last_id == known.position
    if fits and known.leaf is not None and commit is not None:
        place = 32 * (known.position - commit.first_id)
        fits = commit.leaves[place : place + 32] == known.leaf
    if fits:
        return None
    words = f"{known.source} knows another head at position {known.position}: another history stands in the log"
    return Finding(code=ExitCode.FORK, position=known.position, sentence=words)
