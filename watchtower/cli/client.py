"""`watchtower client`: which parties may register channels with their own key."""

from __future__ import annotations

import time
from pathlib import Path

import click

from domain.contract.keys import is_xonly
from watchtower.access import AccessFile, PartyEntry
from watchtower.cli.output import Context, Group, config_option, emit_json, pass_context


@click.group("client", cls=Group)
def command() -> None:
    """Parties that may register channels without a token. A running tower sees changes at once."""


@command.command("allow")
@click.argument("key")
@click.option("--note", default="", help="Who this is, for you.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def allow(context: Context, key: str, note: str, as_json: bool) -> None:
    """Let a party register the channel whose auth key this is (64 hexadecimal digits).

    \b
    Example:
      watchtower client allow KEY --note "Alice, wallet"
    """
    entry = _access(context).allow(_key(key), note, int(time.time()))
    if as_json:
        emit_json(_plain(entry))
    else:
        click.echo(f"allowed {entry.key}")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def list_parties(context: Context, as_json: bool) -> None:
    """List the parties that may register.

    \b
    Example:
      watchtower client list
    """
    entries = _access(context).table().parties
    if as_json:
        emit_json({"parties": [_plain(entry) for entry in entries]})
        return
    context.table("parties", ("key", "note"), [(entry.key, entry.note) for entry in entries])


@command.command("remove")
@click.argument("key")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def remove(context: Context, key: str, as_json: bool) -> None:
    """Take the permission back. Channels that are registered stay under watch and stay the party's.

    \b
    Example:
      watchtower client remove KEY
    """
    entry = _access(context).remove(_key(key))
    if as_json:
        emit_json(_plain(entry))
    else:
        click.echo(f"removed {entry.key}")


def _access(context: Context) -> AccessFile:
    return AccessFile(Path(context.load().settings.access_path))


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if not is_xonly(key):
        raise click.BadParameter("write the x-only auth key as 64 hexadecimal digits", param_hint="KEY")
    return key


def _plain(entry: PartyEntry) -> dict[str, object]:
    return {"key": entry.key, "note": entry.note, "allowed_at": entry.allowed_at}
