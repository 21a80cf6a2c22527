"""The calls about payments: over one channel or several, and swaps."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import msgspec

from domain.errors import ChannelNotReady, MalformedInput
from watchtower.client.party.payment_log import Leg, Payment
from watchtower.client.payments import ForwardingPolicy, Invoice, RouteChannel, plan_route, read_bolt11
from watchtower.party.calls import Call
from watchtower.party.desk import Desk
from watchtower.wire.hexes import Hex32


class MakeInvoice(Call, tag="channel invoice", frozen=True):
    """Ask to be paid within so many blocks; with a hash that was made elsewhere the HTLC waits for its preimage."""

    payments: ClassVar[bool] = True

    amount: int
    blocks: int
    payment_hash: Hex32 | None = None

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        until = await _height(desk) + self.blocks
        made = await asyncio.to_thread(desk.payments.invoice, self.amount, until, self.payment_hash)
        return {"payment_hash": made.payment_hash.hex(), "amount": made.amount, "payable_until": made.payable_until}


class FurtherHop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A channel of somebody else on the way, and what its forwarder asks for."""

    channel_id: Hex32
    challenge_period: int
    terms: ForwardingPolicy


class PayInvoice(Call, tag="channel pay", frozen=True):
    """Pay through the own channel `channel`, and on through `hops`. `bolt11` replaces hash and amount.

    `expiry` is that of the last HTLC, a height, or with `relative` that many blocks from now; None chooses the least.
    """

    payments: ClassVar[bool] = True

    channel: str
    seconds: float
    payment_hash: Hex32 | None = None
    amount: int | None = None
    expiry: int | None = None
    relative: bool = False
    bolt11: str | None = None
    hops: tuple[FurtherHop, ...] = ()

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        invoice = self._invoice(desk)
        own = desk.channel(self.channel)
        channels = [RouteChannel(own.channel_id, own.params.challenge_period)]
        channels += [RouteChannel(bytes(hop.channel_id), hop.challenge_period, hop.terms) for hop in self.hops]
        height = await _height(desk)
        expiry = None if self.expiry is None else self.expiry + (height if self.relative else 0)
        route = plan_route(channels, invoice.amount, height, final_expiry=expiry)
        async with asyncio.timeout(self.seconds):
            proof = await desk.payments.pay(route, invoice)
        return {
            "payment_hash": invoice.payment_hash.hex(),
            "amount": invoice.amount,
            "fee": route.fee,
            "proof": proof.hex(),
        }

    def _invoice(self, desk: Desk) -> Invoice:
        if self.bolt11 is None:
            if self.payment_hash is None or self.amount is None:
                raise MalformedInput("a payment needs a payment hash and an amount, or a Lightning invoice")
            return Invoice(bytes(self.payment_hash), self.amount)
        read = read_bolt11(self.bolt11)
        if read.network != desk.client.config.network:
            raise MalformedInput(
                f"this invoice is one of {read.network}, the party one of {desk.client.config.network}"
            )
        amount = self.amount if read.amount is None else read.amount
        if amount is None:
            raise MalformedInput("this invoice leaves the amount open; give it")
        return Invoice(read.payment_hash, amount)


class SwapLeg(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One side of a swap; `expiry` is a height, or with `relative` that many blocks from now."""

    channel: str
    amount: int
    expiry: int
    relative: bool = False


class SwapChannels(Call, tag="channel swap", frozen=True):
    """Give in one channel and take in another one, both or neither, under a hash that the other side made.

    Made here it would be offered before the other side can know it, and would come back at once.
    """

    payments: ClassVar[bool] = True

    give: SwapLeg
    take: SwapLeg
    payment_hash: Hex32
    seconds: float
    wait: bool = True

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        height = await _height(desk)
        give, take = (_leg(desk, leg, height) for leg in (self.give, self.take))
        payment_hash = await asyncio.to_thread(desk.payments.begin_swap, give, take, bytes(self.payment_hash))
        document = {
            "payment_hash": payment_hash.hex(),
            "give": {"channel_id": give.channel_id.hex(), "amount": give.amount, "expiry": give.expiry},
            "take": {"channel_id": take.channel_id.hex(), "amount": take.amount, "expiry": take.expiry},
        }
        if not self.wait:
            return document | {"outcome": None}
        async with asyncio.timeout(self.seconds):
            proof = await desk.payments.proof(payment_hash)
        return document | {"outcome": "paid", "proof": proof.hex()}


class ListPayments(Call, tag="channel payments", frozen=True):
    """All payments of the party."""

    offline: ClassVar[bool] = True

    async def answer(self, desk: Desk) -> Any:
        """See the class."""
        return {"payments": [_told(payment) for payment in desk.party.payments()]}


def _told(payment: Payment) -> dict[str, Any]:
    return {
        "payment_hash": payment.payment_hash.hex(),
        "kind": payment.kind.name.lower(),
        "amount": payment.amount,
        "outcome": None if payment.outcome is None else payment.outcome.name.lower(),
        "reason": payment.reason,
    }


def _leg(desk: Desk, leg: SwapLeg, height: int) -> Leg:
    return Leg(desk.channel(leg.channel).channel_id, leg.amount, leg.expiry + (height if leg.relative else 0))


async def _height(desk: Desk) -> int:
    """The tower's height, which the party hears too."""
    height = (await desk.client.get_state()).height
    if height is None:
        raise ChannelNotReady("the tower does not know the height of the chain yet; wait until it watches")
    return height
