"""A receipt as proof of misbehavior: beside a log, an export, the tower's answer; for SDK, commands and audits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain.contract.receipt_proofs import (
    ANSWER_SIZE,
    ReceiptAnswer,
    ReceiptReason,
    ReceiptVerdict,
    Shown,
    judge_receipt,
)
from domain.contract.uploads import REGISTRATION_SEQ
from domain.errors import MalformedInput
from domain.events import LOG_STREAM, StoreRestored, envelopes
from tests.support.exports import exported
from tests.support.histories import block_connected
from tests.support.receipt_kit import OTHER, Kit
from tests.support.receipts import receipt_of
from tests.support.towers import TOWER_ID, Bench
from watchtower.client.tower.receipt_proof import read_proof, verify_by_export, verify_by_file
from watchtower.store.exports.write import Wish
from watchtower.store.writer import LogWriter

SHOWN = Shown(log_id=bytes(16), epoch=0, last_position=100, leaf=None, head=None)


RECEIPT = receipt_of(bytes(32), 5).read()


JUDGED: dict[str, tuple[dict[str, Any], ReceiptVerdict, ReceiptReason]] = {
    "it stands there": (
        {"leaf": RECEIPT.leaf, "head": RECEIPT.head},
        ReceiptVerdict.CONSISTENT,
        ReceiptReason.STORED,
    ),
    "it stands there, the head is not shown": (
        {"leaf": RECEIPT.leaf},
        ReceiptVerdict.CONSISTENT,
        ReceiptReason.STORED,
    ),
    "another event": (
        {"leaf": OTHER, "head": RECEIPT.head},
        ReceiptVerdict.MISBEHAVIOR,
        ReceiptReason.OTHER_EVENT,
    ),
    "another history": (
        {"leaf": RECEIPT.leaf, "head": OTHER},
        ReceiptVerdict.MISBEHAVIOR,
        ReceiptReason.OTHER_HISTORY,
    ),
    "the log ends before": ({"last_position": 59}, ReceiptVerdict.MISBEHAVIOR, ReceiptReason.MISSING),
    "it may be an older copy": (
        {"last_position": 59, "is_whole": False},
        ReceiptVerdict.CANNOT_TELL,
        ReceiptReason.NOT_COVERED,
    ),
    "the evidence begins later": (
        {"last_position": 99, "starts_after": 60},
        ReceiptVerdict.CANNOT_TELL,
        ReceiptReason.NOT_COVERED,
    ),
    "another log": ({"log_id": b"\x01" * 16}, ReceiptVerdict.CANNOT_TELL, ReceiptReason.ANOTHER_LOG),
    "restored, and shorter": ({"last_position": 59, "epoch": 1}, ReceiptVerdict.CANNOT_TELL, ReceiptReason.RESTORED),
    "restored, and another event": (
        {"leaf": OTHER, "head": OTHER, "epoch": 1},
        ReceiptVerdict.CANNOT_TELL,
        ReceiptReason.RESTORED,
    ),
}


@pytest.mark.parametrize("kind", JUDGED)
def test_what_receipt_and_evidence_say_together(kind: str) -> None:
    """Within one epoch both cannot be true if they differ; the sentence names the event."""
    fields, verdict, reason = JUDGED[kind]

    judged = judge_receipt(RECEIPT, msgspec.structs.replace(SHOWN, **fields))

    assert (verdict, reason) == (judged.verdict, judged.reason)
    assert judged.sentence


@pytest.mark.parametrize("fields", [{"last_position": 59}, {"leaf": OTHER, "head": OTHER}])
def test_a_log_that_denies_its_restore(fields: dict[str, Any]) -> None:
    """The receipt is of epoch 2, the log claims to be in epoch 0 there."""
    later = msgspec.structs.replace(RECEIPT, epoch=2)

    judged = judge_receipt(later, msgspec.structs.replace(SHOWN, **fields))

    assert (ReceiptVerdict.MISBEHAVIOR, ReceiptReason.EPOCH_WENT_BACK) == (judged.verdict, judged.reason)


def test_the_bytes_of_an_answer() -> None:
    """164 bytes that read to the same fields; values out of range are refused."""
    answer = ReceiptAnswer(TOWER_ID, OTHER, bytes(16), 3, 2**40, 2, RECEIPT.leaf, RECEIPT.head)

    assert ANSWER_SIZE == len(answer.encode())
    assert answer == ReceiptAnswer.decode(answer.encode())
    for wrong in ({"epoch": -1}, {"last_position": 2**64}, {"log_id": bytes(15)}, {"leaf": bytes(31)}):
        with pytest.raises(MalformedInput):
            msgspec.structs.replace(answer, **wrong).encode()
    with pytest.raises(MalformedInput, match="last position"):
        ReceiptAnswer.decode(answer.encode()[:88] + b"\xff" * 8 + answer.encode()[96:])


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Made once; nobody changes it."""
    return Kit(tmp_path_factory.mktemp("kit"))


@pytest.fixture(scope="module")
def export_directory(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the whole log."""
    target = tmp_path_factory.mktemp("exports") / "whole"
    exported(kit.path, target)
    return target


LIES: dict[str, tuple[dict[str, object], str, str]] = {
    "another event": ({"leaf": OTHER}, "other_event", "another one there"),
    "another history": ({"head": OTHER}, "other_history", "written anew"),
    "an event behind the end": ({"position": 5_000}, "missing", "ends at event"),
    "another upload": ({"upload_sha256": OTHER}, "other_upload", "does not hold the upload"),
    "another state": ({"seq": 7}, "other_upload", "does not hold the upload"),
    "another channel": ({"subject": OTHER}, "other_upload", "does not hold the upload"),
    "a registration": ({"seq": REGISTRATION_SEQ}, "other_upload", "does not hold the upload"),
    "an epoch that never was": ({"epoch": 1, "leaf": OTHER}, "epoch_went_back", "never been restored"),
}


@pytest.mark.parametrize("number", range(4))
def test_an_honest_log_agrees_with_every_receipt(kit: Kit, export_directory: Path, number: int) -> None:
    """Registration and states, from the file and from an export."""
    by_file = verify_by_file(kit.proof(number), kit.path)
    by_export = verify_by_export(kit.proof(number), export_directory)

    assert ("CONSISTENT", "stored") == (by_file.verdict, by_file.reason)
    assert by_file == by_export
    assert by_file.position == kit.receipts[number].read().position
    assert (None if number == 0 else number) == by_file.sequence


@pytest.mark.parametrize("kind", LIES)
def test_a_log_that_lacks_what_was_signed_convicts_the_tower(kit: Kit, kind: str) -> None:
    """Another event, history, upload, or none: the verdict names the reason in words."""
    changes, reason, words = LIES[kind]

    found = verify_by_file(kit.proof(**changes), kit.path)

    assert ("MISBEHAVIOR", reason) == (found.verdict, found.reason)
    assert words in found.message
    assert found.tower_id == TOWER_ID.hex()


def test_an_export_that_may_be_older_proves_no_absence(kit: Kit, export_directory: Path) -> None:
    """Its end is not that of the log, unless it has a block that is younger than the receipt."""
    lie = kit.proof(position=5_000)

    assert ("CANNOT_TELL", "not_covered") == (
        verify_by_export(lie, export_directory).verdict,
        verify_by_export(lie, export_directory).reason,
    )


def test_an_export_with_a_younger_block_proves_absence(tmp_path: Path) -> None:
    """The log was at a later block than the receipt when it was shorter than the receipt says."""
    height = 240

    class WithBlocks(Kit):
        def more(self, store: LogWriter) -> None:
            store.append([block_connected(1, height)], chain=True)

    kit = WithBlocks(tmp_path)
    exported(kit.path, tmp_path / "export")
    found = verify_by_export(kit.proof(position=5_000, tip_height=height - 1), tmp_path / "export")
    same = verify_by_export(kit.proof(position=5_000, tip_height=height), tmp_path / "export")

    assert ("MISBEHAVIOR", "missing") == (found.verdict, found.reason)
    assert "CANNOT_TELL" == same.verdict


def test_parts_of_a_log(kit: Kit, tmp_path: Path) -> None:
    """An export that begins behind the receipt cannot tell; one of entries knows the leaf, not the upload."""
    last = kit.receipts[3].read().position
    exported(kit.path, tmp_path / "late", Wish(first=last + 1))
    exported(kit.path, tmp_path / "entries", Wish(entries_only=True))

    assert verify_by_export(kit.proof(1), tmp_path / "late").verdict == "CANNOT_TELL"
    assert verify_by_export(kit.proof(1), tmp_path / "entries").verdict == "CONSISTENT"
    doubted = verify_by_export(kit.proof(leaf=OTHER), tmp_path / "entries")
    assert ("CANNOT_TELL", False) == (doubted.verdict, doubted.signed_by_tower)
    assert "payloads" in doubted.message


def test_a_receipt_that_nobody_signed_accuses_nobody(kit: Kit) -> None:
    """The signature is checked first; what is no receipt is refused."""
    forged = kit.receipts[3].body.hex() + "00" * 64

    found = verify_by_file(forged, kit.path)

    assert ("INVALID", "receipt_signature", False) == (found.verdict, found.reason, found.is_valid)
    for nonsense in ("52435032", "zz", kit.proof()[:-2], receipt_of(bytes(32), 1).encode().hex() + "00"):
        with pytest.raises(MalformedInput):
            read_proof(nonsense)


def test_a_restored_log_says_so(tmp_path: Path) -> None:
    """An older copy that was accepted: receipts for what is gone convict nobody, and the sentence says what to do."""

    class Restored(Kit):
        def more(self, store: LogWriter) -> None:
            position = self.receipts[2].read().position
            event = StoreRestored(
                recorded_at=0, epoch=1, position=position, head=bytes(32), high_water=99, source="a copy"
            )
            store.append(envelopes(LOG_STREAM, store.version(LOG_STREAM), (event,)))

    kit = Restored(tmp_path)

    gone = verify_by_file(kit.proof(leaf=OTHER), kit.path)
    kept = verify_by_file(kit.proof(1, leaf=OTHER), kit.path)

    assert ("CANNOT_TELL", "restored") == (gone.verdict, gone.reason)
    assert "uploaded again" in gone.message
    assert ("MISBEHAVIOR", "other_event") == (kept.verdict, kept.reason)


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """A tower over a log in memory."""
    return Bench(tmp_path)
