"""Random bytes of a log file are changed: whatever belongs to the log is found, and the event is named."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from domain.events import StateUpdated, encode_payload
from tests.bench.bulk_log import write_rows
from tests.support.examples import examples
from tests.support.golden import example
from tests.support.tampering import audit, state
from watchtower.audit.findings import ExitCode
from watchtower.ports import StoreError
from watchtower.store.sqlite_source import open_file

FLIPS = 200

Tables = dict[str, list[tuple[object, ...]]]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A log file of 121 events, small and large ones, in 25 commits."""
    large = encode_payload(example(StateUpdated))
    rows = [
        (f"c{number % 7:022d}", number // 7 + 1, *(("st06", large) if number % 3 else ("re06", state(number))))
        for number in range(120)
    ]
    path = write_rows(tmp_path_factory.mktemp("image"), rows, per_commit=5)
    return path.read_bytes()


@pytest.mark.slow
def test_every_changed_byte_of_the_log_is_found(image: bytes, tmp_path: Path) -> None:
    """Two hundred bytes anywhere in the file: found, or no byte of the log at all; a changed event is named."""
    honest, chance = _tables(_written(tmp_path, image)), random.Random(5)
    outcomes = {"found": 0, "unused": 0}
    for _ in range(examples(FLIPS)):
        place = chance.randrange(len(image))
        path = _written(tmp_path, _changed(image, place, chance.randrange(1, 256)))
        named = _named(path, tmp_path)
        if named is None:
            assert honest == _tables(path), place
            outcomes["unused"] += 1
            continue
        outcomes["found"] += 1
        assert _changed_ids(honest, path) <= named, place

    assert outcomes["found"] > outcomes["unused"] > 0


def test_every_changed_byte_of_an_event_is_found_and_named(image: bytes, tmp_path: Path) -> None:
    """Two hundred bytes in the states of events: the event is named, and no other one."""
    honest, chance = _tables(_written(tmp_path, image)), random.Random(6)
    for _ in range(examples(FLIPS) // 2):
        event_id, *_, stored = chance.choice(honest["stored_events"][1:])
        start = _place(image, honest, int(event_id))
        place = start + chance.randrange(len(bytes(stored)))
        path = _written(tmp_path, _changed(image, place, chance.randrange(1, 256)))

        with open_file(path) as source:
            report = audit(source, tmp_path / "scratch")

        assert ExitCode.INTEGRITY == report.exit_code
        assert [event_id] == [finding.position for finding in report.findings if finding.code == ExitCode.INTEGRITY]


def _place(image: bytes, honest: Tables, event_id: int) -> int:
    """Where the state of an event stands in the file: behind its stream, version and topic."""
    _, stream, version, topic, stored = honest["stored_events"][event_id - 1]
    record = bytes(stream) + (b"" if version == 1 else bytes([int(version)])) + bytes(topic) + bytes(stored)
    return image.index(record) + len(record) - len(bytes(stored))


def _written(directory: Path, content: bytes) -> Path:
    path = directory / "log.db"
    path.write_bytes(content)
    return path


def _changed(image: bytes, place: int, mask: int) -> bytes:
    changed = bytearray(image)
    changed[place] ^= mask
    return bytes(changed)


def _named(path: Path, directory: Path) -> set[int | None] | None:
    """Positions that an audit names; None if it passes. A file that cannot be opened names everything."""
    try:
        with open_file(path) as source:
            report = audit(source, directory / "scratch")
    except StoreError:
        return set(range(122))
    if report.exit_code == ExitCode.PASSED:
        return None
    return {finding.position for finding in report.findings}


def _changed_ids(honest: Tables, path: Path) -> set[int]:
    """The event whose row differs, if exactly one does and everything can be read."""
    try:
        found = _tables(path)["stored_events"]
    except (sqlite3.Error, UnicodeDecodeError):
        return set()
    pairs = list(zip(honest["stored_events"], found, strict=False))
    differing = {int(before[0]) for before, after in pairs if before != after}
    return differing if len(differing) == 1 and len(found) == len(honest["stored_events"]) else set()


def _tables(path: Path) -> Tables:
    """Everything that the file means, read by SQLite alone; names of streams are made with `stream_key`."""
    connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    connection.text_factory = bytes
    try:
        return {
            "stored_events": connection.execute("SELECT * FROM stored_events NOT INDEXED ORDER BY rowid").fetchall(),
            "commit_chain": connection.execute("SELECT * FROM commit_chain ORDER BY commit_no").fetchall(),
            "log_meta": connection.execute(
                "SELECT log_id, origin, segment, first_leaf, first_id, prev_head, schema FROM log_meta"
            ).fetchall(),
            "sqlite_master": connection.execute("SELECT name, sql FROM sqlite_master").fetchall(),
            "sqlite_sequence": connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall(),
        }
    finally:
        connection.close()
