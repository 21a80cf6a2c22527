"""Door-bell to wake flag: how urgent, what is counted, when silence is reported."""

from __future__ import annotations

import pytest

from domain.chain import OutPoint, Txid
from tests.unit.test_metrics import samples
from watchtower.node.zmq import Bell, BellKind
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import ReadinessBoard
from watchtower.watch import bells as module
from watchtower.watch.bells import Bells
from watchtower.watch.passes import Pacer, Turn, Wake

OUTPOINT = OutPoint(b"\x01" * 36)
TXID = Txid(b"\x02" * 32)


class Door:
    """Bells with everything they ring."""

    def __init__(self) -> None:
        self.wake = Wake()
        self.metrics = Metrics(build=("0", "0", "regtest", "sqlite"))
        self.board = ReadinessBoard(self.metrics)
        self.own: set[bytes] = set()
        self.bells = Bells(
            endpoints={"sequence": "tcp://127.0.0.1:28332", "rawtx": "tcp://127.0.0.1:28333"},
            wake=self.wake,
            metrics=self.metrics,
            board=self.board,
            is_ours=self.own.__contains__,
        )

    def turn(self, kind: BellKind, topic: str = "sequence", **facts: object) -> Turn:
        """The turn that a bell causes."""
        self.bells.ring(Bell(kind, topic, **facts))  # type: ignore[arg-type]
        turn = self.wake.next_turn(Pacer(idle=0.0))
        assert turn is not None
        return turn

    def reasons(self) -> list[str]:
        """Reasons that hold after a look."""
        self.bells.look()
        return [reason.name for reason in self.board.snapshot().reasons]


@pytest.fixture
def door() -> Door:
    """A fresh door."""
    return Door()


def test_our_own_transaction_is_no_hurry(door: Door) -> None:
    """The announcement of a penalty that we sent must not use up an urgent start."""
    door.own.add(bytes(TXID))
    turn = door.turn(BellKind.TOUCHED, "rawtx", touched=(OUTPOINT,), raw=b"raw", txid=TXID)
    assert (False, frozenset({OUTPOINT})) == (turn.urgent, turn.hints.touched)


def test_a_touched_outpoint_is_urgent_and_brings_its_transaction(door: Door) -> None:
    """The signed bytes of a commitment reach the next pass."""
    turn = door.turn(BellKind.TOUCHED, "rawtx", touched=(OUTPOINT,), raw=b"raw", txid=TXID)
    assert (True, frozenset({OUTPOINT}), {bytes(TXID): b"raw"}) == (
        turn.urgent,
        turn.hints.touched,
        turn.hints.captured,
    )


@pytest.mark.parametrize(
    ("kind", "urgent"), [(BellKind.TIP, True), (BellKind.MEMPOOL, False), (BellKind.REMOVED, False)]
)
def test_only_what_concerns_us_is_urgent(door: Door, kind: BellKind, urgent: bool) -> None:
    """A block is urgent, foreign transactions are not."""
    turn = door.turn(kind)
    assert (True, urgent, False) == (turn.rung, turn.urgent, turn.hints.full_sweep)


def test_only_the_eviction_of_our_own_transaction_is_urgent(door: Door) -> None:
    """A penalty that left the mempool is sent again at once; replacements of others must not use up urgent starts."""
    foreign = door.turn(BellKind.REMOVED, txid=TXID)
    door.own.add(bytes(TXID))
    ours = door.turn(BellKind.REMOVED, txid=TXID)
    assert (False, True) == (foreign.urgent, ours.urgent)


@pytest.mark.parametrize("kind", [BellKind.GAP, BellKind.RESTART, BellKind.CONNECTED])
def test_whatever_may_hide_a_loss_causes_a_full_sweep(door: Door, kind: BellKind) -> None:
    """After a gap, a restart or a reconnect everything is asked over RPC."""
    assert door.turn(kind, missed=2).hints.full_sweep


def test_losses_and_reconnects_are_counted(door: Door) -> None:
    """A restart of the node is no loss; the first connection is no reconnect."""
    for kind in (BellKind.CONNECTED, BellKind.GAP, BellKind.RESTART, BellKind.DISCONNECTED, BellKind.CONNECTED):
        door.turn(kind, missed=3)
    door.turn(BellKind.MEMPOOL)
    found = samples(door.metrics)
    assert 3 == found["watchtower_zmq_missed_messages_total", ("sequence",)]
    assert [1, 1, 1] == [
        found["watchtower_zmq_resyncs_total", (reason,)] for reason in ("sequence_gap", "node_restart", "reconnect")
    ]
    assert 1 == found["watchtower_zmq_messages_total", ("sequence",)]
    assert 1 == found["watchtower_zmq_connected", ("sequence",)]


def test_silence_is_a_reason_until_both_topics_are_connected(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection within the patience is reported, and taken back."""
    monkeypatch.setattr(module, "PATIENCE", -1.0)
    silent = door.reasons()
    door.turn(BellKind.CONNECTED)
    half = door.reasons()
    door.turn(BellKind.CONNECTED, "rawtx")
    assert (["zmq_silent"], ["zmq_silent"], []) == (silent, half, door.reasons())


def test_blocks_without_messages_are_silence_although_connected(door: Door) -> None:
    """One message may get lost; two blocks in a row without a message are a reason, until one is heard of."""
    for topic in ("sequence", "rawtx"):
        door.turn(BellKind.CONNECTED, topic)
    door.turn(BellKind.TIP)
    for _ in range(2):
        door.bells.block_found()
    once = door.reasons()
    door.bells.block_found()
    twice = door.reasons()
    door.turn(BellKind.TIP)
    assert ([], ["zmq_silent"], []) == (once, twice, door.reasons())


def test_a_topic_that_the_node_does_not_publish_is_a_reason(door: Door) -> None:
    """What the node says about its topics is shown, with what to do."""
    door.bells.unpublished("the node does not publish rawtx; add zmqpubrawtx")
    assert ["zmq_silent"] == door.reasons()
    assert "zmqpubrawtx" in door.board.snapshot().reasons[0].detail
    door.bells.unpublished("")
    assert [] == door.reasons()
