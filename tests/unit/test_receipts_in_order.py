"""Receipts against those before them, and receipts from the future."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.contract.receipts import LogReceipt
from tests.support.meddling import client_of, taken, text_of
from tests.support.parties import open_pair
from tests.support.receipts import TOWER, UPLOAD, receipt_of
from tests.support.towers import Bench
from watchtower.client.errors import (
    ReceiptFromTheFuture,
    ReceiptMissing,
    ReceiptOutOfOrder,
    StateNotStored,
)
from watchtower.client.tower.receipts import Expected, ReceiptBook, check_shown
from watchtower.client.types import LogState

pytestmark = pytest.mark.slow


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """B's tower."""
    return Bench(tmp_path)


GOOD_NEXT: dict[str, tuple[int, dict[str, object]]] = {
    "the next state": (6, {}),
    "the same again": (5, {}),
    "the same with its revocation": (5, {"upload_sha256": bytes(31) + b"\x01", "position": 62}),
    "an older one again": (3, {}),
    "a later epoch, after a restore": (6, {"epoch": 1, "position": 45}),
    "the same in a later epoch": (5, {"epoch": 1, "position": 45}),
}


BAD_NEXT: dict[str, tuple[int, dict[str, object]]] = {
    "an earlier place for a later state": (6, {"position": 59}),
    "the place of another state": (6, {"position": 60}),
    "a later place for an earlier state": (4, {"position": 61}),
    "another place for the same upload": (5, {"position": 61}),
    "another leaf for the same upload": (5, {"leaf": bytes(32)}),
    "another log": (6, {"log_id": bytes(15) + b"\x01"}),
}


@pytest.mark.parametrize("kind", GOOD_NEXT)
def test_receipts_in_order_are_taken(kind: str) -> None:
    """After that of state 5 at event 60."""
    book = ReceiptBook()
    taken(book, 5)
    sequence, fields = GOOD_NEXT[kind]

    assert taken(book, sequence, **fields).read().seq == sequence


@pytest.mark.parametrize("kind", BAD_NEXT)
def test_receipts_that_contradict_earlier_ones_are_refused(kind: str) -> None:
    """After that of state 5 at event 60; the refused receipt comes with the error, because it may be proof."""
    book = ReceiptBook()
    taken(book, 5)
    sequence, fields = BAD_NEXT[kind]

    with pytest.raises(ReceiptOutOfOrder) as refused:
        taken(book, sequence, **fields)
    assert refused.value.receipt is not None
    assert refused.value.receipt.read().seq == sequence


@pytest.mark.parametrize(("sequence", "position"), [(5, 60), (6, 70), (6, 2_000)])
def test_an_epoch_never_goes_back(sequence: int, position: int) -> None:
    """Once epoch 1 was seen, nothing new is of epoch 0; an older state may still be."""
    book = ReceiptBook()
    taken(book, 5, epoch=1)

    with pytest.raises(ReceiptOutOfOrder):
        taken(book, sequence, epoch=0, position=position)
    assert taken(book, 4, epoch=0).read().epoch == 0


def test_another_channel_of_an_old_epoch_is_refused() -> None:
    """Also where the channel itself has no receipt yet: a later place cannot be of an earlier epoch."""
    book = ReceiptBook()
    taken(book, 5, epoch=2)
    other = receipt_of(b"\x01" * 32, 1, epoch=1, position=90)

    with pytest.raises(ReceiptOutOfOrder, match="epoch 1"):
        book.check(text_of(other), Expected(TOWER, b"\x01" * 32, 1, UPLOAD))


@pytest.mark.parametrize(("epoch", "position"), [(0, 59), (0, 0)])
def test_a_receipt_beyond_the_log_is_from_the_future(epoch: int, position: int) -> None:
    """The tower signed event 60 and shows fewer, in the same epoch."""
    shown = LogState(log_id="00" * 16, epoch=epoch, position=position)

    with pytest.raises(ReceiptFromTheFuture, match="event 60 of epoch 0"):
        check_shown(receipt_of(bytes(32), 5).read(), shown)


@pytest.mark.parametrize(
    "shown",
    [
        None,
        LogState(log_id="00" * 16, epoch=0, position=60),
        LogState(log_id="00" * 16, epoch=1, position=10),
        LogState(log_id="11" * 16, epoch=0, position=1),
    ],
)
def test_what_is_not_from_the_future(shown: LogState | None) -> None:
    """The log reaches it, went on from an older copy and says so, is another one, or is not shown."""
    check_shown(receipt_of(bytes(32), 5).read(), shown)


@pytest.mark.asyncio
async def test_a_tower_that_lost_events_is_found_out(tower: Bench) -> None:
    """The client compares what it holds with what the tower shows; the state has no receipt any more either."""
    pair = open_pair()
    tower.registered(pair)
    pair.updates(2)
    async with client_of(tower, pair) as client:
        await client.synchronize(pair.channel_id)
        await client.check_receipts()
        del tower.store._log[-3:]
        with pytest.raises(ReceiptFromTheFuture):
            await client.check_receipts()


@pytest.mark.asyncio
async def test_receipts_can_be_asked_for(tower: Bench) -> None:
    """Of a state and of the registration; what is not stored has none."""
    pair = open_pair()
    tower.registered(pair)
    pair.updates(1)
    async with client_of(tower, pair) as client:
        result = await client.synchronize(pair.channel_id)
        name = pair.channel_id.hex()
        again, registration = await client.get_receipt(name, 1), await client.get_receipt(name, None)
        with pytest.raises(StateNotStored):
            await client.get_receipt(name, 2)
        tower.may_sign = False
        with pytest.raises(ReceiptMissing):
            await client.get_receipt(name, 1)

    assert result.receipt == again
    assert LogReceipt.decode(bytes.fromhex(registration)[:204]).is_registration
