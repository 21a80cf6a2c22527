"""`watchtower tx`: what a transaction is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from watchtower.cli.output import Context, Group, emit_document
from watchtower.cli.places import STDIN, Place, read_hex, tower_options

TXID = re.compile(r"[0-9a-fA-F]{64}")


@click.group("tx", cls=Group)
def command() -> None:
    """Classify transactions of channels and check them in full."""


@command.command("validate")
@click.argument("transaction", metavar="TXID|FILE")
@click.option("--channel", help="The channel that it should belong to.")
@click.option("--ask-node", is_flag=True, help="Also ask whether the node would take it.")
@tower_options
def validate(
    context: Context, place: Place, transaction: str, channel: str | None, ask_node: bool, as_json: bool
) -> None:
    """Say what a transaction is, and check every rule that it must keep.

    TXID is 64 digits as block explorers show them; FILE holds the whole transaction in bytes or hexadecimal, - reads
    it. Exit code 1 for one that breaks a rule or belongs to no channel.

    \b
    Examples:
      watchtower tx validate TXID
      watchtower tx validate ./transaction --ask-node --json
    """
    from watchtower.party.questions import ValidateTransaction

    is_file = transaction == STDIN or Path(transaction).is_file()
    if not is_file and TXID.fullmatch(transaction) is None:
        raise click.UsageError(f"{transaction[:80]} is neither a txid of 64 hexadecimal digits nor a file")
    text = read_hex(transaction) if is_file else transaction.lower()
    document = place.ask(ValidateTransaction(tx=text, channel=channel, ask_node=ask_node))
    emit_document(context, "transaction", document, as_json=as_json)
    if not document["valid"]:
        sys.exit(1)
