"""What the SDK believes of receipts: good ones arm a state, others do not; they are kept, and stay in order."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.contract.receipts import SIGNED_RECEIPT_SIZE, LogReceipt, SignedReceipt
from domain.contract.uploads import REGISTRATION_SEQ
from domain.errors import InvalidSignature, MalformedInput
from domain.events import StateUpdated, TowerAcknowledged, envelopes
from domain.units import Side
from tests.fakes.store import MemoryEventStore
from tests.support.parties import Pair, make_party, open_pair
from tests.support.receipts import KEY, TOWER, UPLOAD, receipt_of
from tests.support.sdk import HALF, desk
from tests.support.towers import TOKEN, TOWER_ID, TOWER_KEY, Bench
from watchtower.client import StateChannelClient, StateChannelConfig, StateUpdate, SyncStateChannelClient
from watchtower.client.errors import (
    ConfigurationError,
    ReceiptForged,
    ReceiptFromTheFuture,
    ReceiptMissing,
    ReceiptOfAnotherTower,
    ReceiptOfAnotherUpload,
    ReceiptOutOfOrder,
    ReceiptRefused,
    StateNotStored,
    UnexpectedAnswer,
)
from watchtower.client.finality import Unarmed, log_alarm
from watchtower.client.receipt_folder import ReceiptFolder
from watchtower.client.receipts import Expected, ReceiptBook, ReceiptText, check_shown
from watchtower.client.types import LogState
from watchtower.receipts.files import read_receipts
from watchtower.receipts.tower_key import TowerKey

pytestmark = pytest.mark.slow

REGTEST = StateChannelConfig(network="regtest")
STRANGER = TowerKey(bytes(31) + b"\x09")
Change = Callable[[SignedReceipt], SignedReceipt | None]


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """B's tower."""
    return Bench(tmp_path)


class Meddler(httpx.AsyncBaseTransport):
    """Carries everything, and changes the receipts in the answers once `change` is set."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner
        self.change: Change | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry, and meddle."""
        answer = await self.inner.handle_async_request(request)
        if self.change is None or not request.url.path.endswith(("/states", "/channels")) or request.method != "POST":
            return answer
        document = json.loads(await answer.aread())
        told = document["receipt"]
        made = self.change(SignedReceipt(bytes.fromhex(told["body"]), bytes.fromhex(told["signature"])))
        document["receipt"] = None if made is None else {"body": made.body.hex(), "signature": made.signature.hex()}
        return httpx.Response(answer.status_code, json=document)


def changed(key: TowerKey = TOWER_KEY, **fields: object) -> Change:
    """A receipt that says something else, signed by this key."""

    def change(signed: SignedReceipt) -> SignedReceipt:
        values = {name: value(signed.read()) if callable(value) else value for name, value in fields.items()}
        return key.receipt(msgspec.structs.replace(signed.read(), **values).encode())

    return change


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


def client_of(
    tower: Bench, pair: Pair | None, transport: httpx.AsyncBaseTransport | None = None, **options: Any
) -> Any:
    """A client of this tower with B's party."""
    party = pair.b if pair else None
    carried = transport or tower.transport()
    return StateChannelClient(REGTEST, url="http://tower", token=TOKEN, party=party, transport=carried, **options)


# ── D16 ──────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── every changed byte ───────────────────────────────────────────────────────────────────────────────────


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


# ── order ────────────────────────────────────────────────────────────────────────────────────────────────


def text_of(signed: SignedReceipt) -> ReceiptText:
    """As it stands in an answer."""
    return ReceiptText(signed.body.hex(), signed.signature.hex())


def taken(book: ReceiptBook, sequence: int, **fields: object) -> SignedReceipt:
    """Let the book check a good receipt of a state, and note it."""
    upload = fields.get("upload_sha256", UPLOAD)
    assert isinstance(upload, bytes)
    signed = book.check(
        text_of(receipt_of(bytes(32), sequence, **fields)),  # type: ignore[arg-type]
        Expected(TOWER, bytes(32), sequence, upload),
    )
    book.note(signed.read())
    return signed


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


# ── from the future ──────────────────────────────────────────────────────────────────────────────────────


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


# ── kept ─────────────────────────────────────────────────────────────────────────────────────────────────


def acknowledged(store: MemoryEventStore) -> list[TowerAcknowledged]:
    """The acknowledgements in a party's log."""
    payloads = (recorded.envelope.payload for recorded in store.read_log(0, 10_000))
    return [payload for payload in payloads if isinstance(payload, TowerAcknowledged)]


@pytest.mark.asyncio
async def test_a_party_keeps_its_receipts(tower: Bench) -> None:
    """Body and signature stand in its log; a party that is started again knows them, and each is good."""
    stores = (MemoryEventStore(), MemoryEventStore())
    pair = open_pair(parties=tuple(make_party(n, store=s) for n, s in zip(("alice", "bob"), stores, strict=True)))  # type: ignore[arg-type]
    tower.fund(pair)
    async with client_of(tower, pair) as client:
        await client.synchronize(pair.channel_id)
        tower.confirm(pair)
        pair.updates(2)
        await client.synchronize(pair.channel_id)
        await client.synchronize(pair.channel_id)
    again = make_party("bob", store=stores[1])

    kept = [signed.verified(TOWER_ID) for signed in again.receipts(pair.channel_id)]
    assert [REGISTRATION_SEQ, 1, 2] == [receipt.seq for receipt in kept]
    assert [0, 1, 2] == [event.sequence for event in acknowledged(stores[1])]
    newest = dict(again.channel(pair.channel_id).receipts)[TOWER_ID].read()
    stored = tower.store.read_log(newest.position - 1, 1)[0].envelope.payload
    assert isinstance(stored, StateUpdated)
    assert stored.sequence == 2


@pytest.mark.asyncio
async def test_receipts_of_the_log_are_compared_after_a_restart(tower: Bench) -> None:
    """A client that begins anew knows what the party held: a contradiction is found at once."""
    pair = open_pair()
    tower.registered(pair)
    pair.updates(1)
    async with client_of(tower, pair) as client:
        await client.synchronize(pair.channel_id)
    pair.updates(1)
    meddler = Meddler(tower.transport())
    async with client_of(tower, pair, meddler) as client:
        meddler.change = changed(position=2)
        with pytest.raises(ReceiptOutOfOrder):
            await client.synchronize(pair.channel_id)


def test_a_party_takes_no_bad_receipt() -> None:
    """Its log is the last line: signature, channel and upload are checked there too, and nothing is written."""
    store = MemoryEventStore()
    pair = open_pair(parties=(make_party("alice"), make_party("bob", store=store)))
    good = receipt_of(pair.channel_id, 0)

    with pytest.raises(InvalidSignature):
        pair.b.acknowledge(pair.channel_id, SignedReceipt(good.body, bytes(64)), UPLOAD)
    with pytest.raises(MalformedInput, match="another"):
        pair.b.acknowledge(pair.channel_id, receipt_of(bytes(32), 0), UPLOAD)
    with pytest.raises(MalformedInput, match="another"):
        pair.b.acknowledge(pair.channel_id, good, bytes(31) + b"\x01")
    assert acknowledged(store) == []


def test_a_party_stores_only_what_says_more() -> None:
    """The same again and what is older writes nothing; a later state, a revocation, a new epoch does."""
    store = MemoryEventStore()
    pair = open_pair(parties=(make_party("alice"), make_party("bob", store=store)))
    pair.updates(3)

    def take(sequence: int, **fields: object) -> int:
        signed = receipt_of(pair.channel_id, sequence, **fields)  # type: ignore[arg-type]
        pair.b.acknowledge(pair.channel_id, signed, signed.read().upload_sha256)
        return len(acknowledged(store))

    assert [1, 2, 2, 2] == [take(REGISTRATION_SEQ), take(2), take(2), take(1)]
    assert 2 == take(REGISTRATION_SEQ)
    assert 3 == take(2, upload_sha256=bytes(31) + b"\x01", position=31)
    assert [4, 5] == [take(1, epoch=1), take(2, epoch=1)]
    assert pair.b.channel(pair.channel_id).acknowledged == ((TOWER, 2),)


def test_an_acknowledgement_of_an_earlier_version_counts() -> None:
    """A log that holds acknowledgements without receipts says the same as before; the next receipt is taken."""
    store = MemoryEventStore()
    pair = open_pair(parties=(make_party("alice"), make_party("bob", store=store)))
    pair.updates(1)
    channel = pair.b.channel(pair.channel_id)
    old = TowerAcknowledged(
        recorded_at=1, tower_id=TOWER, sequence=1, upload_sha256=UPLOAD, receipt=b"", receipt_sig=b""
    )
    store.append(envelopes(channel.stream, channel.version, (old,)))
    again = make_party("bob", store=store)
    before = again.channel(pair.channel_id)
    again.acknowledge(pair.channel_id, receipt_of(pair.channel_id, 1), UPLOAD)

    assert (1, ()) == (before.final_sequence, before.receipts)
    assert [1] == [signed.read().seq for signed in again.receipts(pair.channel_id)]


@pytest.mark.asyncio
async def test_a_client_without_a_party_keeps_files(tower: Bench, tmp_path: Path) -> None:
    """One file per channel, private, a line per receipt; a client that begins anew goes on from them."""
    pair = open_pair()
    tower.fund(pair)
    pair.updates(2)
    folder = tmp_path / "receipts"
    async with client_of(tower, None, receipts_path=folder) as client:
        first = await client.register_channel(pair.registration(Side.B))
        tower.confirm(pair)
        second = await client.upload_state(pair.channel_id.hex(), pair.update_request(Side.B, 1))
    meddler = Meddler(tower.transport())
    async with client_of(tower, None, meddler, receipts_path=str(folder)) as client:
        meddler.change = changed(position=2)
        with pytest.raises(ReceiptOutOfOrder):
            await client.upload_state(pair.channel_id.hex(), pair.update_request(Side.B, 2))

    path = folder / f"{pair.channel_id.hex()}.receipts"
    assert [first.receipt, second.receipt] == path.read_text().split()
    assert (0o700, 0o600) == (folder.stat().st_mode & 0o777, path.stat().st_mode & 0o777)
    assert [REGISTRATION_SEQ, 1] == [signed.verified(TOWER_ID).seq for signed in read_receipts(folder)]


def test_a_torn_line_is_dropped_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    """A crash cuts the last line, which nobody relied on; anything else is damage that is told by file and line."""
    folder = ReceiptFolder(tmp_path / "receipts")
    for sequence in (1, 2):
        folder.add(receipt_of(bytes(32), sequence))
    path = next((tmp_path / "receipts").glob("*.receipts"))
    path.write_bytes(path.read_bytes()[:-9])
    again = ReceiptFolder(tmp_path / "receipts")

    assert [1] == [signed.read().seq for signed in again.read()]
    again.add(receipt_of(bytes(32), 3))
    assert [1, 3] == [signed.read().seq for signed in again.read()]
    path.write_text(path.read_text().replace("52435032", "52435039", 1))
    with pytest.raises(MalformedInput, match=f"{path.name}:1"):
        list(again.read())


def test_a_line_of_which_a_full_disk_took_a_part_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next receipt would stand behind the part, and neither could be read again."""
    folder = ReceiptFolder(tmp_path / "receipts")
    folder.add(receipt_of(bytes(32), 1))
    with monkeypatch.context() as full:
        write = os.write
        full.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:100]))
        with pytest.raises(ConfigurationError, match="cannot be kept"):
            folder.add(receipt_of(bytes(32), 2))
    folder.add(receipt_of(bytes(32), 3))

    assert [1, 3] == [signed.read().seq for signed in folder.read()]


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """A file where the directory should be; the sentence names it."""
    (tmp_path / "taken").write_text("")

    with pytest.raises(ConfigurationError, match="receipts_path"):
        StateChannelClient(REGTEST, receipts_path=tmp_path / "taken")


def test_the_synchronous_twin_has_receipts_too(tower: Bench) -> None:
    """The same calls without asyncio."""
    pair = open_pair()
    tower.registered(pair)
    pair.updates(1)
    with SyncStateChannelClient(
        REGTEST, url="http://tower", token=TOKEN, party=pair.b, transport=tower.transport()
    ) as client:
        result = client.synchronize(pair.channel_id)
        client.check_receipts()

        assert result.receipt == client.get_receipt(pair.channel_id.hex(), 1)


@pytest.mark.asyncio
async def test_a_wrong_receipt_of_a_question_is_refused(tower: Bench) -> None:
    """What is asked for again is checked like everything else."""
    pair = open_pair()
    tower.registered(pair)
    answers: list[dict[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        del request
        return httpx.Response(200, json=answers.pop())

    async with client_of(tower, None) as client:
        client._http = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://tower")
        for bad, error in (
            ({"body": "00", "signature": "00"}, ReceiptForged),
            ({"body": receipt_of(pair.channel_id, 1).body.hex(), "signature": "00" * 64}, ReceiptForged),
            (msgspec.to_builtins(text_of(receipt_of(pair.channel_id, 1))), ReceiptOfAnotherTower),
            ({"something": "else"}, UnexpectedAnswer),
        ):
            answers.append(bad)
            with pytest.raises(error):
                await client.get_receipt(pair.channel_id.hex(), 1)


def test_receipts_of_other_towers_are_left_out() -> None:
    """A book is about one tower; what another one signed says nothing about its order."""
    book = ReceiptBook()
    book.load([receipt_of(bytes(32), 5, key=STRANGER), receipt_of(bytes(32), 3)], TOWER)

    assert book.highest is not None
    assert (KEY.tower_id, 3) == (book.highest.tower_id, book.highest.seq)
