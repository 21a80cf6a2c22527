"""What the SDK believes of receipts: good ones arm a state, others do not; they are kept, and stay in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.contract.receipts import SIGNED_RECEIPT_SIZE, SignedReceipt
from domain.contract.uploads import REGISTRATION_SEQ
from tests.support.meddling import STRANGER, Change, Meddler, changed, client_of
from tests.support.parties import open_pair
from tests.support.receipts import TOWER, UPLOAD, receipt_of
from tests.support.sdk import HALF, desk
from tests.support.towers import TOWER_ID, Bench
from watchtower.client import StateUpdate
from watchtower.client.errors import (
    ReceiptForged,
    ReceiptMissing,
    ReceiptOfAnotherTower,
    ReceiptOfAnotherUpload,
    ReceiptOutOfOrder,
    ReceiptRefused,
)
from watchtower.client.tower.finality import Unarmed, log_alarm
from watchtower.client.tower.receipts import Expected, ReceiptBook, ReceiptText

pytestmark = pytest.mark.slow


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """B's tower."""
    return Bench(tmp_path)


BAD: dict[str, tuple[Change, type[ReceiptRefused]]] = {
    "none": (lambda _signed: None, ReceiptMissing),
    "no signature": (lambda signed: SignedReceipt(signed.body, bytes(64)), ReceiptForged),
    "a signature cut off": (lambda signed: SignedReceipt(signed.body, signed.signature[:63]), ReceiptForged),
    "no receipt": (lambda signed: SignedReceipt(b"RCP3" + signed.body[4:], signed.signature), ReceiptForged),
    "signed by a stranger": (changed(STRANGER), ReceiptForged),
    "of a stranger": (changed(STRANGER, tower_id=STRANGER.tower_id), ReceiptOfAnotherTower),
    "another channel": (changed(subject=bytes(32)), ReceiptOfAnotherUpload),
    "a state that was never uploaded": (changed(seq=9), ReceiptOfAnotherUpload),
    "the registration": (changed(seq=REGISTRATION_SEQ), ReceiptOfAnotherUpload),
    "another upload": (changed(upload_sha256=bytes(32)), ReceiptOfAnotherUpload),
    "another log": (changed(log_id=bytes(15) + b"\x01"), ReceiptOutOfOrder),
    "before the registration": (changed(position=1), ReceiptOutOfOrder),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", BAD)
async def test_scenario_D16_receipt_verification_rejects(tower: Bench, kind: str) -> None:
    """A bad receipt is refused with its own error, the state is not armed; a good one for the same upload arms it."""
    change, error = BAD[kind]
    pair = open_pair()
    tower.fund(pair)
    meddler = Meddler(tower.transport())
    async with client_of(tower, pair, meddler) as client:
        await client.synchronize(pair.channel_id)
        tower.confirm(pair)
        pair.updates(2)
        meddler.change = change
        with pytest.raises(error):
            await client.synchronize(pair.channel_id)
        unarmed = pair.b.channel(pair.channel_id)
        meddler.change = None
        result = await client.synchronize(pair.channel_id)

    assert (0, ((TOWER_ID, 0),)) == (unarmed.final_sequence, unarmed.acknowledged)
    assert (2, 2) == (result.sequence, pair.b.channel(pair.channel_id).final_sequence)
    assert tower.context.channels.load(tower.context.channels.stream_of(pair.params.proposal_id)).highest_revoked == 1


@pytest.mark.asyncio
async def test_a_registration_of_somebody_else_is_explained(tower: Bench) -> None:
    """Two parties that share one tower: the second one gets the receipt of the first, and is told why."""
    pair = open_pair()
    tower.fund(pair)
    meddler = Meddler(tower.transport())
    meddler.change = changed(upload_sha256=bytes(32))
    async with client_of(tower, pair, meddler) as client:
        with pytest.raises(ReceiptOfAnotherUpload, match="each needs a tower of its own"):
            await client.synchronize(pair.channel_id)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["no signature", "signed by a stranger", "another upload"])
async def test_scenario_D16_a_registration_needs_its_receipt(tower: Bench, kind: str) -> None:
    """Without it state 0 is not final; the next try asks the tower for the receipt of what is there."""
    change, error = BAD[kind]
    pair = open_pair()
    tower.fund(pair)
    meddler = Meddler(tower.transport())
    meddler.change = change
    async with client_of(tower, pair, meddler) as client:
        with pytest.raises(error):
            await client.synchronize(pair.channel_id)
        before = pair.b.channel(pair.channel_id).final_sequence
        await client.synchronize(pair.channel_id)

    assert (-1, 0) == (before, pair.b.channel(pair.channel_id).final_sequence)


@pytest.mark.asyncio
async def test_a_registration_without_a_receipt_is_asked_for_again(tower: Bench) -> None:
    """The answer had none; the client asks once, and state 0 is final with what it gets."""
    pair = open_pair()
    tower.fund(pair)
    meddler = Meddler(tower.transport())
    meddler.change = lambda _signed: None
    async with client_of(tower, pair, meddler) as client:
        await client.synchronize(pair.channel_id)

    assert pair.b.channel(pair.channel_id).final_sequence == 0


@pytest.mark.asyncio
async def test_scenario_D16_missing_receipt_alarm(tmp_path: Path) -> None:
    """A tower that stores and signs nothing: after the time limit the owner is told, once, until it signs again."""
    told: list[Unarmed] = []
    async with desk(tmp_path, alarm_ms=100, alarm=told.append) as at:
        name = await at.open()
        finality = at.client.finality
        assert finality is not None
        at.tower.may_sign = False
        with pytest.raises(ReceiptMissing):
            await at.client.update_state(StateUpdate(name, 1, (HALF - 1_000, HALF + 1_000)))
        await until(lambda: bool(told))
        await asyncio.sleep(0.2)
        channel = at.alice.channel(bytes.fromhex(name))
        at.tower.may_sign = True
        finality.touch(channel)
        await until(lambda: not finality.unarmed())
        final = at.alice.channel(bytes.fromhex(name)).final_sequence

    assert [bytes.fromhex(name)] == [unarmed.channel_id for unarmed in told]
    assert told[0].seconds >= 0.1
    assert "no receipt" in told[0].reason
    assert (0, 1) == (channel.final_sequence, final)


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks run until the condition holds; half a minute at most."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.005)


@pytest.mark.asyncio
async def test_scenario_D16_the_log_line_of_an_alarm(caplog: pytest.LogCaptureFixture) -> None:
    """Without a listener the alarm is a line that names channel, time and reason."""
    log_alarm(Unarmed(bytes(32), 61.5, ""))

    assert "state_unarmed channel=0000000000000000 seconds=61 reason=the tower does not answer" in caplog.text


@pytest.mark.asyncio
async def test_a_suspended_tower_gets_everything_all_the_same(tower: Bench) -> None:
    """States and revocations are delivered while it signs nothing; none of them counts as armed."""
    pair = open_pair()
    tower.registered(pair)
    pair.updates(3)
    tower.may_sign = False
    async with client_of(tower, pair) as client:
        with pytest.raises(ReceiptMissing):
            await client.synchronize(pair.channel_id)
        held = tower.context.channels.load(tower.context.channels.stream_of(pair.params.proposal_id))
        unarmed = pair.b.channel(pair.channel_id)
        tower.may_sign = True
        await client.synchronize(pair.channel_id)

    assert (3, 2, 2) == (held.sequence, held.highest_revoked, held.own_released)
    assert (-1, ()) == (unarmed.final_sequence, unarmed.acknowledged)
    assert pair.b.channel(pair.channel_id).final_sequence == 3


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.integers(0, SIGNED_RECEIPT_SIZE - 1), mask=st.integers(1, 255))
def test_any_changed_byte_of_an_answer_is_refused(place: int, mask: int) -> None:
    """No byte of body or signature can be another one without the SDK noticing."""
    raw = bytearray(receipt_of(bytes(32), 5).encode())
    raw[place] ^= mask
    told = ReceiptText(bytes(raw[:204]).hex(), bytes(raw[204:]).hex())

    with pytest.raises(ReceiptForged):
        ReceiptBook().check(told, Expected(TOWER, bytes(32), 5, UPLOAD))


@given(text=st.text(max_size=600))
def test_no_text_is_a_receipt(text: str) -> None:
    """Whatever stands where a receipt should be is a typed refusal."""
    with pytest.raises(ReceiptForged):
        ReceiptBook().check(ReceiptText(text, text), Expected(TOWER, bytes(32), 5, UPLOAD))
