"""The commands of `watchtower channel` about payments."""

from __future__ import annotations

from typing import Any

import click

from watchtower.cli.output import Context, emit_document
from watchtower.cli.places import FILE, Place, party_options, read_bytes, whole_number

TIMEOUT = click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True, help="Seconds to wait."
)
TERMS = ("base_fee", "fee_rate", "expiry_delta")


class HopText(click.ParamType[dict[str, Any]]):
    """A channel of somebody else: CHANNEL_ID,period=144,base_fee=1,fee_rate=1000."""

    name = "hop"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """Split it; numbers are checked here, the id where it is used."""
        if isinstance(value, dict):
            return value
        channel, *rest = str(value).split(",")
        found = {name: whole_number(text) for name, _, text in (part.partition("=") for part in rest)}
        if not set(found) <= {"period", *TERMS} or None in found.values() or len(found) < len(rest):
            self.fail("write CHANNEL_ID,period=BLOCKS,base_fee=SAT,fee_rate=MILLIONTHS,expiry_delta=BLOCKS", param, ctx)
        return {"channel_id": channel} | found


class LegText(click.ParamType[tuple[str, int, int, bool]]):
    """One side of a swap: CHANNEL_ID,AMOUNT,EXPIRY."""

    name = "leg"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int, int, bool]:
        """Channel, satoshi, expiry, and whether it counts from now."""
        if isinstance(value, tuple):
            return value
        channel, _, numbers = str(value).partition(",")
        satoshi, _, expiry = numbers.partition(",")
        amount, blocks = whole_number(satoshi), whole_number(expiry.removeprefix("+"))
        if not channel or amount is None or blocks is None:
            self.fail("write CHANNEL_ID,AMOUNT,HEIGHT or CHANNEL_ID,AMOUNT,+BLOCKS", param, ctx)
        return channel, amount, blocks, expiry.startswith("+")


class ExpiryText(click.ParamType[tuple[int, bool]]):
    """A block height, or +BLOCKS from now."""

    name = "expiry"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, bool]:
        """The number, and whether it counts from now."""
        if isinstance(value, tuple):
            return value
        blocks = whole_number(str(value).removeprefix("+"))
        if blocks is None:
            self.fail("write a block height, or +BLOCKS from now", param, ctx)
        return blocks, str(value).startswith("+")


LEG = LegText()


@click.command("invoice")
@click.option("--amount", type=click.IntRange(1), required=True, help="Satoshi.")
@click.option("--blocks", type=click.IntRange(1), default=144, show_default=True, help="How long it may be paid.")
@click.option("--hash", "payment_hash", help="A payment hash that was made elsewhere. Default: one is made.")
@party_options
def invoice(context: Context, place: Place, amount: int, blocks: int, payment_hash: str | None, as_json: bool) -> None:
    """Ask to be paid: prints the payment hash that the payer needs. The party must run to take the payment.

    \b
    Example:
      watchtower channel invoice --home ./bob --amount 50000
    """
    from watchtower.party.paying import MakeInvoice

    call = MakeInvoice(amount=amount, blocks=blocks, payment_hash=_hash(payment_hash))
    emit_document(context, "invoice", place.ask_party(call), as_json=as_json)


@click.command("pay")
@click.argument("channel_id")
@click.option("--hash", "payment_hash", help="The payment hash of the invoice.")
@click.option("--amount", type=click.IntRange(1), help="Satoshi.")
@click.option("--bolt11", type=FILE, help="File with a Lightning invoice instead; - reads it.")
@click.option(
    "--hop", "hops", type=HopText(), multiple=True, metavar="ID,period=N,…", help="Further channel; repeatable."
)
@click.option("--expiry", type=ExpiryText(), metavar="HEIGHT|+BLOCKS", help="Of the last HTLC. Default: the least.")
@TIMEOUT
@party_options
def pay(
    context: Context,
    place: Place,
    channel_id: str,
    payment_hash: str | None,
    amount: int | None,
    bolt11: str | None,
    hops: tuple[dict[str, Any], ...],
    expiry: tuple[int, bool] | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Pay through the own channel CHANNEL_ID, to its peer or on through further channels.

    Each --hop names a channel behind it, the blocks of its challenge period, and what its forwarder asks for
    (base_fee in satoshi, fee_rate in millionths, expiry_delta in blocks). Prints the preimage as the proof. After
    the time is over the payment goes on; the same command waits for it again and never pays twice.

    \b
    Examples:
      watchtower channel pay 3f9a --home ./alice --hash HASH --amount 50000
      watchtower channel pay 3f9a --home ./alice --hash HASH --amount 50000 --hop CHANNEL_ID,period=144,base_fee=1
    """
    from watchtower.party.paying import PayInvoice

    if (payment_hash is None) == (bolt11 is None):
        raise click.UsageError("give either --hash with --amount, or --bolt11 FILE")
    call = PayInvoice(
        channel=channel_id,
        seconds=timeout,
        payment_hash=_hash(payment_hash),
        amount=amount,
        expiry=None if expiry is None else expiry[0],
        relative=expiry is not None and expiry[1],
        bolt11=None if bolt11 is None else read_bytes(bolt11).decode("ascii", "replace").strip(),
        hops=tuple(_hop(hop) for hop in hops),
    )
    emit_document(context, "payment", place.ask_party(call), as_json=as_json)


@click.command("swap")
@click.option(
    "--give", type=LEG, required=True, metavar="ID,AMOUNT,EXPIRY", help="What this party pays, and until when."
)
@click.option("--take", type=LEG, required=True, metavar="ID,AMOUNT,EXPIRY", help="What it gets.")
@click.option("--hash", "payment_hash", required=True, help="The payment hash that the receiver of --give made.")
@click.option("--begin", is_flag=True, help="Do not wait for the end.")
@TIMEOUT
@party_options
def swap(
    context: Context,
    place: Place,
    give: tuple[str, int, int, bool],
    take: tuple[str, int, int, bool],
    payment_hash: str,
    begin: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Swap an amount in one channel for an amount in another one: both happen, or neither.

    Who gets --give makes the hash (`watchtower channel invoice`); who pays --take pays under that hash with the same
    expiry (`watchtower channel pay --expiry`), after this command has begun. EXPIRY is a block height, or +BLOCKS from
    now; what is taken must expire later than what is given.

    \b
    Examples:
      watchtower channel swap --home ./bob --give 77d0,40000,+210 --take 3f9a,41000,+600 --hash HASH --begin
      watchtower channel swap --home ./bob --give 77d0,40000,+210 --take 3f9a,41000,+600 --hash HASH
    """
    from watchtower.party.paying import SwapChannels, SwapLeg

    call = SwapChannels(
        give=SwapLeg(*give), take=SwapLeg(*take), seconds=timeout, payment_hash=_hash(payment_hash), wait=not begin
    )
    emit_document(context, "swap", place.ask_party(call), as_json=as_json)


@click.command("payments")
@party_options
def payments(context: Context, place: Place, as_json: bool) -> None:
    """List the payments of a party: invoices, own payments, forwarded ones and swaps.

    \b
    Example:
      watchtower channel payments --home ./alice
    """
    from watchtower.party.paying import ListPayments

    emit_document(context, "payments", place.ask_party(ListPayments()), as_json=as_json)


def _hash(text: str | None) -> Any:
    from watchtower.wire.hexes import Hex32

    try:
        return None if text is None else Hex32.from_text(text.lower())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--hash") from None


def _hop(found: dict[str, Any]) -> Any:
    from watchtower.client.payments import ForwardingPolicy
    from watchtower.party.paying import FurtherHop

    terms = ForwardingPolicy(**{name: found[name] for name in TERMS if name in found})
    return FurtherHop(_hash(found["channel_id"]), found.get("period", 144), terms)


COMMANDS = (invoice, pay, swap, payments)
