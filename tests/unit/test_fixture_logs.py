"""Logs of released versions stay readable: each opens, verifies, folds and exports as it did when it was written."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

import watchtower
from domain.chain import chain_hash
from domain.events import TOPICS
from projections.catalog import PROJECTIONS
from tests.support.exports import fold
from tests.support.fixture_log import LOGS, facts_of, seen, unpack
from tests.support.receipts import KEY
from tests.support.tampering import SqliteVictim, chained
from watchtower.audit.findings import ExitCode
from watchtower.cli import _exit_code, _main
from watchtower.store.create import open_reader, open_store
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.exports.source import ExportSource
from watchtower.store.exports.write import Wish, export
from watchtower.store.segments.source import open_log_files
from watchtower.store.source import RawRow
from watchtower.store.sqlite_source import SqliteSource

FIXTURES = sorted(path.parent for path in LOGS.glob("*/*/expected.json"))
BY_FIXTURE = pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: f"{path.parent.name}-{path.name}")
FOLDED = {projection.name: projection.version for projection in PROJECTIONS}
GAPS = {False: ExitCode.PASSED, True: ExitCode.INCOMPLETE}
"""How the audit of an export ends, by whether its read models were folded by other versions of the projections."""

QUIET = ("--json", "--progress", "none", "--jobs", "1", "--tower-key", KEY.tower_id.hex())


@pytest.fixture
def log(fixture: Path, tmp_path: Path) -> Path:
    """The unpacked log of a fixture."""
    return unpack(fixture, tmp_path / "log")


def expected_of(fixture: Path) -> dict[str, Any]:
    """What the version that wrote it made of it."""
    found: dict[str, Any] = json.loads((fixture / "expected.json").read_text())
    return found


def audit(*arguments: object) -> Result:
    """An audit command in this process."""
    return CliRunner().invoke(_main, ["audit", *map(str, arguments)], catch_exceptions=False)


def test_the_present_version_has_its_logs() -> None:
    """A version is released with its logs: `python -m tests.support.fixture_log`."""
    assert [] != [fixture for fixture in FIXTURES if fixture.parent.name == watchtower.__version__]


@BY_FIXTURE
def test_a_log_opens_with_its_events_and_its_head(fixture: Path, log: Path) -> None:
    """All start checks pass; every event is read as an event of today; no topic was ever taken away."""
    expected = expected_of(fixture)

    with open_store(log, chain_hash=chain_hash("regtest")) as store, closing(open_log_files(log)) as source:
        found = facts_of(source)
        read = store.read_log(0, expected["last_id"] + 1)

    assert {name: expected[name] for name in found} == found
    assert expected["last_id"] == len(read)
    assert set() == set(expected["topics"]) - set(TOPICS)


@BY_FIXTURE
def test_a_log_folds_to_the_same_rows(fixture: Path, log: Path) -> None:
    """What a column said then it says today; newer columns may have come."""
    expected = expected_of(fixture)

    with open_reader(log) as reader:
        found = seen(reader)

    shown = [
        {name: now[name] for name in then} for then, now in zip(expected["channels"], found["channels"], strict=True)
    ]
    assert expected["channels"] == shown
    assert expected["timeline"] == found["timeline"]
    assert [] != shown


@pytest.mark.slow
@BY_FIXTURE
def test_a_log_passes_every_audit(fixture: Path, log: Path) -> None:
    """Bytes, order, signatures, rules of the domain and seals, of the log and of the export made then.

    The export tells digests of read models; those that a later version folds in another way are its only gap.
    """
    unlike = json.loads((fixture / "export" / "manifest.json").read_text())["digests"]["versions"] != FOLDED
    results = audit("verify", "--log", log, *QUIET), audit("verify-export", fixture / "export", *QUIET)

    assert [0, int(GAPS[unlike])] == [result.exit_code for result in results], [result.output for result in results]
    assert int(unlike) == sum(json.loads(results[1].output)["counts"].values())


@pytest.mark.slow
@BY_FIXTURE
def test_a_log_is_exported_with_the_rows_of_then(fixture: Path, log: Path, tmp_path: Path) -> None:
    """The export made today reads as the one of then, and as the log."""
    with closing(open_log_files(log)) as source:
        last = source.last_id()
        rows = source.rows(1, last)
        export(source, tmp_path / "now", Wish(), fold, lambda _: None)
    with ExportSource(fixture / "export") as then, ExportSource(tmp_path / "now") as now:
        assert rows == then.rows(1, last) == now.rows(1, last)
        assert then.last_commit() == now.last_commit()


# ── a log of a later version ─────────────────────────────────────────────────────────────────────────────

STORIES = LOGS / watchtower.__version__ / "stories"
QUICK = ("--json", "--progress", "none", "--jobs", "1")


@pytest.fixture
def later(tmp_path: Path) -> SqliteVictim:
    """A log of the present version that a test makes one of a later version."""
    victim = SqliteVictim(tmp_path)
    victim.path.unlink()
    unpack(STORIES, tmp_path)
    return victim


def rewritten(victim: SqliteVictim, rows: list[RawRow]) -> None:
    """Put these events into the log, with the chain that belongs to them."""
    with victim.source() as source:
        victim.replace(chained(source.meta, rows, [1] * len(rows)))


def rows_of(victim: SqliteVictim) -> list[RawRow]:
    """All events."""
    with victim.source() as source:
        return source.rows(1, source.last_id())


def test_a_later_schema_is_refused_with_exit_3(later: SqliteVictim) -> None:
    """Whoever opens it is told which schemas are known, and nothing is changed."""
    connection = sqlite3.connect(later.path, isolation_level=None)
    guard = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'meta_no_update'").fetchone()[0]
    for each in ("DROP TRIGGER meta_no_update", "UPDATE log_meta SET schema = 99", guard, "PRAGMA user_version = 99"):
        connection.execute(each)
    connection.close()
    before = later.path.read_bytes()

    for way in (open_store, open_reader, SqliteSource, _verified, _migrated):
        with pytest.raises(StoreCheckFailed, match="knows the schemas 1, 2, the log has 99; run the version") as caught:
            way(later.path)
        assert 3 == _exit_code(caught.value)
    assert before == later.path.read_bytes()


def _verified(path: Path) -> None:
    audit("verify", "--log", path, *QUICK)


def _migrated(path: Path) -> None:
    CliRunner().invoke(_main, ["store", "migrate", "--url", f"sqlite:{path}"], catch_exceptions=False)


def test_a_later_topic_stops_a_start_and_is_named_by_audits(later: SqliteVictim, tmp_path: Path) -> None:
    """Exit 3 at the start, 71 in an audit of the log: with the position, the topic and what to do."""
    rows = rows_of(later)
    rewritten(later, [*rows, (len(rows) + 1, "cssssssssssssssssssssss", 100, "zz99", b"\x91\x01")])

    verified = audit("verify", "--log", later.path, "--no-domain-rules", *QUICK)
    findings = [(each["code"], each["position"], each["topic"]) for each in json.loads(verified.stdout)["findings"]]

    with pytest.raises(StoreCheckFailed, match=r"unknown topic 'zz99'.*run that version") as caught:
        open_store(later.path)
    assert 3 == _exit_code(caught.value)
    assert (71, len(rows) + 1, "zz99") in findings


@pytest.mark.slow
def test_later_fields_at_the_end_of_every_event_are_ignored(later: SqliteVictim) -> None:
    """A downgrade within one schema: the same rows, and an audit with all rules passes."""
    longer = [
        (*row[:4], msgspec.msgpack.encode([*msgspec.msgpack.decode(row[4]), b"later", 7])) for row in rows_of(later)
    ]
    rewritten(later, longer)
    expected = expected_of(STORIES)

    with open_store(later.path) as store:
        found = seen(store)
    verified = audit("verify", "--log", later.path, *QUICK)

    assert {name: expected[name] for name in found} == found
    assert 0 == verified.exit_code, verified.output
