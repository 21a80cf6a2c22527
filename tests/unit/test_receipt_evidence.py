"""Whose word a log or an export is, and what an audit finds in receipts."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from domain.contract.receipts import SignedReceipt
from domain.events import LOG_STREAM, HeadSealed, envelopes
from domain.log_chain import sealed_head_hash
from tests.support.exports import exported
from tests.support.receipt_kit import OTHER, Kit
from tests.support.receipts import receipt_of
from tests.support.towers import TOWER_ID, TOWER_KEY, Bench
from watchtower.audit.findings import ExitCode
from watchtower.audit.receipts import Kept, check
from watchtower.audit.sealed import is_sealed
from watchtower.client.tower.receipt_proof import verify_by_export, verify_by_file
from watchtower.store.exports.signature import signature_file
from watchtower.store.sqlite_source import SqliteSource
from watchtower.store.writer import LogWriter


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Made once; nobody changes it."""
    return Kit(tmp_path_factory.mktemp("kit"))


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


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """A tower over a log in memory."""
    return Bench(tmp_path)
