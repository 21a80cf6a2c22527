"""The door-bell, fed with frames directly: what rings, what counts as a loss, and that nothing is trusted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.chain import OutPoint, make_outpoint
from domain.transaction import Transaction, TxIn, TxOut
from watchtower.node.zmq import Bell, BellKind, TopicCounter, ZmqDoorbell

ENDPOINTS = {"sequence": "tcp://127.0.0.1:1", "rawtx": "tcp://127.0.0.1:1", "hashblock": "tcp://127.0.0.1:2"}
WATCHED = make_outpoint(b"\x01" * 32, 0)
TXID = bytes(range(32))


def doorbell() -> tuple[ZmqDoorbell, list[Bell]]:
    """A door-bell that is not connected, and the list of its rings."""
    bells: list[Bell] = []
    return ZmqDoorbell(ENDPOINTS, bells.append, {WATCHED}.__contains__), bells


def frames(topic: bytes, body: bytes, number: int) -> list[bytes]:
    """A multipart message of the node."""
    return [topic, body, number.to_bytes(4, "little")]


def spend(outpoint: bytes) -> Transaction:
    """A transaction with one input."""
    return Transaction(2, (TxIn(OutPoint(outpoint), 0, b"", (b"w",)),), (TxOut(1, b"\x51"),), 0)


@pytest.mark.parametrize(
    ("numbers", "missed"),
    [
        ([7, 8, 9], [0, 0, 0]),
        ([7, 9], [0, 1]),
        ([101, 107], [0, 5]),
        ([0xFFFFFFFF, 0], [0, 0]),
        ([0xFFFFFFFE, 1], [0, 2]),
        ([5, 0, 1], [0, None, 0]),
        ([5, 5], [0, None]),
        ([3_000_000_000, 0], [0, None]),
    ],
)
def test_counter_tells_losses_from_restarts(numbers: list[int], missed: list[int | None]) -> None:
    """A higher number is a loss, a lower one a restart, and the overflow of 32 bits is neither."""
    counter = TopicCounter()

    assert missed == [counter.take(number) for number in numbers]


@pytest.mark.parametrize(
    ("label", "kind"), [(b"C", BellKind.TIP), (b"D", BellKind.TIP), (b"A", BellKind.MEMPOOL), (b"?", BellKind.MEMPOOL)]
)
def test_sequence_labels(label: bytes, kind: BellKind) -> None:
    """Connected and disconnected blocks are urgent, additions to the mempool are not."""
    door, bells = doorbell()

    door.take(frames(b"sequence", TXID + label + bytes(8), 1))

    assert [Bell(kind, "sequence")] == bells


def test_removal_names_the_transaction() -> None:
    """The node writes hashes reversed; inside they are in internal order."""
    door, bells = doorbell()

    door.take(frames(b"sequence", TXID + b"R" + bytes(8), 1))

    assert [Bell(BellKind.REMOVED, "sequence", txid=TXID[::-1])] == bells  # type: ignore[arg-type]


def test_block_hash_is_a_tip() -> None:
    """`hashblock` is an urgent bell."""
    door, bells = doorbell()

    door.take(frames(b"hashblock", TXID, 1))

    assert [Bell(BellKind.TIP, "hashblock")] == bells


def test_spend_of_a_watched_outpoint_brings_its_bytes() -> None:
    """The signed bytes of a commitment are captured from the notification."""
    door, bells = doorbell()
    tx = spend(WATCHED)

    door.take(frames(b"rawtx", tx.serialize(), 1))

    assert [Bell(BellKind.TOUCHED, "rawtx", (WATCHED,), tx.serialize(), tx.txid)] == bells


def test_other_transaction_rings_softly() -> None:
    """A transaction of somebody else is no reason to hurry."""
    door, bells = doorbell()

    door.take(frames(b"rawtx", spend(bytes(36)).serialize(), 1))

    assert [Bell(BellKind.MEMPOOL, "rawtx")] == bells


def test_gap_rings_before_the_message_and_per_topic() -> None:
    """A loss is reported with its size; the counters of topics are independent."""
    door, bells = doorbell()

    door.take(frames(b"hashblock", TXID, 1))
    door.take(frames(b"sequence", TXID + b"C", 50))
    door.take(frames(b"hashblock", TXID, 4))

    assert [Bell(BellKind.GAP, "hashblock", missed=2), Bell(BellKind.TIP, "hashblock")] == bells[2:]


def test_lower_number_rings_restart() -> None:
    """A node that starts again counts from 0."""
    door, bells = doorbell()

    door.take(frames(b"hashblock", TXID, 9))
    door.take(frames(b"hashblock", TXID, 0))

    assert [BellKind.TIP, BellKind.RESTART, BellKind.TIP] == [bell.kind for bell in bells]


def test_unknown_topic_is_not_heard() -> None:
    """Only the topics of the node ring."""
    door, bells = doorbell()

    door.take(frames(b"rawblock", b"x", 1))
    door.take([])

    assert [] == bells


@given(st.lists(st.binary(max_size=100), max_size=4))
def test_forged_frames_never_raise(message: list[bytes]) -> None:
    """Random multipart messages ring or do not, and nothing else happens."""
    door, bells = doorbell()

    door.take(message)
    door.take([b"rawtx", *message])
    door.take([b"sequence", *message])

    assert {"rawtx", "sequence"} <= {bell.topic for bell in bells}


@pytest.mark.parametrize(
    "endpoints",
    [{}, {"sequence": "tcp://x:1"}, {"rawtx": "tcp://x:1", "sequence": ""}, {**ENDPOINTS, "rawblock": "tcp://x:1"}],
)
def test_required_topics_are_required(endpoints: dict[str, str]) -> None:
    """Without `sequence` and `rawtx` there is no door-bell, and unknown topics are a mistake."""
    with pytest.raises(ValueError, match="missing"):
        ZmqDoorbell(endpoints, print, bool)
