"""A rebuild that folds parts of the log leaves exactly the views of one that goes through it page by page."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.events import Envelope, PreimageLearned, Recorded, Source, StateUpdated, encode_payload
from projections.catalog import PROJECTIONS
from projections.parts import can_be_parted
from tests.bench.bulk_log import BulkRow, append_rows, write_rows
from tests.bench.scale_log import channel_log
from tests.support.golden import example
from tests.support.histories import OTHER_STREAM, History, interleaved
from tests.unit.test_projector import Sums
from watchtower.store import assemble as assembling
from watchtower.store import rebuild as rebuilding
from watchtower.store.create import open_reader
from watchtower.store.rebuild import Digests, digests, rebuild
from watchtower.store.views import SqliteRows

STEPS = [1, 3, 11, 2, 5, 17, 9, 1, 2, 30, 40, 6]
CHANNELS = 30


def as_row(recorded: Recorded) -> BulkRow:
    """An event as it is stored."""
    event = recorded.envelope
    return event.stream, event.version, event.topic, encode_payload(event.payload)


def learned(stream: str, version: int, payment_hash: bytes, txid: bytes | None) -> BulkRow:
    """A preimage that a channel has shown."""
    payload = PreimageLearned(
        recorded_at=version, payment_hash=payment_hash, preimage=bytes(32), source=Source.BLOCK, txid=txid
    )
    return as_row(Recorded(0, Envelope(stream, version, payload.TOPIC, payload)))


def rows() -> Iterator[BulkRow]:
    """Plain channels, two with all that can happen to one, a payment through two of them, a stream that is broken."""
    plain = list(channel_log(CHANNELS, 8 * CHANNELS))
    yield from plain
    first, second = History().play(STEPS), History(OTHER_STREAM).play(STEPS[3:])
    yield from (as_row(each) for each in interleaved(first.events, second.events) if each.envelope.stream != "chain")
    yield learned(first.stream, len(first.events) + 1, b"\x01" * 32, None)
    yield learned(second.stream, len(second.events) + 1, b"\x01" * 32, bytes(32))
    broken = "c" + "b" * 22
    yield broken, 1, StateUpdated.TOPIC, encode_payload(example(StateUpdated))
    yield broken, 2, StateUpdated.TOPIC, encode_payload(example(StateUpdated))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log file with these events."""
    return write_rows(tmp_path, rows())


def outcome(views: Path) -> tuple[Digests, list[tuple[object, ...]]]:
    """Digests and quarantine of a views file."""
    found = SqliteRows(views)
    result = digests(found), found.select("SELECT * FROM quarantine ORDER BY 1, 2", ())
    assert ["ok"] == [row[0] for row in found.select("PRAGMA integrity_check", ())]
    found.close()
    return result


@pytest.mark.parametrize(("jobs", "streams"), [(1, 260_000), (1, 5), pytest.param(2, 9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("until", [None, 150])
def test_parts_make_the_views_of_pages(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int, streams: int, until: int | None
) -> None:
    """With one process or two, in one pass or several, to the end or not: rows, positions and quarantine are equal."""
    monkeypatch.setattr(assembling, "JOBS", jobs)
    monkeypatch.setattr(assembling, "STREAMS", streams)
    with open_reader(log) as reader:
        rebuild(tmp_path / "pages.db", reader, until=until)
        monkeypatch.setattr(rebuilding, "LARGE", 1)
        told: list[tuple[int, int]] = []
        rebuild(tmp_path / "parts.db", reader, until=until, on_progress=lambda done, total: told.append((done, total)))
        end = until or reader.last_id()

    assert outcome(tmp_path / "pages.db") == outcome(tmp_path / "parts.db")
    assert (end, end) == told[-1]
    assert [] == [path for path in tmp_path.iterdir() if ".rebuild" in path.name]


@pytest.mark.parametrize("letter", "-09AZ_az")
def test_every_name_of_a_channel_is_in_one_range(letter: str) -> None:
    """Names are random: a channel whose name nobody folds would not be watched, whatever letter it begins with."""
    names = ["c" + letter * 22, f"c{letter}" + "-" * 21, f"c{letter}" + "z" * 21]

    found = [sum(low <= name < high for low, high in assembling._ranges(n)) for n in range(1, 65) for name in names]

    assert [1] * 64 * 3 == found


def test_a_file_made_from_parts_goes_on_page_by_page(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that come later are applied to it as to any other."""
    with open_reader(log) as reader:
        monkeypatch.setattr(rebuilding, "LARGE", 1)
        monkeypatch.setattr(assembling, "JOBS", 1)
        rebuild(tmp_path / "views.db", reader, until=100)
        views = SqliteRows(tmp_path / "views.db")
        for _ in rebuilding.Projector(reader, views, PROJECTIONS, page=7).catch_up():
            pass
        views.close()
        monkeypatch.setattr(rebuilding, "LARGE", 10**9)
        rebuild(tmp_path / "pages.db", reader)

    assert outcome(tmp_path / "pages.db") == outcome(tmp_path / "views.db")


def test_streams_that_are_left_out_leave_no_row(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels with damaged events are not in the views."""
    monkeypatch.setattr(rebuilding, "LARGE", 1)
    monkeypatch.setattr(assembling, "JOBS", 1)
    with open_reader(log) as reader:
        reader.damaged = frozenset({OTHER_STREAM})
        rebuild(tmp_path / "views.db", reader)

    connection = sqlite3.connect(tmp_path / "views.db")
    streams = {row[0] for row in connection.execute("SELECT stream FROM channel_info")}
    connection.close()
    assert CHANNELS + 1 == len(streams)
    assert OTHER_STREAM not in streams


def test_an_event_that_cannot_be_decoded_ends_a_rebuild(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same error as page by page, also out of another process; the views that were there stay."""
    with open_reader(log) as reader:
        rebuild(tmp_path / "views.db", reader)
    before = (tmp_path / "views.db").read_bytes()
    append_rows(log, [("c" + "z" * 22, 1, "st06", b"\xc1")])
    monkeypatch.setattr(rebuilding, "LARGE", 1)
    monkeypatch.setattr(assembling, "JOBS", 1)

    with open_reader(log) as reader, pytest.raises(rebuilding.DomainError, match="st06"):
        rebuild(tmp_path / "views.db", reader)

    assert before == (tmp_path / "views.db").read_bytes()


def test_only_known_kinds_of_projections_take_parts() -> None:
    """One that wants every event in order is folded page by page."""
    assert can_be_parted(PROJECTIONS)
    assert not can_be_parted((*PROJECTIONS, Sums()))
