"""The calls behind the commands, at a party that has a peer and a tower: what they fill in and what they refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from domain.chain import display, make_outpoint
from domain.errors import ChannelNotReady, InvalidState, MalformedInput, SelfBreach, UnknownChannel
from domain.transaction import Transaction, TxIn, TxOut
from tests.support.cheater import unsafe_commitment
from tests.support.parties import seed_of
from tests.support.sdk import HALF, desk
from tests.support.sdk import Desk as Stage
from tests.support.towers import TIP, TOWER_ID
from watchtower.client.errors import ConfigurationError
from watchtower.client.protocol.htlcs import Change, NewHtlc
from watchtower.client.wallet import WalletError
from watchtower.party.calls import (
    AbandonChannel,
    ApproveUpdate,
    Call,
    ChallengeState,
    CloseChannel,
    PublishState,
    TellParty,
    UpdateChannel,
    plain,
)
from watchtower.party.desk import Desk
from watchtower.party.paying import ListPayments, MakeInvoice, PayInvoice
from watchtower.party.questions import AddHtlc, FailHtlc, FulfilHtlc, ListReceipts, ShowState, TellFees
from watchtower.party.settings import PartyFile, WalletPlace
from watchtower.receipts.files import read_receipts, write_receipts
from watchtower.wire.hexes import Hex, Hex32, SecretHex

pytestmark = pytest.mark.asyncio

PREIMAGE = b"\x07" * 32
COIN = make_outpoint(b"\x21" * 32, 0)
SPK = b"\x00\x14" + bytes(20)
HASH = sha256(PREIMAGE).hexdigest()


class Asked:
    """Alice's desk, and the channel that she opened."""

    def __init__(self, at: Stage, channel: str) -> None:
        self.at, self.channel = at, channel
        self.desk = Desk(at.client, key=b"\xaa" * 32)

    async def answer(self, call: Call) -> Any:
        """The document of a call."""
        return plain(await call.answer(self.desk))

    async def paid(self, amount: int, **more: Any) -> Any:
        """An update by which alice has paid so much in all."""
        return await self.answer(
            UpdateChannel(channel=self.channel[:6], balances=(HALF - amount, HALF + amount), **more)
        )


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Asked]:
    """A channel in use."""
    async with desk(directory) as at:
        yield Asked(at, await at.open())


async def test_an_update_takes_the_next_number_and_keeps_the_data(tmp_path: Path) -> None:
    """Unless both are given; the same number again changes nothing."""
    async with opened(tmp_path) as asked:
        first = await asked.paid(1_000, state_data=Hex(b"move 1"))
        second = await asked.paid(2_000)
        again = await asked.paid(2_000, sequence=2)
        emptied = await asked.paid(3_000, state_data=Hex(b""))
        shown = [asked.at.bob.state(bytes.fromhex(asked.channel), number).content.state_data for number in (1, 2, 3)]

    assert [1, 2, 2, 3] == [each["sequence"] for each in (first, second, again, emptied)]
    assert [False, True] == [second["duplicate"], again["duplicate"]]
    assert [b"move 1", b"move 1", b""] == shown


async def test_a_party_tells_its_channels(tmp_path: Path) -> None:
    """From its own log, with the tower that it uses."""
    async with opened(tmp_path) as asked:
        await asked.paid(1_000)
        told = await asked.answer(TellParty())

    (channel,) = told["channels"]
    assert ("aa" * 32, "regtest", TIP) == (told["key"], told["network"], told["height"])
    assert (asked.channel, "A", 1, 1, "open") == (
        channel["channel_id"],
        channel["side"],
        channel["sequence"],
        channel["final_sequence"],
        channel["state"],
    )
    assert [HALF - 1_000, HALF + 1_000] == channel["balances"]


async def test_a_party_tells_the_fee_children_of_a_close(tmp_path: Path) -> None:
    """The newest of each parent, as the log has it; before a close there is none."""
    async with opened(tmp_path) as asked:
        before = await asked.answer(TellFees(channel=asked.channel[:8]))
        party, name = asked.at.client.party, bytes.fromhex(asked.channel)
        assert party is not None
        party.sign_commitment(name, 0)
        (parent,) = party.fee_parents(TIP)
        raw = Transaction(3, (TxIn(parent.anchor, 0), TxIn(COIN, 0)), (TxOut(9_000, SPK),), 0).serialize()
        party.note_fee_child(parent, raw, 1_240, TIP)
        told = await asked.answer(TellFees(channel=asked.channel))

    (child,) = told["children"]
    assert ([], None) == (list(before["children"]), told["trouble"])
    assert (display(parent.txid), 1_240, TIP) == (child["parent_txid"], child["fee"], child["height"])
    assert display(Transaction.parse(raw).txid) == child["txid"]


async def test_a_party_tells_its_receipts(tmp_path: Path) -> None:
    """Those that its log holds; written as files they read back, and each is good."""
    async with opened(tmp_path) as asked:
        update = await asked.paid(1_000)
        told = await asked.answer(ListReceipts())
        one = await asked.answer(ListReceipts(channel=asked.channel[:8]))
    rows = told["receipts"]
    files = write_receipts(tmp_path / "out", [(row["channel_id"], row["receipt"]) for row in rows])

    assert told == one
    assert [None, 1] == [row["sequence"] for row in rows]
    assert update["receipt"] == rows[1]["receipt"]
    assert (1, [rows[0]["position"], rows[1]["position"]]) == (
        files,
        [signed.verified(TOWER_ID).position for signed in read_receipts(tmp_path / "out")],
    )


async def test_a_channel_without_a_state_is_an_opening_until_it_is_given_up(tmp_path: Path) -> None:
    """So that a failed opening does not look like a channel."""
    async with opened(tmp_path) as asked:
        asked.at.wallet.broken.add("prepare")
        with pytest.raises(WalletError):
            await asked.at.client.create_channel(asked.at.params())
        begun = (await asked.answer(TellParty()))["channels"][1]
        await asked.answer(AbandonChannel(channel=begun["channel_id"]))
        ended = (await asked.answer(TellParty()))["channels"][1]

    assert ("opening", "abandoned") == (begun["state"], ended["state"])


async def test_a_wallet_that_was_named_once_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next opening pays from that of the settings again; without one in the settings it stays as it is."""
    used: list[WalletPlace] = []
    monkeypatch.setattr("watchtower.party.desk.open_wallet", used.append)
    place = WalletPlace(node="http://127.0.0.1:1", name="purse")
    async with desk(tmp_path) as at:
        table = Desk(at.client, settings=PartyFile(wallet=place))
        table.use_wallet(WalletPlace(name="other"))
        table.use_wallet(WalletPlace())
        Desk(at.client).use_wallet(WalletPlace())

    assert [WalletPlace(node="http://127.0.0.1:1", name="other"), place] == used


async def test_htlcs_are_named_by_their_hash(tmp_path: Path) -> None:
    """One's own is the peer's to take or to give back."""
    async with opened(tmp_path) as asked:
        await asked.answer(AddHtlc(channel=asked.channel, amount=5_000, payment_hash=HASH, expiry=TIP + 300))
        with pytest.raises(InvalidState, match="no HTLC of the peer"):
            await asked.answer(FulfilHtlc(channel=asked.channel, preimage=SecretHex(PREIMAGE)))
        with pytest.raises(InvalidState, match="no HTLC of the peer"):
            await asked.answer(FailHtlc(channel=asked.channel, payment_hash=HASH))
        shown = await asked.answer(ShowState(channel=asked.channel))

    assert [(5_000, HASH)] == [(each["amount"], each["hash"]) for each in shown["conditions"]]


async def test_htlcs_of_the_peer_are_taken_and_given_back(tmp_path: Path) -> None:
    """One by its preimage, the other one by its hash and with a reason."""
    other = sha256(b"unknown").digest()
    async with opened(tmp_path) as asked:
        name = bytes.fromhex(asked.channel)
        asked.at.bob.note_height(TIP)
        for payment_hash in (bytes.fromhex(HASH), other):
            await asked.at.two.b.change(name, Change(add=(NewHtlc(5_000, payment_hash, TIP + 300, None),)))
        taken = await asked.answer(FulfilHtlc(channel=asked.channel, preimage=SecretHex(PREIMAGE)))
        back = await asked.answer(FailHtlc(channel=asked.channel, payment_hash=other.hex(), reason="not today"))
        balances = asked.at.alice.channel(name).balances

    assert (3, 4, (HALF + 5_000, HALF - 5_000)) == (taken["sequence"], back["sequence"], balances)


async def test_a_close_takes_the_newest_balances(tmp_path: Path) -> None:
    """If none are given."""
    async with opened(tmp_path) as asked:
        await asked.paid(1_000)
        closed = await asked.answer(CloseChannel(channel=asked.channel, fee=500))

    assert ("COOPERATIVE", "IN_MEMPOOL") == (closed["kind"], closed["outcome"])


async def test_the_newest_state_is_published_and_no_revoked_one(tmp_path: Path) -> None:
    """Without a number the newest one; an older one is a breach of one's own."""
    async with opened(tmp_path) as asked:
        await asked.paid(1_000)
        with pytest.raises(SelfBreach):
            await asked.answer(PublishState(channel=asked.channel, sequence=0))
        published = await asked.answer(PublishState(channel=asked.channel))

    assert ("UNILATERAL", 1) == (published["kind"], published["sequence"])


async def test_a_challenge_makes_its_own_proof(tmp_path: Path) -> None:
    """Bob published state 0: alice's own records accuse him by the txid alone."""
    async with opened(tmp_path) as asked:
        await asked.paid(1_000)
        name = bytes.fromhex(asked.channel)
        raw = unsafe_commitment(seed_of("bob"), asked.at.bob, name, 0)
        asked.at.tower.node.add_spend(asked.at.bob.channel(name).params.funding_outpoint, raw.serialize())
        txid = display(raw.txid)
        with pytest.raises(MalformedInput, match="proof, or the txid"):
            await asked.answer(ChallengeState(channel=asked.channel, sequence=0))
        told = await asked.answer(ChallengeState(channel=asked.channel, sequence=0, txid=txid))

    assert ("VALID_ENFORCEABLE", "B", txid) == (told["verdict"], told["party"], told["published_txid"])


async def test_approvals_are_remembered(tmp_path: Path) -> None:
    """For the next state, and for a close."""
    async with opened(tmp_path) as asked:
        worse = (HALF - 9_000, HALF + 9_000)
        update = await asked.answer(ApproveUpdate(channel=asked.channel, balances=worse))
        close = await asked.answer(ApproveUpdate(channel=asked.channel, balances=worse, closing=True))

    assert {"channel_id": asked.channel, "approved": "update", "sequence": 1, "balances": list(worse)} == update
    assert {"channel_id": asked.channel, "approved": "close", "balances": list(worse)} == close


async def test_an_opening_with_money_is_not_abandoned(tmp_path: Path) -> None:
    """It has to be closed."""
    async with opened(tmp_path) as asked:
        with pytest.raises(ChannelNotReady, match="close"):
            await asked.answer(AbandonChannel(channel=asked.channel))


async def test_channels_are_found_by_the_beginning_of_their_id(tmp_path: Path) -> None:
    """One must fit, and nothing fits everything."""
    async with opened(tmp_path) as asked:
        found = asked.desk.channel(asked.channel[:4].upper()).channel_id.hex()
        refused = 0
        for text in ("", "zz"):
            with pytest.raises(UnknownChannel, match="party info"):
                asked.desk.channel(text)
            refused += 1

    assert (asked.channel, 2) == (found, refused)


async def test_a_party_without_payments_says_so(tmp_path: Path) -> None:
    """Its list of payments can be asked for all the same."""
    async with opened(tmp_path) as asked:
        for call in (
            MakeInvoice(amount=5, blocks=5),
            PayInvoice(channel=asked.channel, seconds=1, payment_hash=Hex32(PREIMAGE), amount=5_000),
        ):
            with pytest.raises(ConfigurationError, match="without payments"):
                await asked.answer(call)
        listed = await asked.answer(ListPayments())

    assert {"payments": []} == listed
