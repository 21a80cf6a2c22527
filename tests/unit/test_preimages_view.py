"""The view of preimages: one row per payment, from any channel, public once a transaction showed it."""

from __future__ import annotations

from hashlib import sha256

from domain.events import Envelope, Payload, PreimageLearned, Recorded, SoftFinal, Source
from projections.catalog import PROJECTIONS
from projections.preimages import TABLE, PreimageRow, Preimages
from projections.tables import Change
from tests.support.scenes import NOW, block

SECRET, OTHER = b"\x71" * 32, b"\x72" * 32
UPSTREAM, DOWNSTREAM = "c" + "u" * 22, "c" + "d" * 22


def learned(preimage: bytes, txid: bytes | None = None) -> PreimageLearned:
    """A preimage became known; with a txid, to everybody."""
    source = Source.UPLOAD if txid is None else Source.MEMPOOL
    return PreimageLearned(
        recorded_at=NOW, payment_hash=sha256(preimage).digest(), preimage=preimage, source=source, txid=txid
    )


def recorded(*placed: tuple[str, Payload]) -> list[Recorded]:
    """A log of these events."""
    return [
        Recorded(number, Envelope(stream, number, type(payload).TOPIC, payload))
        for number, (stream, payload) in enumerate(placed, start=1)
    ]


def rows(changes: list[Change]) -> list[PreimageRow]:
    """The rows that were written."""
    return [TABLE.read(change.row) for change in changes if change.row is not None]


def test_a_preimage_stands_under_its_payment_hash() -> None:
    """Learned in one channel, found by the hash alone; other events leave no row."""
    final = SoftFinal(recorded_at=NOW, txid=bytes(32), block=block(1), depth=6)
    page = recorded((UPSTREAM, final), (DOWNSTREAM, learned(SECRET)))

    found = rows(Preimages().apply({}, page))

    assert [PreimageRow(sha256(SECRET).digest(), SECRET, DOWNSTREAM, 0)] == found
    assert [[], [(sha256(SECRET).digest(),)]] == [list(Preimages().keys(event)) for event in page]


def test_the_first_channel_stays_and_public_is_for_ever() -> None:
    """Uploaded downstream, then seen upstream, then uploaded again; in one page or in three."""
    page = recorded(
        (DOWNSTREAM, learned(SECRET)), (UPSTREAM, learned(SECRET, b"\x01" * 32)), (UPSTREAM, learned(SECRET))
    )
    view, stepwise = Preimages(), {}

    for event in page:
        stepwise.update({change.key: change.row for change in view.apply(stepwise, [event])})
    at_once = rows(view.apply({}, page))

    assert [PreimageRow(sha256(SECRET).digest(), SECRET, DOWNSTREAM, 1)] == at_once
    assert at_once == [TABLE.read(row) for row in stepwise.values()]
    assert [] == view.apply(stepwise, page)


def test_payments_do_not_mix() -> None:
    """Two payment hashes, two rows."""
    found = rows(Preimages().apply({}, recorded((UPSTREAM, learned(SECRET)), (UPSTREAM, learned(OTHER)))))

    assert {SECRET, OTHER} == {row.preimage for row in found}
    assert TABLE in [table for projection in PROJECTIONS for table in projection.tables]
