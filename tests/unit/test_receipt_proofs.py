"""A receipt as proof of misbehavior: beside a log, an export, the tower's answer; for SDK, commands and audits."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from click.testing import CliRunner, Result

from domain.contract.hashes import sha256
from domain.contract.receipt_proofs import (
    ANSWER_SIZE,
    ReceiptAnswer,
    ReceiptReason,
    ReceiptVerdict,
    Shown,
    judge_receipt,
)
from domain.contract.receipts import LogReceipt, SignedReceipt
from domain.contract.uploads import REGISTRATION_SEQ
from domain.errors import MalformedInput
from domain.events import LOG_STREAM, HeadSealed, StoreRestored, envelopes
from domain.log_chain import sealed_head_hash
from domain.units import Side
from tests.support.exports import exported
from tests.support.histories import block_connected
from tests.support.parties import Pair, open_pair
from tests.support.receipts import receipt_of
from tests.support.stores import new_log, note
from tests.support.threads import tower_thread
from tests.support.towers import TOKEN, TOWER_ID, TOWER_KEY, Bench
from watchtower.audit.findings import ExitCode
from watchtower.audit.receipts import Kept, check
from watchtower.audit.sealed import is_sealed
from watchtower.channels.accept_state import accept_state
from watchtower.channels.receipts import reissue
from watchtower.cli import _main
from watchtower.client import StateChannelClient, StateChannelConfig
from watchtower.client.errors import ReceiptForged
from watchtower.client.receipt_folder import ReceiptFolder
from watchtower.client.receipt_proof import read_proof, verify_by_export, verify_by_file
from watchtower.store.create import open_store
from watchtower.store.exports.signature import signature_file
from watchtower.store.exports.write import Wish
from watchtower.store.sqlite_source import SqliteSource
from watchtower.store.writer import LogWriter

SHOWN = Shown(log_id=bytes(16), epoch=0, last_position=100, leaf=None, head=None)
RECEIPT = receipt_of(bytes(32), 5).read()
OTHER = sha256(b"other")


# ── what contradicts what ────────────────────────────────────────────────────────────────────────────────

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


# ── a log on the disk ────────────────────────────────────────────────────────────────────────────────────


class Kit:
    """A tower's log with three states of a channel, and the receipts that it gave for them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pair: Pair = open_pair()
        self.pair.updates(3)
        self.path = new_log(directory)
        with open_store(self.path) as store:
            tower = Bench(directory, store=store)  # type: ignore[arg-type]
            tower.registered(self.pair)
            stream = tower.context.channels.stream_of(self.pair.params.proposal_id)
            told = [
                accept_state(tower.context, stream, self.pair.update_request(Side.B, sequence)).answer.receipt
                for sequence in (1, 2, 3)
            ]
            self.receipts = [reissue(tower.context, stream, "registration")]
            self.receipts += [each.signed() for each in told if each is not None]
            self.more(store)

    def more(self, store: LogWriter) -> None:
        """What the log holds behind the states."""
        store.append([note("k" + "0" * 22, 1)])

    def proof(self, number: int = 3, **changes: object) -> str:
        """A receipt as text; with changes one that the tower signed although it is not true."""
        if not changes:
            return self.receipts[number].encode().hex()
        return self.lie(number, **changes).encode().hex()

    def lie(self, number: int = 3, **changes: object) -> SignedReceipt:
        """A receipt that says something else, with a good signature of the tower."""
        return TOWER_KEY.receipt(msgspec.structs.replace(self.receipts[number].read(), **changes).encode())


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


# ── whose evidence it is ─────────────────────────────────────────────────────────────────────────────────


class Sealed(Kit):
    """The head behind the states is sealed by the tower, in the log itself."""

    key = TOWER_KEY
    head: bytes | None = None

    def more(self, store: LogWriter) -> None:
        """Two seals: one that covers nothing of interest, one that covers the states."""
        with SqliteSource(self.path) as source:
            tip = source.last_commit()
        head = self.head or tip.head
        for position, sealed in ((1, bytes(32)), (tip.last_id, head)):
            signature = self.key.sign(sealed_head_hash(bytes(16), position, sealed))
            event = HeadSealed(recorded_at=0, position=position, head=sealed, sig=signature)
            store.append(envelopes(LOG_STREAM, store.version(LOG_STREAM), (event,)))


def test_a_sealed_head_makes_the_log_the_towers_own(tmp_path: Path, kit: Kit) -> None:
    """With the seal nobody can say that the log was made up; without it, somebody may."""
    sealed = Sealed(tmp_path)

    assert verify_by_file(sealed.proof(leaf=OTHER), sealed.path).signed_by_tower is True
    assert verify_by_file(kit.proof(leaf=OTHER), kit.path).signed_by_tower is False


@pytest.mark.parametrize("kind", ["a stranger's seal", "a seal of another head", "a broken chain"])
def test_a_seal_that_binds_nothing(tmp_path: Path, kind: str) -> None:
    """Signed by another key, about another head, or behind a break in the chain."""

    class Other(Sealed):
        key = type(TOWER_KEY)(bytes(31) + b"\x09") if kind == "a stranger's seal" else TOWER_KEY
        head = OTHER if kind == "a seal of another head" else None

    made = Other(tmp_path)
    with SqliteSource(made.path) as source:
        commits = source.commits

        def broken(from_no: int, limit: int) -> Any:
            return [msgspec.structs.replace(each, leaves=OTHER) for each in commits(from_no, limit)]

        if kind == "a broken chain":
            source.commits = broken  # type: ignore[method-assign]
        assert not is_sealed(source, TOWER_ID, made.receipts[1].read().position)


def test_a_signed_export_is_the_towers_own(kit: Kit, tmp_path: Path) -> None:
    """The tower's signature over the manifest stands behind all of it; that of a stranger does not."""
    target = tmp_path / "export"
    exported(kit.path, target)
    manifest = (target / "manifest.json").read_bytes()
    stranger = type(TOWER_KEY)(bytes(31) + b"\x09")

    (target / "manifest.sig").write_bytes(signature_file(manifest, stranger.tower_id, stranger.sign))
    by_stranger = verify_by_export(kit.proof(leaf=OTHER), target)
    (target / "manifest.sig").write_bytes(signature_file(manifest, TOWER_ID, TOWER_KEY.sign))
    by_tower = verify_by_export(kit.proof(leaf=OTHER), target)

    assert (False, True) == (by_stranger.signed_by_tower, by_tower.signed_by_tower)
    assert by_tower.verdict == by_stranger.verdict == "MISBEHAVIOR"


def _changed(path: Path, statement: str, *values: object) -> None:
    """Edit a log as somebody could who has all rights to the file."""
    connection = sqlite3.connect(path, isolation_level=None)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(statement, values)
    connection.close()


def test_leaves_that_were_changed_in_a_copy_are_not_the_towers_word(tmp_path: Path) -> None:
    """A sealed head stands for its leaves: who edits them in a copy convicts nobody in the tower's name."""
    sealed = Sealed(tmp_path)
    position = sealed.receipts[3].read().position
    with SqliteSource(sealed.path) as source:
        commit = source.commit_at(position)
    assert commit is not None
    place = 32 * (position - commit.first_id)
    framed = commit.leaves[:place] + OTHER + commit.leaves[place + 32 :]
    _changed(sealed.path, "UPDATE commit_chain SET leaves = ? WHERE commit_no = ?", framed, commit.commit_no)

    assert verify_by_file(sealed.proof(), sealed.path).signed_by_tower is False


def test_files_that_a_signed_manifest_does_not_list_are_not_the_towers_word(kit: Kit, tmp_path: Path) -> None:
    """The manifest and its signature are good, a file of commits was written anew with another leaf."""
    target = tmp_path / "export"
    exported(kit.path, target)
    manifest = (target / "manifest.json").read_bytes()
    (target / "manifest.sig").write_bytes(signature_file(manifest, TOWER_ID, TOWER_KEY.sign))
    leaf = kit.receipts[3].read().leaf
    for path in (target / "commits").iterdir():
        rows = bytearray(zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes()))
        rows[rows.index(leaf)] ^= 1
        path.write_bytes(zstandard.ZstdCompressor(level=3, write_checksum=False).compress(bytes(rows)))

    found = verify_by_export(kit.proof(), target)

    assert found.signed_by_tower is False


@pytest.mark.parametrize("statement", ["DELETE FROM stored_events", "UPDATE stored_events SET state = x'9101'"])
def test_a_leaf_without_its_event_is_no_consent(tmp_path: Path, statement: str) -> None:
    """The chain still has the leaf; the event that it stands for is gone or another one."""
    made = Kit(tmp_path)
    _changed(made.path, f"{statement} WHERE rowid = ?", made.receipts[3].read().position)

    found = verify_by_file(made.proof(), made.path)

    assert ("CANNOT_TELL", "not_covered") == (found.verdict, found.reason)
    assert "audit verify" in found.message


def test_a_damaged_chain_convicts_nobody(tmp_path: Path) -> None:
    """The number of a commit in the middle was changed: the search by halves is led astray, the verdict is not."""
    made = Kit(tmp_path)
    _changed(made.path, "UPDATE commit_chain SET last_id = 1000 WHERE commit_no = 3")

    found = [verify_by_file(made.proof(number), made.path).verdict for number in range(4)]

    assert "MISBEHAVIOR" not in found


# ── findings of an audit ─────────────────────────────────────────────────────────────────────────────────


def test_good_receipts_are_no_finding(kit: Kit) -> None:
    """All that the tower gave."""
    with SqliteSource(kit.path) as source:
        assert [] == check(source, [Kept(f"receipt {n}", each) for n, each in enumerate(kit.receipts)])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"leaf": OTHER}, ExitCode.FORK),
        ({"head": OTHER}, ExitCode.FORK),
        ({"log_id": b"\x01" * 16}, ExitCode.FORK),
        ({"position": 5_000}, ExitCode.ROLLBACK),
        ({"upload_sha256": OTHER}, ExitCode.ROLLBACK),
    ],
)
def test_bad_receipts_are_findings(kit: Kit, changes: dict[str, object], code: ExitCode) -> None:
    """40 for another history, 41 for what is gone; the finding names the receipt and the position."""
    lie = kit.lie(**changes)
    with SqliteSource(kit.path) as source:
        (finding,) = check(source, [Kept("line 7", kit.receipts[1]), Kept("line 8", lie)])

    assert (code, lie.read().position) == (finding.code, finding.position)
    assert finding.sentence.startswith("line 8: ")


def test_a_wrong_signature_is_a_finding_of_its_own(kit: Kit) -> None:
    """31, for a changed body as for a changed signature."""
    body = kit.receipts[1].body
    bad = [SignedReceipt(body, bytes(64)), SignedReceipt(body[:-1] + b"\x00", kit.receipts[1].signature)]
    with SqliteSource(kit.path) as source:
        findings = check(source, [Kept("a", bad[0]), Kept("b", bad[1])])

    assert [ExitCode.SIGNATURE, ExitCode.SIGNATURE] == [finding.code for finding in findings]


def test_receipts_of_another_tower_than_the_named_one_are_findings(kit: Kit) -> None:
    """Anybody can sign a receipt with a key of his own: with the tower's name it accuses nobody."""
    with SqliteSource(kit.path) as source:
        (finding,) = check(source, [Kept("a", kit.receipts[1]), Kept("b", receipt_of(bytes(32), 5))], TOWER_ID)

    assert ExitCode.SIGNATURE == finding.code
    assert finding.sentence.startswith("b: ")


def test_many_receipts_search_the_log_for_restores_once(kit: Kit) -> None:
    """After a restore thousands may be missing; each would read the whole log."""
    lies = [Kept(f"line {number}", kit.lie(position=5_000 + number)) for number in range(20)]
    with SqliteSource(kit.path) as source:
        asked, rows = [], source.rows

        def counted(first: int, last: int) -> Any:
            asked.append(first)
            return rows(first, last)

        source.rows = counted  # type: ignore[method-assign]
        findings = check(source, lies)

    assert (20, 1) == (len(findings), len(asked))


# ── the SDK and the commands ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """A tower over a log in memory."""
    return Bench(tmp_path)


@pytest.mark.asyncio
async def test_the_sdk_asks_the_tower_itself(tower: Bench, kit: Kit) -> None:
    """An honest answer agrees; a tower that signed too much convicts itself, and its answer is handed out."""
    pair = open_pair()
    pair.updates(1)
    name = tower.registered(pair)
    config = StateChannelConfig(network="regtest")
    async with StateChannelClient(
        config, url="http://tower", token=TOKEN, party=pair.b, transport=tower.transport()
    ) as client:
        receipt = (await client.synchronize(pair.channel_id)).receipt
        assert receipt is not None
        honest = await client.verify_proof(receipt)
        lie = TOWER_KEY.receipt(
            msgspec.structs.replace(LogReceipt.decode(bytes.fromhex(receipt)[:204]), position=4_000).encode()
        )
        caught = await client.verify_proof(lie.encode().hex())
        by_log = await client.verify_proof(kit.proof(), log=kit.path)

    assert ("CONSISTENT", name, 1, True) == (honest.verdict, honest.channel_id, honest.sequence, honest.signed_by_tower)
    assert ("MISBEHAVIOR", "missing") == (caught.verdict, caught.reason)
    assert caught.answer is not None
    assert 2 * (ANSWER_SIZE + 64) == len(caught.answer)
    assert "CONSISTENT" == by_log.verdict


@pytest.mark.asyncio
async def test_an_answer_that_the_tower_did_not_sign_proves_nothing(tower: Bench) -> None:
    """Whoever stands between must not be able to accuse a tower."""
    pair = open_pair()
    pair.updates(1)
    tower.registered(pair)
    receipt = receipt_of(pair.channel_id, 1, key=TOWER_KEY)
    tower.services = msgspec.structs.replace(
        tower.services,
        receipts=msgspec.structs.replace(
            tower.services.receipts, check=lambda _shown: {"body": "00" * ANSWER_SIZE, "signature": "00" * 64}
        ),
    )
    config = StateChannelConfig(network="regtest")
    async with StateChannelClient(config, url="http://tower", token=TOKEN, transport=tower.transport()) as client:
        with pytest.raises(ReceiptForged, match="proves nothing"):
            await client.verify_proof(receipt.encode().hex())


def run(*words: str) -> Result:
    """A command."""
    return CliRunner().invoke(_main, list(words), env={"STATE_CHANNEL_NETWORK": "regtest"})


def stored(directory: Path, proof: str, *, raw: bool = False) -> str:
    """A file with a receipt."""
    path = directory / "receipt"
    path.write_bytes(bytes.fromhex(proof) if raw else proof.encode() + b"\n")
    return str(path)


@pytest.mark.parametrize(
    ("changes", "verdict", "code"),
    [
        ({}, "CONSISTENT", 0),
        ({"leaf": OTHER}, "MISBEHAVIOR", 40),
        ({"position": 5_000}, "MISBEHAVIOR", 41),
        ({"upload_sha256": OTHER}, "MISBEHAVIOR", 41),
        ({"log_id": b"\x01" * 16}, "CANNOT_TELL", 80),
    ],
)
def test_the_command_judges_a_receipt_beside_a_log(
    kit: Kit, tmp_path: Path, changes: dict[str, object], verdict: str, code: int
) -> None:
    """The exit codes are those of an audit; the document and the text say the same."""
    path = stored(tmp_path, kit.proof(**changes), raw=bool(changes))

    document = run("proof", "verify", path, "--log", str(kit.path), "--json")
    text = run("proof", "verify", path, "--log", str(kit.path))

    assert (code, code) == (document.exit_code, text.exit_code)
    assert verdict == json.loads(document.stdout)["verdict"]
    assert verdict in text.output


def test_the_command_judges_a_receipt_beside_an_export(kit: Kit, export_directory: Path, tmp_path: Path) -> None:
    """A directory instead of a file; a receipt that nobody signed ends with 1."""
    good = run("proof", "verify", stored(tmp_path, kit.proof()), "--export", str(export_directory), "--json")
    forged = stored(tmp_path, kit.proof()[:-128] + "00" * 64)
    bad = run("proof", "verify", forged, "--export", str(export_directory), "--json")

    assert (0, "CONSISTENT") == (good.exit_code, json.loads(good.stdout)["verdict"])
    assert (1, "INVALID") == (bad.exit_code, json.loads(bad.stdout)["verdict"])


def test_the_command_asks_a_tower(tower: Bench, kit: Kit, tmp_path: Path) -> None:
    """Without evidence on the disk the tower is asked, and signs."""
    del kit
    pair = open_pair()
    pair.updates(1)
    tower.registered(pair)
    stream = tower.context.channels.stream_of(pair.params.proposal_id)
    accept_state(tower.context, stream, pair.update_request(Side.B, 1))
    proof = reissue(tower.context, stream, "1").encode().hex()
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with tower_thread(tower.app) as url:
        done = run("proof", "verify", stored(tmp_path, proof), "--tower", url, "--token-file", str(token), "--json")

    assert 0 == done.exit_code, done.output
    assert json.loads(done.stdout)["signed_by_tower"] is True


@pytest.mark.parametrize(
    "words",
    [
        ("--log", "{log}", "--export", "{dir}"),
        ("--params", "{log}"),
        ("--published", "{log}"),
    ],
)
def test_options_that_do_not_belong_to_a_receipt(kit: Kit, tmp_path: Path, words: tuple[str, ...]) -> None:
    """Exit code 2 and a sentence, before anything is opened."""
    filled = [word.format(log=kit.path, dir=kit.directory) for word in words]

    assert 2 == run("proof", "verify", stored(tmp_path, kit.proof()), *filled).exit_code


def test_a_file_that_only_begins_like_a_receipt(kit: Kit, tmp_path: Path) -> None:
    """Exit code 2 with what is wrong; a proof about a state takes no log."""
    cut = run("proof", "verify", stored(tmp_path, kit.proof()[:-2]), "--log", str(kit.path))
    proof = run("proof", "verify", stored(tmp_path, "504e5331" + "00" * 90), "--log", str(kit.path))

    assert (2, 2) == (cut.exit_code, proof.exit_code)
    assert "RCP2" in cut.output
    assert "are for receipts" in proof.output


def kept(directory: Path, *receipts: SignedReceipt) -> str:
    """A directory with a file of receipts, as clients keep them."""
    folder = ReceiptFolder(directory / "receipts")
    for signed in receipts:
        folder.add(signed)
    return str(directory / "receipts")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "code"),
    [({}, 0), ({"head": OTHER}, 40), ({"position": 5_000}, 41), ({"upload_sha256": OTHER}, 41)],
)
def test_the_audit_takes_receipts(kit: Kit, tmp_path: Path, changes: dict[str, object], code: int) -> None:
    """Every receipt of the clients has its upload in the log, or the report names the file and the line."""
    folder = kept(tmp_path, kit.receipts[1], kit.lie(**changes))

    done = run("audit", "verify", "--log", str(kit.path), "--receipts", folder, "--no-domain-rules", "--json")

    assert code == done.exit_code, done.output
    named = [finding for finding in json.loads(done.stdout)["findings"] if ".receipts:2: " in finding["sentence"]]
    assert len(named) == (code > 0)


@pytest.mark.slow
def test_the_audit_names_a_receipt_that_nobody_signed(kit: Kit, tmp_path: Path) -> None:
    """31, and 2 for a line that is no receipt at all."""
    bad = SignedReceipt(kit.receipts[1].body, bytes(64))
    folder = Path(kept(tmp_path, bad))
    words = ("audit", "verify", "--log", str(kit.path), "--no-domain-rules", "--receipts")

    assert 31 == run(*words, str(folder)).exit_code
    next(folder.iterdir()).write_text("no receipt")
    unread = run(*words, str(folder))

    assert 2 == unread.exit_code
    assert ".receipts:1" in unread.output
