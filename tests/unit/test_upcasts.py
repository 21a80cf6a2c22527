"""Events of topics that are no longer written: every reader gets them as events of today, their bytes stay."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from time import monotonic

import msgspec
import pytest

from domain import events
from domain.channel_fold import fold
from domain.errors import LogCorrupt
from domain.events import (
    EVENT_TYPES,
    RETIRED,
    TOPICS,
    UPCASTS,
    WRITTEN,
    AlertCleared,
    AlertKind,
    AlertRaised,
    Envelope,
    Upcast,
    decode_payload,
    encode_payload,
    topics_of,
)
from tests.support.exports import audited, exported
from tests.support.golden import EXAMPLES
from tests.support.histories import OTHER_STREAM, History, interleaved
from tests.support.retired import NamedAlert, NumberedAlert, aged, retire_alerts, stored
from tests.support.scenes import STREAM
from tests.support.stores import new_log
from watchtower.audit.findings import ExitCode
from watchtower.audit.progress import Progress
from watchtower.audit.resume import Notebook
from watchtower.audit.verify import Audit
from watchtower.audit.verify import Wish as AuditWish
from watchtower.history.channels import PastChannels
from watchtower.history.points import point_at
from watchtower.ports import StoreError
from watchtower.store.create import open_store
from watchtower.store.mapper import EnvelopeMapper
from watchtower.store.part import read_all
from watchtower.store.rebuild import digests, open_views_reader, rebuild
from watchtower.store.sqlite_source import SqliteSource

OLD = NamedAlert(recorded_at=5, height=120, name="FUNDS_LOST")
TODAY = AlertRaised(recorded_at=5, kind=AlertKind.FUNDS_LOST, txid=None, sequence=None, height=120)


@pytest.fixture
def old_alerts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two retired topics."""
    retire_alerts(monkeypatch)


def test_every_retired_topic_leads_to_one_of_today() -> None:
    """An old class without an upcast, or one that leads nowhere, would reach the folds."""
    led = {topic: events.path(topic)[-1].becomes for topic in UPCASTS}

    assert {event.TOPIC for event in RETIRED} <= set(UPCASTS)
    assert set() == set(led.values()) - set(EVENT_TYPES)
    assert set() == {event.TOPIC for event in RETIRED} & set(WRITTEN)
    assert len(TOPICS) == len(EVENT_TYPES) + len(RETIRED)


@pytest.mark.usefixtures("old_alerts")
def test_an_old_event_is_read_as_one_of_today() -> None:
    """Over two steps, whether it begins at the first or the second of them."""
    between = NumberedAlert(recorded_at=5, kind=AlertKind.FUNDS_LOST, height=120)

    assert TODAY == decode_payload("re90", encode_payload(OLD))
    assert TODAY == decode_payload("re91", encode_payload(between))


@pytest.mark.usefixtures("old_alerts")
def test_a_topic_of_today_may_fill_an_appended_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upcast to its own class is applied once."""
    cleared = EXAMPLES[AlertCleared.TOPIC]
    monkeypatch.setitem(UPCASTS, "re06", Upcast(AlertCleared, lambda old: msgspec.structs.replace(old, height=7)))
    monkeypatch.setitem(events._readers, "re06", events._reader_of("re06"))

    assert msgspec.structs.replace(cleared, height=7) == decode_payload("re06", encode_payload(cleared))


@pytest.mark.usefixtures("old_alerts")
def test_damaged_bytes_of_an_old_topic_are_refused_like_any() -> None:
    """Nothing is guessed from half an event."""
    with pytest.raises(LogCorrupt, match="re90"):
        decode_payload("re90", encode_payload(OLD)[:-3])


@pytest.mark.usefixtures("old_alerts")
def test_the_topics_that_are_read_as_a_class() -> None:
    """Whoever asks the log for some topics only gets those that became them too."""
    assert frozenset({"re05", "re90", "re91"}) == topics_of(AlertRaised)
    assert frozenset({"re06"}) == topics_of(AlertCleared)


@pytest.mark.usefixtures("old_alerts")
def test_an_old_topic_is_written_no_more() -> None:
    """The store takes topics of today only."""
    with pytest.raises(StoreError, match="re90"):
        EnvelopeMapper().to_stored_event(aged(Envelope("c1", 1, TODAY.TOPIC, TODAY)))  # type: ignore[arg-type]


# ── every reader ─────────────────────────────────────────────────────────────────────────────────────────

STEPS = (1, 3, 7, 11, 15, 2, 5, 17, 23, 9, 31, 1, 2, 7)


@pytest.fixture
def logs(tmp_path: Path, old_alerts: None) -> tuple[Path, Path]:
    """The same history as it is written today, and as an older version wrote it."""
    history = [each.envelope for each in interleaved(History().play(STEPS).events, History(OTHER_STREAM).events)]
    return _written(tmp_path / "today.db", history), _written(tmp_path / "old.db", [aged(event) for event in history])


def _written(path: Path, events: Sequence[Envelope]) -> Path:
    new_log(path.parent, path.name)
    with open_store(path) as store:
        for event in events:
            store._recorder.insert_events(stored([event]))
    return path


@pytest.mark.slow
def test_folds_and_questions_about_the_past_see_events_of_today(tmp_path: Path, logs: tuple[Path, Path]) -> None:
    """Live views, rebuilt ones and rows as of every position are those of the newer log."""
    seen = []
    for path in logs:
        with open_store(path) as log:
            views = tmp_path / f"{path.stem}-views.db"
            rebuild(views, log)
            with closing(open_views_reader(views)) as rows:
                made = digests(rows).tables
            past = PastChannels(log)
            points = [point_at(log, position) for position in range(1, log.last_id() + 1)]
            asked = [past.info(stream, at) for at in points for stream in (STREAM, OTHER_STREAM)]
            payloads = [payload for page in read_all(path, log.last_id()) for *_, payload in page]
            channel = fold(None, log.read_stream(STREAM))
        seen.append((made, asked, payloads, channel))

    assert seen[0] == seen[1]
    assert _topics(logs[1]) > {"re90"}


@pytest.mark.slow
def test_audits_and_exports_read_old_events_and_keep_their_bytes(tmp_path: Path, logs: tuple[Path, Path]) -> None:
    """Every leaf is of the stored bytes; what follows from the events is what follows from those of today."""
    manifests = [exported(path, tmp_path / path.stem) for path in logs]
    found = [audited(tmp_path / path.stem, tmp_path / "scratch", replay=True) for path in logs]
    progress, notebook = Progress("none", sys.stderr, monotonic), Notebook(None, tmp_path / "parts", monotonic)
    with SqliteSource(logs[1]) as source:
        report = Audit(source, AuditWish(), notebook, progress, threading.Event()).run()
        kept = [row[4] for row in source.rows(1, source.last_id()) if row[3] == "re90"]

    assert manifests[0].digests == manifests[1].digests
    assert [(), ()] == [each.findings for each in found]
    assert () == report.findings
    assert 0 < len(kept)
    assert [] == [state for state in kept if b"UNECONOMICAL_TO_PUNISH" not in state]


@pytest.mark.slow
def test_a_program_that_does_not_know_the_topics_of_an_export_says_so(tmp_path: Path) -> None:
    """Made by one that knows them: every event is whole, some can't be read."""
    alert = aged(Envelope("k" + "a" * 22, 1, TODAY.TOPIC, TODAY))
    with pytest.MonkeyPatch.context() as monkeypatch:
        retire_alerts(monkeypatch)
        exported(_written(tmp_path / "old.db", [alert]), tmp_path / "made")

    report = audited(tmp_path / "made", tmp_path / "scratch", replay=True)

    assert ExitCode.REPLAY == report.exit_code
    assert {(2, "re90")} == {(each.position, each.topic) for each in report.findings if each.position is not None}


def _topics(path: Path) -> set[str]:
    with SqliteSource(path) as source:
        return {row[3] for row in source.rows(1, source.last_id())}
