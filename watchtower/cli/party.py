"""`watchtower party`: a party's directory, and the party as a program."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from watchtower.cli.output import Context, Group, emit_document, emit_json, pass_context
from watchtower.cli.places import (
    FILE,
    Place,
    find_passphrase,
    home_option,
    json_option,
    party_options,
    passphrase_option,
)

PEER = click.option("--peer", "peers", multiple=True, metavar="KEY[@host:port]", help="A peer; repeatable.")


@click.group("party", cls=Group)
def command() -> None:
    """A party to channels: its keys and log in one directory, and the program that answers its peers."""


@command.command("init")
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), required=True, help="The new directory.")
@click.option("--network", help="mainnet (default), testnet, testnet4, signet or regtest.")
@click.option("--passphrase-file", type=FILE, help="File with the passphrase; - reads a line. Default: one is made.")
@click.option("--listen", default="", metavar="host:port", help="Where peers reach it. Default: it only dials.")
@click.option("--tower", default="", metavar="URL", help="The own tower. Default: http://127.0.0.1:9815.")
@click.option("--token-file", type=click.Path(dir_okay=False), help="File with a token of the tower.")
@click.option("--tower-id", default="", metavar="KEY", help="The tower's key, to be sure that it is the right one.")
@click.option("--node", default="", metavar="URL", help="RPC address of the node that has the wallet.")
@click.option("--wallet", default="", metavar="NAME", help="The node's wallet that pays for channels.")
@click.option("--cookie-file", type=click.Path(dir_okay=False), help="The node's cookie.")
@click.option("--no-taproot", is_flag=True, help="Open channels of the segwit-v0 profile.")
@PEER
@click.option("--cost", type=int, hidden=True, help="scrypt cost of the keystore, a power of two.")
@json_option
@pass_context
def init(
    context: Context,
    home: Path,
    network: str | None,
    passphrase_file: str | None,
    listen: str,
    tower: str,
    token_file: str | None,
    tower_id: str,
    node: str,
    wallet: str,
    cookie_file: str | None,
    no_taproot: bool,
    peers: tuple[str, ...],
    cost: int | None,
    as_json: bool,
) -> None:
    """Make a party: seed, encrypted keystore, event log and party.toml. Nothing that exists is overwritten.

    Without --passphrase-file a random passphrase is kept in the directory, readable by you alone.

    \b
    Example:
      watchtower party init --home ./alice --network regtest --listen 127.0.0.1:9735 --token-file ./token
    """
    from watchtower.party.making import make_party
    from watchtower.party.settings import PartyFile, TowerPlace, WalletPlace

    settings = PartyFile(
        network=network,
        taproot_enabled=False if no_taproot else None,
        listen=listen,
        tower=TowerPlace(**_given(url=tower, token_file=_absolute(token_file), id=tower_id)),
        wallet=WalletPlace(**_given(node=node, name=wallet, cookie_file=_absolute(cookie_file))),
    )
    chosen = None if passphrase_file is None else find_passphrase(home, passphrase_file)
    made = make_party(home, settings, os.environ, passphrase=chosen, peers=peers, cost=cost)
    emit_document(context, "party", made, as_json=as_json)


@command.command("run")
@home_option
@passphrase_option
@click.option("--listen", default="", metavar="host:port", help="Overrides party.toml.")
@PEER
@click.option("--anyone", is_flag=True, help="Let peers connect that nobody named.")
@click.option("--application", "applications", multiple=True, metavar="module:name", help="Rules for state_data.")
@click.option("--forward", is_flag=True, help="Forward payments of others, on the terms of party.toml.")
@click.option("--no-payments", is_flag=True, help="Leave HTLCs to `watchtower htlc`: nothing is taken by itself.")
@click.option("--log-level", type=click.Choice(("debug", "info", "warning", "error")), default="info")
@click.option("--json", "as_json", is_flag=True, help="One JSON document with the address, then log lines on stderr.")
@pass_context
def run(
    context: Context,
    home: Path | None,
    passphrase_file: str | None,
    listen: str,
    peers: tuple[str, ...],
    anyone: bool,
    applications: tuple[str, ...],
    forward: bool,
    no_payments: bool,
    log_level: str,
    as_json: bool,
) -> None:
    """Run a party: it answers its peers, and brings every state to its tower. Ends with Ctrl-C or SIGTERM.

    It agrees by itself only to states by which it does not lose; `watchtower channel approve` agrees to another one.
    While it runs, other commands with the same --home let it do their work. Log lines go to stderr.

    \b
    Examples:
      watchtower party run --home ./alice
      watchtower party run --home ./bob --listen 127.0.0.1:9736 --peer KEY@127.0.0.1:9735
    """
    from watchtower.party.program import PartyPlace
    from watchtower.party.program import run as serve
    from watchtower.telemetry.logging import configure

    if home is None:
        raise click.UsageError("name the party's directory with --home or STATE_CHANNEL_PARTY_HOME")
    configure("debug" if context.verbose else log_level, "auto", stream=sys.stderr)

    def started(where: dict[str, Any]) -> None:
        emit_json(where) if as_json else click.echo(where["address"] or f"{where['key']} (dials only)")
        sys.stdout.flush()

    place = PartyPlace(
        home,
        lambda: find_passphrase(home, passphrase_file),
        listen,
        peers,
        applications,
        anyone=anyone,
        forward=forward,
        payments=not no_payments,
    )
    sys.exit(serve(place, started))


@command.command("info")
@party_options
def info(context: Context, place: Place, as_json: bool) -> None:
    """Show a party's key, its tower, and its channels as its own log has them.

    \b
    Example:
      watchtower party info --home ./alice
    """
    from watchtower.party.calls import TellParty

    emit_document(context, "party", place.ask_party(TellParty()), as_json=as_json)


@command.command("receipts")
@click.argument("channel", required=False)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write one file per channel into this.")
@party_options
def receipts(context: Context, place: Place, channel: str | None, out: Path | None, as_json: bool) -> None:
    """Show the receipts of the own tower that the party's log holds: of CHANNEL, or of all channels.

    Each says where in the tower's log a state stands. With --out they are written as `watchtower audit verify
    --receipts` reads them; a line of such a file is what `watchtower proof verify` takes.

    \b
    Examples:
      watchtower party receipts 3f9a --home ./alice
      watchtower party receipts --home ./alice --out ./receipts
    """
    from watchtower.party.questions import ListReceipts
    from watchtower.receipts.files import write_receipts

    document = place.ask_party(ListReceipts(channel=channel))
    if out is None:
        emit_document(context, "receipts", document, as_json=as_json)
        return
    try:
        files = write_receipts(out, [(row["channel_id"], row["receipt"]) for row in document["receipts"]])
    except OSError as error:
        raise click.UsageError(f"{out} cannot be written: {error.strerror}") from None
    emit_document(context, "receipts", {"files": files, "receipts": len(document["receipts"])}, as_json=as_json)


def _absolute(path: str | None) -> str:
    """Settings name files from anywhere."""
    return "" if path is None else str(Path(path).absolute())


def _given(**options: str) -> dict[str, str]:
    return {name: text for name, text in options.items() if text}
