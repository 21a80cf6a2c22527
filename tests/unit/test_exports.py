"""Exports: the same log gives the same bytes, and an export reads as the log it was made from."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
import zstandard

from domain.log_chain import entry
from tests.support.exports import copied, exported, fold, long_log, small_files
from tests.support.stores import note
from watchtower.store.create import open_store
from watchtower.store.exports.checked import LogDamaged
from watchtower.store.exports.manifest import read_manifest
from watchtower.store.exports.records import ExportMalformed, Frame, RecordWriter, decode_frame, salvage, split_records
from watchtower.store.exports.rows import read_commit, read_entry, write_commit
from watchtower.store.exports.source import ExportSource
from watchtower.store.exports.write import OutOfRange, Wish, export
from watchtower.store.source import Commit, LogSource, RawRow, Unreadable
from watchtower.store.sqlite_source import SqliteSource

pytestmark = pytest.mark.slow

EVERYTHING = (1, 10**6)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with some hundred events that no test changes."""
    return long_log(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def made(log: Path) -> Path:
    """Its export, in several small files."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        small_files(monkeypatch)
        exported(log, log.with_name("export"))
    return log.with_name("export")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports that a test makes have the same small files."""
    small_files(monkeypatch)


def bytes_of(directory: Path) -> dict[str, bytes]:
    """Every file of a directory by its name inside."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_an_export_reads_as_the_log_it_was_made_from(log: Path, made: Path) -> None:
    """Rows, chain, name and end are those of the source."""
    with SqliteSource(log) as source, ExportSource(made) as export_:
        assert source.meta == export_.meta
        assert source.rows(*EVERYTHING) == export_.rows(*EVERYTHING)
        assert source.commits(*EVERYTHING) == export_.commits(*EVERYTHING)
        assert (source.last_id(), source.last_commit()) == (export_.last_id(), export_.last_commit())
        assert source.rows(37, 97) == export_.rows(37, 97)
        assert source.commit_at(41) == export_.commit_at(41)


def test_an_address_opens_the_same_export(made: Path) -> None:
    """Workers of an audit open it by its address."""
    with ExportSource(made) as export_, export_.address.open() as again:
        assert export_.last_commit() == again.last_commit()


def test_exporting_twice_gives_equal_bytes(tmp_path: Path, log: Path, made: Path) -> None:
    """No time, path or random number enters."""
    exported(log, tmp_path / "again")

    assert bytes_of(made) == bytes_of(tmp_path / "again")


def test_a_longer_log_gives_the_same_files_up_to_a_position(tmp_path: Path, log: Path, made: Path) -> None:
    """What the tower appends meanwhile does not change an export that ends earlier."""
    longer = tmp_path / "log.db"
    shutil.copy(log, longer)
    with open_store(longer) as store:
        store.append([note("k" + "z" * 22, 1)])
    exported(longer, tmp_path / "again", Wish(until=read_manifest(made).last_position))

    assert bytes_of(made) == bytes_of(tmp_path / "again")


def test_whole_commits_are_exported(tmp_path: Path, log: Path) -> None:
    """A range that cuts commits is widened to their borders, and names the head before it."""
    with SqliteSource(log) as source:
        wide = next(commit for commit in source.commits(*EVERYTHING) if commit.leaf_count > 2)
        before = source.commits(wide.commit_no - 1, 1)[0]
    manifest = exported(log, tmp_path / "part", Wish(wide.first_id + 1, wide.first_id + 1))

    assert (wide.first_id, wide.last_id) == (manifest.first_position, manifest.last_position)
    assert (before.head.hex(), wide.head.hex()) == (manifest.start_head, manifest.head)


def test_entries_only_leaves_payloads_out(tmp_path: Path, log: Path) -> None:
    """Streams, versions, topics and hashes are there, states are not, and reading rows says so."""
    exported(log, tmp_path / "entries", Wish(entries_only=True))
    with SqliteSource(log) as source, ExportSource(tmp_path / "entries") as export_:
        expected = [
            entry(stream, version, topic, state) for _, stream, version, topic, state in source.rows(*EVERYTHING)
        ]

        assert expected == export_.entries(1, export_.last_id())
        assert not (tmp_path / "entries" / "events").exists()
        with pytest.raises(Unreadable, match="entries only"):
            export_.rows(1, 1)


def test_the_readme_tells_the_truth(made: Path) -> None:
    """sha256sum checks the files, any zstd reader sees `u32 length | bytes`, entries hash to leaves as described."""
    summed = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=made, check=False)
    name = min(path.name for path in (made / "events").iterdir())
    with (made / "events" / name).open("rb") as file:
        states, rest = split_records(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read())
    with (made / "entries" / name).open("rb") as file:
        entries, _ = split_records(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read())
    with ExportSource(made) as export_:
        first = export_.commits(1, 1)[0]

    assert 0 == summed.returncode
    assert (40, 0) == (len(states), rest)
    assert [read_entry(raw).state_hash for raw in entries] == [hashlib.sha256(state).digest() for state in states]
    assert first.leaves == hashlib.sha256(b"\0" + entries[0]).digest()


def test_an_existing_target_or_a_position_outside_the_log_is_refused(tmp_path: Path, log: Path) -> None:
    """Nothing is written over, and the answer names the positions that there are."""
    with pytest.raises(OutOfRange, match="exists already"):
        exported(log, tmp_path)
    with pytest.raises(OutOfRange, match="the log has the positions 1 to"):
        exported(log, tmp_path / "out", Wish(until=10**6))
    with pytest.raises(OutOfRange):
        exported(log, tmp_path / "out", Wish(first=9, until=8))
    assert [] == list(tmp_path.iterdir())


class Broken(SqliteSource):
    """A source that gives up, or shows another state, at one event."""

    fails_at = 0
    changed = 0

    def rows(self, first_id: int, last_id: int) -> list[RawRow]:
        """Rows as stored, but for one."""
        if first_id <= self.fails_at <= last_id:
            raise Unreadable("the disk is gone")
        return [(*row[:4], b"\x90") if row[0] == self.changed else row for row in super().rows(first_id, last_id)]


def test_a_damaged_log_is_not_exported_as_if_it_were_whole(tmp_path: Path, log: Path) -> None:
    """The answer names the event; the target does not exist."""
    with Broken(log) as source:
        source.changed = 77
        with pytest.raises(LogDamaged, match="event 77") as caught:
            export(source, tmp_path / "out", Wish(), fold, lambda _: None)

    assert 77 == caught.value.position
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    ["head = zeroblob(32)", "head = 5", "last_id = last_id - 1", "last_id = 'x'", "first_leaf = 0", "commit_no = -4"],
)
@pytest.mark.parametrize("number", [40, 93])
def test_a_log_with_a_damaged_chain_is_not_exported(tmp_path: Path, log: Path, number: int, change: str) -> None:
    """Wherever the commit stands; a tail that no commit holds is not left out in silence."""
    damaged = tmp_path / "log.db"
    shutil.copy(log, damaged)
    connection = sqlite3.connect(damaged, isolation_level=None)
    connection.execute("DROP TRIGGER chain_no_update")
    edited = connection.execute(f"UPDATE commit_chain SET {change} WHERE commit_no = {number}").rowcount
    connection.close()

    assert 1 == edited
    with pytest.raises(LogDamaged):
        exported(damaged, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_interrupted_export_of_a_log_that_was_replaced_begins_anew(tmp_path: Path, log: Path) -> None:
    """The new log has the name of the old one and another history: the export is of the new one alone."""
    other = long_log(tmp_path)
    with open_store(other) as store:
        store.append([note("k" + "z" * 22, 1)])
    with Broken(log) as source:
        source.fails_at = 100
        with pytest.raises(Unreadable):
            export(source, tmp_path / "out", Wish(), fold, lambda _: None)
    state = tmp_path / "out.partial" / "progress.json"
    with SqliteSource(log) as source:
        state.write_text(state.read_text().replace(source.last_commit().head.hex(), "ab" * 32))

    exported(other, tmp_path / "out")
    exported(other, tmp_path / "fresh")

    assert bytes_of(tmp_path / "fresh") == bytes_of(tmp_path / "out")


def test_a_finished_file_that_was_lost_is_made_again(tmp_path: Path, log: Path, made: Path) -> None:
    """A power cut may take what was written before the interruption."""
    with Broken(log) as source:
        source.fails_at = 100
        with pytest.raises(Unreadable):
            export(source, tmp_path / "out", Wish(), fold, lambda _: None)
    next((tmp_path / "out.partial" / "entries").iterdir()).write_bytes(b"")

    exported(log, tmp_path / "out")

    assert bytes_of(made) == bytes_of(tmp_path / "out")


def test_an_interrupted_export_goes_on_where_it_stopped(
    tmp_path: Path, log: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second call reads nothing again that was finished, and the bytes are those of one run."""
    monkeypatch.setattr("watchtower.store.exports.checked.PAGE", 10)
    with Broken(log) as source:
        source.fails_at = 100
        with pytest.raises(Unreadable):
            export(source, tmp_path / "out", Wish(), fold, lambda _: None)
        source.fails_at = 3
        export(source, tmp_path / "out", Wish(), lambda *_: read_manifest(made).digests, lambda _: None)

    assert bytes_of(made) == bytes_of(tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()


def test_another_wish_begins_anew(tmp_path: Path, log: Path) -> None:
    """What an interrupted export of another kind left behind is not mixed in."""
    with Broken(log) as source:
        source.fails_at = 100
        with pytest.raises(Unreadable):
            export(source, tmp_path / "out", Wish(), fold, lambda _: None)
        export(source, tmp_path / "out", Wish(entries_only=True, until=50), fold, lambda _: None)

    assert {"README.txt", "manifest.json", "SHA256SUMS", "entries", "commits"} == {
        path.name for path in (tmp_path / "out").iterdir()
    }


def test_a_foreign_directory_in_the_way_is_left_alone(tmp_path: Path, log: Path) -> None:
    """Only what an export began is removed."""
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "mine").write_text("precious")

    with pytest.raises(Exception, match="was not begun by an export"):
        exported(log, tmp_path / "out")

    assert "precious" == (tmp_path / "out.partial" / "mine").read_text()


def test_the_stream_key_is_in_no_file(log: Path, made: Path) -> None:
    """Neither the key of stream names nor its hexadecimal digits, compressed or not."""
    from tests.fakes.store import STREAM_KEY

    readable = b"".join(bytes_of(made).values())
    for path in made.rglob("*.zst"):
        with path.open("rb") as file:
            readable += zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()

    assert STREAM_KEY in log.read_bytes()
    assert STREAM_KEY not in readable
    assert STREAM_KEY.hex().encode() not in readable


def test_records_of_a_frame_come_back(tmp_path: Path) -> None:
    """A frame is closed at 1 MiB; damaged frames give what stands before the damage and never raise."""
    writer = RecordWriter(tmp_path, "events/000000000001.zst", 1)
    states = [bytes((number,)) * 300_000 for number in range(9)]
    for state in states:
        writer.add(state)
    file = writer.finish()
    raw = (tmp_path / file.name).read_bytes()

    assert [4, 4, 1] == [frame.records for frame in file.frames]
    assert states[:4] == decode_frame(raw[: file.frames[0].size], file.frames[0])
    assert states[:1] == salvage(raw[: file.frames[0].size - 1], 4)[:1]
    assert [] == salvage(b"no frame at all", 9)


@pytest.mark.parametrize("size", [0, 3])
def test_a_frame_with_another_number_of_records_is_refused(tmp_path: Path, size: int) -> None:
    """The manifest says how many there are."""
    writer = RecordWriter(tmp_path, "events/000000000001.zst", 1)
    writer.add(b"one")
    file = writer.finish()

    with pytest.raises(ExportMalformed, match="more, not"):
        decode_frame((tmp_path / file.name).read_bytes(), Frame(file.size, size))


def test_a_frame_that_would_fill_the_memory_is_refused() -> None:
    """A few bytes may claim to be gigabytes."""
    bomb = zstandard.ZstdCompressor(level=3).compress(bytes(8 << 20))

    with pytest.raises(ExportMalformed, match="larger than any frame"):
        decode_frame(bomb, Frame(len(bomb), 1))
    assert 9 == len(salvage(bomb, 9))


@pytest.mark.parametrize("raw", [b"", b"wtlog/v1", b"wtlog/v1\x01" + bytes(60), entry("log", 1, "lg01", b"")[:-1]])
def test_bytes_that_are_no_entry_are_refused(raw: bytes) -> None:
    """Cut, empty, or of another format."""
    with pytest.raises(ExportMalformed, match="no entry"):
        read_entry(raw)


def test_rows_of_the_chain_come_back() -> None:
    """What is written is read; other lengths are refused."""
    commit = Commit(7, 11, 2, 13, b"\x05" * 32, b"\x06" * 64)

    assert commit == read_commit(write_commit(commit))
    with pytest.raises(ExportMalformed, match="no row of a commit chain"):
        read_commit(write_commit(commit)[:-1])


def test_a_source_tells_of_damaged_files(made: Path, tmp_path: Path) -> None:
    """What a database finds by its own check is found by digests here; there are no triggers to compare."""
    copy = copied(made, tmp_path / "copy")
    with ExportSource(copy) as export_:
        source: LogSource = export_
        before = (source.differing_objects(), source.storage_faults())
        (copy / "README.txt").write_text("something else")

        assert ([], []) == before
        assert ["README.txt"] == [fault.split()[0] for fault in source.storage_faults()]
