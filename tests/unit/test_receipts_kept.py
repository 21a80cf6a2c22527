"""Receipts that a party or a folder keeps."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import msgspec
import pytest

from domain.contract.receipts import SignedReceipt
from domain.contract.uploads import REGISTRATION_SEQ
from domain.errors import InvalidSignature, MalformedInput
from domain.events import StateUpdated, TowerAcknowledged, envelopes
from domain.units import Side
from tests.fakes.store import MemoryEventStore
from tests.support.meddling import REGTEST, STRANGER, Meddler, changed, client_of, text_of
from tests.support.parties import make_party, open_pair
from tests.support.receipts import KEY, TOWER, UPLOAD, receipt_of
from tests.support.towers import TOKEN, TOWER_ID, Bench
from watchtower.client import StateChannelClient, SyncStateChannelClient
from watchtower.client.errors import (
    ConfigurationError,
    ReceiptForged,
    ReceiptOfAnotherTower,
    ReceiptOutOfOrder,
    UnexpectedAnswer,
)
from watchtower.client.tower.receipt_folder import ReceiptFolder
from watchtower.client.tower.receipts import ReceiptBook
from watchtower.receipts.files import read_receipts

pytestmark = pytest.mark.slow


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """B's tower."""
    return Bench(tmp_path)


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
