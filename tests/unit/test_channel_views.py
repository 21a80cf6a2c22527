"""What the views say along the life of a channel, told with its real transactions."""

from __future__ import annotations

from typing import Any

import pytest

from domain.chain import make_outpoint
from domain.events import EVENT_TYPES, AlertKind, BroadcastOutcome, LogOpened, Recorded, SpendKind, Via
from domain.punishing import penalty_answered, penalty_prepared
from domain.spending import disconnected, funding_double_spent, matured, raise_alert, spend_gone
from domain.units import Side
from projections import (
    block_index,
    chain_tip,
    channel_info,
    closings,
    funding_pending,
    open_breaches,
    watch_index,
)
from projections.catalog import PROJECTIONS
from projections.projector import Projector
from projections.sentences import _SENTENCES
from projections.tables import Row, Table
from projections.timeline import row_of
from projections.watch_index import Role
from tests.fakes.rows import MemoryRows
from tests.support.histories import ListLog, block_connected
from tests.support.scenes import CAPACITY, FUNDED_AT, NOW, STREAM, Scene, block


class Views:
    """All views of a scene, brought up to date before each question."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.rows = MemoryRows()
        self.log = ListLog()
        self.projector = Projector(self.log, self.rows, PROJECTIONS)

    def catch_up(self) -> None:
        """Apply what the scene has added."""
        new = self.scene.events[len(self.log.recorded) :]
        first = len(self.log.recorded) + 1
        self.log.recorded += [Recorded(number, event) for number, event in enumerate(new, start=first)]
        list(self.projector.catch_up())

    def all(self, table: Table) -> list[Any]:
        """Rows of a table as structs."""
        self.catch_up()
        return [table.read(row) for row in self.rows.page(table, None, 1_000)]

    @property
    def info(self) -> channel_info.ChannelInfoRow:
        """The one channel."""
        (row,) = self.all(channel_info.TABLE)
        found: channel_info.ChannelInfoRow = row
        return found

    def watched(self) -> set[tuple[bytes, int]]:
        """Watched outpoints with their role."""
        return {(row.outpoint, row.role) for row in self.all(watch_index.TABLE)}

    def everything(self) -> dict[str, list[Row]]:
        """What can be asked of the channel now, without its history and the numbers that only grow."""
        tables = (watch_index, open_breaches, funding_pending, block_index)
        shown = {module.TABLE.name: self.rows.page(module.TABLE, None, 100) for module in tables}
        own = ("version", "last_id", "recorded_at")
        at = [number for number, name in enumerate(channel_info.TABLE.columns) if name not in own]
        infos = [tuple(row[number] for number in at) for row in self.rows.page(channel_info.TABLE, None, 10)]
        return {**shown, "channel_info": infos}


@pytest.fixture
def scene() -> Scene:
    """A's tower after three updates, funding confirmed."""
    return Scene(Side.A).opened(3)


@pytest.fixture
def views(scene: Scene) -> Views:
    """Its views."""
    return Views(scene)


def test_an_open_channel(scene: Scene, views: Views) -> None:
    """ChannelInfo has the documented fields; the funding outpoint is watched and nothing else."""
    info = views.info

    assert ("ACTIVE", 3, 3, 2) == (info.status, info.current_sequence, info.final_sequence, info.highest_revoked)
    assert (600_000, 400_000) == (info.initial_balance_a, info.initial_balance_b)
    assert (597_000, 403_000) == (info.balance_a, info.balance_b)
    assert (scene.params.channel_id, CAPACITY, 144) == (info.channel_id, info.capacity, info.challenge_period)
    assert [scene.params.keys(side).fund for side in Side] == [info.pubkey_a, info.pubkey_b]
    assert (FUNDED_AT, block(FUNDED_AT).hash) == (info.funding_height, info.funding_hash)
    assert {(scene.funding, Role.FUNDING)} == views.watched()
    assert views.all(closings.TABLE) == views.all(open_breaches.TABLE) == []


def test_a_registered_channel_waits_for_its_funding(scene: Scene) -> None:
    """Before the funding is in a block, its inputs are watched for a double spend."""
    opening = Scene(Side.A)
    opening.then([event.payload for event in scene.events[:3]])
    views = Views(opening)

    (pending,) = views.all(funding_pending.TABLE)

    assert ("PROPOSED", 0, 0) == (views.info.status, views.info.current_sequence, views.info.final_sequence)
    assert (STREAM, scene.funding, 0, None) == (pending.stream, pending.outpoint, pending.seen, pending.height)
    coin = make_outpoint(b"\x11" * 32, 0)
    assert {(scene.funding, Role.FUNDING), (coin, Role.FUNDING_INPUT)} == views.watched()


def test_a_double_spent_funding_and_its_undo(scene: Scene) -> None:
    """A void channel stays under watch until it is final; a reorganization brings it back."""
    opening = Scene(Side.A)
    opening.then([event.payload for event in scene.events[:3]])
    views = Views(opening)
    views.catch_up()
    before = views.everything()

    opening.then(funding_double_spent(opening.channel, b"\x22" * 32, block(101), NOW))
    assert ("DOUBLE_SPENT", 1) == (views.info.status, views.all(funding_pending.TABLE)[0].double_spent)
    assert (b"\x22" * 32, 101) == (views.all(closings.TABLE)[0].final_txid, views.all(closings.TABLE)[0].final_height)
    opening.then(disconnected(opening.channel, block(101), NOW))

    views.catch_up()
    assert before == views.everything()


def test_a_breach_in_the_mempool(scene: Scene, views: Views) -> None:
    """An unconfirmed breach is open without a deadline, and its contest output is watched."""
    stale = scene.commitment(Side.B, 1)
    scene.seen(stale)

    (breach,) = views.all(open_breaches.TABLE)

    assert (STREAM, stale.txid, Side.B, 1) == (breach.stream, breach.commit_txid, breach.side, breach.sequence)
    assert (None, None, 0) == (breach.height, breach.deadline, breach.bid_no)
    assert (stale.outputs[0].value, stale.outputs[0].spk) == (breach.value, breach.spk)
    assert (make_outpoint(stale.txid, 0), Role.CONTEST) in views.watched()
    assert ("UNILATERAL", SpendKind.BREACH, None) == (views.info.status, views.info.spend_kind, views.info.deadline)


def test_a_breach_that_is_withdrawn(scene: Scene, views: Views) -> None:
    """An evicted breach is open no more, but the channel stays on the list of closing ones."""
    stale = scene.commitment(Side.B, 1)
    scene.seen(stale)
    scene.then(spend_gone(scene.channel, stale.txid, None, 201, NOW))

    assert views.all(open_breaches.TABLE) == []
    assert [(STREAM, 0, None)] == [(row.stream, row.kind, row.commit_txid) for row in views.all(closings.TABLE)]
    assert "ACTIVE" == views.info.status


def test_a_punished_breach(scene: Scene, views: Views) -> None:
    """Deadline, bid and penalty appear in turn; at 100 confirmations everything but the history is closed."""
    stale, penalty = scene.commitment(Side.B, 1), scene.penalty(Side.B, 1)
    scene.mined(stale, block(200))
    spend = scene.channel.spend(stale.txid)
    assert spend is not None
    scene.then(
        penalty_prepared(scene.channel, spend, txid=penalty.txid, raw=penalty.serialize(), fee=1_000, left=143, now=NOW)
    )
    scene.then(penalty_answered(scene.channel.bids[0], BroadcastOutcome.ACCEPTED, Via.RAW, 0, "", 200, NOW))

    (breach,) = views.all(open_breaches.TABLE)
    assert (200, 343, 1, penalty.txid, 1_000, 1) == (
        breach.height,
        breach.deadline,
        breach.bid_no,
        breach.bid_txid,
        breach.bid_fee,
        breach.accepted,
    )

    scene.ended(stale, penalty, block(201))
    assert ("PUNISHED", penalty.txid, 201) == (
        views.info.status,
        views.info.penalty_txid,
        views.info.penalty_height,
    )
    assert {block(n).hash for n in (200, 201)} == {r.block_hash for r in views.all(block_index.TABLE)}
    scene.then(matured(scene.channel, 300, NOW))

    assert "RESOLVED" == views.info.status
    tables = (watch_index, open_breaches, closings, funding_pending, block_index)
    assert [views.all(module.TABLE) for module in tables] == [[]] * 5


def test_a_lost_breach(scene: Scene, views: Views) -> None:
    """If the stale settlement confirms, the loss and its alerts are shown."""
    stale = scene.commitment(Side.B, 1)
    scene.mined(stale, block(200))
    scene.ended(stale, scene.settlement(Side.B, 1), block(344))

    assert ("LOST", scene.params.contest_value) == (views.info.status, views.info.lost_sat)
    assert "funds_lost" in views.info.open_alerts
    assert 344 == views.all(open_breaches.TABLE)[0].lost_height


def test_an_honest_close_waits_for_its_settlement(scene: Scene, views: Views) -> None:
    """A confirmed close names the first block that may hold its settlement."""
    close = scene.commitment(Side.B, 3)
    scene.mined(close, block(200))

    (closing,) = views.all(closings.TABLE)

    assert (SpendKind.PEER_CLOSE, 200, 344, None, None) == (
        closing.kind,
        closing.height,
        closing.valid_from,
        closing.deadline,
        closing.final_txid,
    )
    settlement = scene.settlement(Side.B, 3)
    scene.ended(close, settlement, block(344))
    scene.then(matured(scene.channel, 349, NOW))
    (closing,) = views.all(closings.TABLE)
    assert (settlement.txid, 344, 1) == (closing.final_txid, closing.final_height, closing.soft_final)
    assert ("SETTLED", settlement.txid, 344) == (views.info.status, views.info.settle_txid, views.info.settle_height)


@pytest.mark.parametrize("what", ["coop", "breach", "peer", "own"])
def test_a_disconnected_close_restores_every_row(scene: Scene, views: Views, what: str) -> None:
    """The rows before a block are the rows after its disconnect."""
    tx = {
        "coop": scene.coop_close,
        "breach": lambda: scene.commitment(Side.B, 2),
        "peer": lambda: scene.commitment(Side.B, 3),
        "own": lambda: scene.commitment(Side.A, 3),
    }[what]()
    views.catch_up()
    before = views.everything()
    scene.mined(tx, block(200))
    views.catch_up()
    between = views.everything()

    scene.then(disconnected(scene.channel, block(200), NOW))

    views.catch_up()
    assert before == views.everything()
    assert before != between


@pytest.mark.parametrize("punished", [True, False])
def test_a_disconnected_end_restores_every_row(scene: Scene, views: Views, punished: bool) -> None:
    """The undo of a penalty or settlement leaves the commitment contested as before."""
    stale = scene.commitment(Side.B, 1)
    scene.mined(stale, block(200))
    views.catch_up()
    before = views.everything()
    scene.ended(stale, scene.penalty(Side.B, 1) if punished else scene.settlement(Side.B, 1), block(344))
    scene.then(matured(scene.channel, 350, NOW))

    scene.then(disconnected(scene.channel, block(344), NOW))

    views.catch_up()
    assert before == views.everything()


def test_alerts_are_listed_by_name(scene: Scene, views: Views) -> None:
    """Open alerts are words that a person can search for."""
    scene.then(raise_alert(scene.channel, AlertKind.UNARMED_BREACH, None, None, 200, NOW))
    scene.then(raise_alert(scene.channel, AlertKind.SELF_BREACH, None, None, 200, NOW))

    assert "unarmed_breach,self_breach" == views.info.open_alerts


def test_the_history_reads_as_sentences(scene: Scene) -> None:
    """Every event has a line, a height where it has one, and the txid it is about."""
    stale = scene.commitment(Side.B, 1)
    scene.mined(stale, block(200))

    rows = [row_of(Recorded(number, event)) for number, event in enumerate(scene.events, start=7)]

    assert 7 == rows[0].id
    assert list(range(1, len(scene.events) + 1)) == [row.version for row in rows]
    assert "State 3 complete: A 597,000 sat, B 403,000 sat" in [row.line for row in rows]
    assert ("BreachDetected", 200, stale.txid) == (rows[-1].kind, rows[-1].height, rows[-1].txid)
    assert rows[-1].line.startswith("BREACH: B published revoked state 1, 999,")
    assert rows[-1].line.endswith("contested, deadline 343")


def test_every_event_of_a_channel_has_a_sentence() -> None:
    """Only events of other streams go without one."""
    others = {event for event in EVENT_TYPES if event.TOPIC[:2] in ("bk", "lg", "py")}

    assert set(EVENT_TYPES) - others == set(_SENTENCES)
    assert LogOpened in others


def test_the_tip_follows_the_chain_stream(views: Views) -> None:
    """The last block that the log connected."""
    views.catch_up()
    next_id = len(views.log.recorded) + 1
    views.log.recorded += [Recorded(next_id + n, block_connected(n + 1, 200 + n)) for n in range(3)]

    list(views.projector.catch_up())

    (tip,) = [chain_tip.TABLE.read(row) for row in views.rows.page(chain_tip.TABLE, None, 10)]
    assert (202, block(202).hash) == (tip.height, tip.block_hash)
