"""`watchtower htlc`: single conditional outputs of a channel."""

from __future__ import annotations

import click

from watchtower.cli.output import Context, Group, emit_document
from watchtower.cli.places import FILE, Place, party_options, read_hex


@click.group("htlc", cls=Group)
def command() -> None:
    """Offer, take and give back amounts that are locked to a payment hash."""


@command.command("add")
@click.argument("channel_id")
@click.option("--amount", type=click.IntRange(1), required=True, help="Satoshi.")
@click.option("--hash", "payment_hash", required=True, help="SHA-256 of the preimage, 64 hexadecimal digits.")
@click.option("--expiry", type=click.IntRange(1), required=True, help="Block height from which it can be taken back.")
@party_options
def add(
    context: Context, place: Place, channel_id: str, amount: int, payment_hash: str, expiry: int, as_json: bool
) -> None:
    """Offer the peer an amount against the preimage of a payment hash, until a block height.

    \b
    Example:
      watchtower htlc add 3f9a --home ./alice --amount 50000 --hash HASH --expiry 850000
    """
    from watchtower.party.questions import AddHtlc

    call = AddHtlc(channel=channel_id, amount=amount, payment_hash=payment_hash, expiry=expiry)
    emit_document(context, "update", place.ask_party(call), as_json=as_json)


@command.command("fulfil")
@click.argument("channel_id")
@click.option("--preimage-file", type=FILE, required=True, help="File with 32 bytes or 64 digits; - reads them.")
@party_options
def fulfil(context: Context, place: Place, channel_id: str, preimage_file: str, as_json: bool) -> None:
    """Take everything that the peer offers against a preimage.

    \b
    Example:
      watchtower htlc fulfil 3f9a --home ./bob --preimage-file ./preimage
    """
    from watchtower.party.questions import FulfilHtlc
    from watchtower.wire.hexes import SecretHex

    try:
        preimage = SecretHex.from_text(read_hex(preimage_file))
    except ValueError:
        raise click.UsageError("a preimage is 32 bytes, or 64 hexadecimal digits") from None
    document = place.ask_party(FulfilHtlc(channel=channel_id, preimage=preimage))
    emit_document(context, "update", document, as_json=as_json)


@command.command("fail")
@click.argument("channel_id")
@click.option("--hash", "payment_hash", required=True, help="The payment hash, 64 hexadecimal digits.")
@click.option("--reason", default="", help="What the peer is told.")
@click.option("--expired", is_flag=True, help="Take an own offer back instead, whose time is over.")
@party_options
def fail(
    context: Context, place: Place, channel_id: str, payment_hash: str, reason: str, expired: bool, as_json: bool
) -> None:
    """Give back everything that the peer offers against a payment hash.

    \b
    Example:
      watchtower htlc fail 3f9a --home ./bob --hash HASH --reason "not today"
    """
    from watchtower.party.questions import FailHtlc

    call = FailHtlc(channel=channel_id, payment_hash=payment_hash, reason=reason, expired=expired)
    emit_document(context, "update", place.ask_party(call), as_json=as_json)
