"""The calls that only ask, and those about single HTLCs and about proofs: the tower answers most of them alone."""

from __future__ import annotations

from typing import Any, ClassVar

from domain.as_of import AsOf
from domain.contract.receipts import SignedReceipt
from watchtower.party.calls import Call
from watchtower.party.desk import Desk
from watchtower.wire.hexes import SecretHex


class ShowState(Call, tag="channel state", frozen=True):
    """The newest complete state with its signatures."""

    channel: str
    as_of: AsOf | None = None

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        return await desk.client.get_channel_state(await desk.channel_id(self.channel), self.as_of)


class ShowFunding(Call, tag="channel funding", frozen=True):
    """Where the funding output stands."""

    channel: str

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        return await desk.client.get_funding_status(await desk.channel_id(self.channel))


class TellFees(Call, tag="channel fees", frozen=True):
    """The children that pay for a close, from the party's own log."""

    offline: ClassVar[bool] = True
    channel: str

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        return await desk.client.get_fee_children(await desk.channel_id(self.channel))


class TellChannel(Call, tag="channel info", frozen=True):
    """A channel as the tower knows it."""

    channel: str
    as_of: AsOf | None = None

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        return await desk.client.get_channel_info(await desk.channel_id(self.channel), self.as_of)


class AddHtlc(Call, tag="htlc add", frozen=True):
    """Offer the peer an amount against a preimage."""

    channel: str
    amount: int
    payment_hash: str
    expiry: int

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        channel_id = desk.channel(self.channel).channel_id.hex()
        return await desk.client.add_htlc(channel_id, self.amount, self.payment_hash, self.expiry)


class FulfilHtlc(Call, tag="htlc fulfil", frozen=True):
    """Take what the peer offers against a preimage."""

    channel: str
    preimage: SecretHex

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        return await desk.client.fulfil_htlc(desk.channel(self.channel).channel_id.hex(), bytes(self.preimage))


class FailHtlc(Call, tag="htlc fail", frozen=True):
    """Give back what the peer offers, or, with `expired`, take an own offer back whose time is over."""

    channel: str
    payment_hash: str
    reason: str = ""
    expired: bool = False

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        channel_id = desk.channel(self.channel).channel_id.hex()
        if self.expired:
            return await desk.client.expire_htlc(channel_id, self.payment_hash)
        return await desk.client.fail_htlc(channel_id, self.payment_hash, self.reason)


class ListReceipts(Call, tag="party receipts", frozen=True):
    """The tower's receipts that the party's log holds, of one channel or of all, oldest first."""

    offline: ClassVar[bool] = True
    channel: str | None = None

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        party = desk.party
        chosen = party.channels() if self.channel is None else (desk.channel(self.channel),)
        return {"receipts": [_told(signed) for channel in chosen for signed in party.receipts(channel.channel_id)]}


class VerifyProof(Call, tag="proof verify", frozen=True):
    """What a proof is worth, as the tower sees it."""

    proof: str

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        return await desk.client.verify_proof(self.proof)


class ValidateTransaction(Call, tag="tx validate", frozen=True):
    """What a transaction is: `tx` is a txid or the whole transaction."""

    tx: str
    channel: str | None = None
    ask_node: bool = False

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        channel_id = None if self.channel is None else await desk.channel_id(self.channel)
        return await desk.client.validate_transaction(self.tx, channel_id=channel_id, ask_node=self.ask_node)


def _told(signed: SignedReceipt) -> dict[str, Any]:
    receipt = signed.read()
    return {
        "channel_id": receipt.subject.hex(),
        "sequence": None if receipt.is_registration else receipt.seq,
        "position": receipt.position,
        "epoch": receipt.epoch,
        "tower_id": receipt.tower_id.hex(),
        "receipt": signed.encode().hex(),
    }
