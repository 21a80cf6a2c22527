"""What must hold for views of any history."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.channel_fold import fold
from projections.catalog import PROJECTIONS, TABLES
from projections.channels import FACTS
from projections.facts import ChannelFacts
from projections.folding import evolve
from projections.milestones import Milestones
from projections.projector import Projector
from projections.tables import Key, Row
from projections.totals import Totals
from projections.watch_index import TABLE as WATCH_INDEX
from projections.watch_set import WatchSet
from tests.fakes.rows import MemoryRows
from tests.support.histories import OTHER_STREAM, History, ListLog, interleaved
from watchtower.store.views import new_views_file

STEPS = st.lists(st.integers(0, 8 * 16 - 1), max_size=25)


def facts_of(events: History) -> ChannelFacts:
    """The fold of a history."""
    facts: ChannelFacts | None = None
    for number, event in enumerate(events.events, start=1):
        facts = evolve(facts, event, number)
    assert facts is not None
    return facts


def project(log: ListLog, page: int = 1_000) -> MemoryRows:
    """Views of a whole log."""
    rows = MemoryRows()
    list(Projector(log, rows, PROJECTIONS, page).catch_up())
    return rows


def filled(rows: MemoryRows) -> dict[str, dict[Key, Row]]:
    """Tables that have rows."""
    return {name: table for name, table in rows.tables.items() if table}


@given(STEPS)
def test_facts_agree_with_the_aggregate(steps: list[int]) -> None:
    """The compact fold of the views and the domain's aggregate say the same about every history."""
    history = History().play(steps)

    facts, channel = facts_of(history), fold(None, history.events)

    assert channel is not None
    assert channel.status is facts.status
    assert (channel.version, channel.sequence, channel.balances) == (facts.version, facts.sequence, facts.balances)
    assert (channel.highest_revoked, channel.state_hash) == (facts.highest_revoked, facts.state_hash)
    assert (channel.funding_block, channel.funding_seen) == (facts.funding_block, facts.funding_seen)
    assert (channel.resolved, channel.soft_final) == (facts.resolved, facts.soft_final)
    assert channel.alerts == set(facts.alerts)
    assert [(s.txid, s.kind, s.side, s.sequence, s.in_mempool, s.block) for s in channel.spends] == [
        (s.txid, s.kind, s.side, s.sequence, s.in_mempool, s.block) for s in facts.spends
    ]
    assert [(e.txid, e.block, e.is_penalty, e.revoked) for e in channel.contest_spends] == [
        (e.txid, e.block, e.is_penalty, e.revoked) for e in facts.ends
    ]
    assert [(b.txid, b.fee, b.accepted) for b in channel.bids] == [(b.txid, b.fee, b.accepted) for b in facts.bids]


@given(STEPS, STEPS, st.integers(1, 7))
def test_page_size_does_not_matter(first: list[int], second: list[int], page: int) -> None:
    """Views are the same however the log is cut into pages."""
    log = ListLog(interleaved(History().play(first).events, History(OTHER_STREAM).play(second).events))

    assert filled(project(log)) == filled(project(log, page))


@given(STEPS, st.lists(st.integers(1, 60), max_size=6))
def test_restarts_and_repeats_do_not_matter(steps: list[int], stops: list[int]) -> None:
    """A projector that stops at any event, is started anew and called again gives the same views."""
    log = ListLog(interleaved(History().play(steps).events, []))
    rows = MemoryRows()
    for stop in sorted(stops):
        list(Projector(log, rows, PROJECTIONS, 3).catch_up(until=stop))
    list(Projector(log, rows, PROJECTIONS, 3).catch_up())
    again = list(Projector(log, rows, PROJECTIONS, 3).catch_up())

    assert again == []
    assert filled(project(log)) == filled(rows)


@given(STEPS)
def test_a_fold_survives_its_encoding(steps: list[int]) -> None:
    """Facts that go through the database are the same facts."""
    facts = facts_of(History().play(steps))

    assert facts == msgspec.msgpack.decode(msgspec.msgpack.encode(facts), type=ChannelFacts)


@given(STEPS, STEPS)
def test_rows_are_functions_of_the_facts(first: list[int], second: list[int]) -> None:
    """Rows that were changed step by step equal the rows made at once from the last facts."""
    log = ListLog(interleaved(History().play(first).events, History(OTHER_STREAM).play(second).events))
    stepwise = project(log, page=1)
    at_once = MemoryRows()

    list(Projector(log, at_once, PROJECTIONS, page=10_000).catch_up())

    assert stepwise.tables[FACTS.name] == at_once.tables[FACTS.name]
    assert filled(stepwise) == filled(at_once)


@given(STEPS, STEPS)
def test_the_watch_set_follows_its_view(first: list[int], second: list[int]) -> None:
    """The index in memory, changed page by page, equals one that is loaded from the view."""
    log = ListLog(interleaved(History().play(first).events, History(OTHER_STREAM).play(second).events))
    rows, followed = MemoryRows(), WatchSet()
    for changes in Projector(log, rows, PROJECTIONS, 2).catch_up():
        followed.apply(changes)

    loaded = WatchSet(rows.page(WATCH_INDEX, None, 1_000))

    watched = rows.tables.get(WATCH_INDEX.name, {})
    outpoints = {key[0] for key in watched}
    assert len(watched) == len(followed) == len(loaded)
    assert outpoints == followed.outpoints == loaded.outpoints
    assert all(followed.streams(outpoint) == loaded.streams(outpoint) for outpoint in outpoints)


@settings(max_examples=15)
@given(STEPS, STEPS)
def test_the_database_holds_the_same_rows(first: list[int], second: list[int]) -> None:
    """SQLite and the fake end with equal tables."""
    log = ListLog(interleaved(History().play(first).events, History(OTHER_STREAM).play(second).events))
    expected = project(log)
    with tempfile.TemporaryDirectory() as directory:
        rows = new_views_file(Path(directory) / "views.db", bytes(16), PROJECTIONS)
        list(Projector(log, rows, PROJECTIONS, 7).catch_up())
        found = {name: rows.page(table, None, 10_000) for name, table in TABLES.items()}
        rows.close()

    assert {name: expected.page(table, None, 10_000) for name, table in TABLES.items()} == found


@given(STEPS, STEPS, st.integers(1, 7))
def test_sums_follow_the_changes(first: list[int], second: list[int], page: int) -> None:
    """Sums that are kept page by page equal those of all rows, for two channels of one owner or of two."""
    log = ListLog(interleaved(History().play(first).events, History(OTHER_STREAM).play(second).events))
    rows = MemoryRows()
    totals = Totals(rows)
    for changes in Projector(log, rows, PROJECTIONS, page).catch_up():
        totals.apply(changes)

    now, all_rows = totals.now(), Totals(rows).now()
    assert all_rows.channels == {status: number for status, number in now.channels.items() if number}
    assert all_rows.capacity == {status: value for status, value in now.capacity.items() if value}
    assert (all_rows.revoked_states, all_rows.owners) == (now.revoked_states, now.owners)


@given(STEPS, st.data())
def test_milestones_of_parts_are_those_of_the_whole(steps: list[int], data: st.DataObject) -> None:
    """However the log is parted, and in which order the parts come: the latest of each kind."""
    events = [(number, event.payload) for number, event in enumerate(History().play(steps).events, start=1)]
    cut = data.draw(st.integers(0, len(events)))
    fold = Milestones()
    first, second = fold.part(events[:cut]), fold.part(events[cut:])

    merged = first | second | {key: fold.merge(second[key], first[key]) for key in first.keys() & second.keys()}

    assert fold.part(events) == merged
