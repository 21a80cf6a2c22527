"""`watchtower token`: tokens for people and programs of the operator."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from watchtower.access import SCOPES, AccessFile, Scope, TokenEntry
from watchtower.cli.output import Context, Group, config_option, emit_json, pass_context


@click.group("token", cls=Group)
def command() -> None:
    """Tokens for the API. A running tower sees changes at once."""


@command.command("create")
@click.argument("name")
@click.option(
    "--scope", "scopes", type=click.Choice(SCOPES), multiple=True, required=True, help="What it allows; repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def create(context: Context, name: str, scopes: tuple[Scope, ...], as_json: bool) -> None:
    """Make a token and print it, once: the tower keeps only its hash.

    \b
    Examples:
      watchtower token create grafana --scope metrics:read --scope status:read
      watchtower token create wallet --scope channels:read --scope channels:write --json
    """
    access = _access(context)
    token, entry = access.create_token(name, tuple(dict.fromkeys(scopes)), int(time.time()))
    if as_json:
        emit_json({"token": token} | _plain(entry))
        return
    click.echo(token)
    click.echo(f"id {entry.id}, scopes {', '.join(entry.scopes)}; it is shown only now", err=True)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def list_tokens(context: Context, as_json: bool) -> None:
    """List tokens without their texts. The token of `watchtower init` is not among them: it is in the settings.

    \b
    Example:
      watchtower token list
    """
    entries = _access(context).table().tokens
    if as_json:
        emit_json({"tokens": [_plain(entry) for entry in entries]})
        return
    rows = [(entry.id, entry.name, ", ".join(entry.scopes), _day(entry.created_at)) for entry in entries]
    context.table("tokens", ("id", "name", "scopes", "created"), rows)


@command.command("revoke")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def revoke(context: Context, name: str, as_json: bool) -> None:
    """End a token, by its id or name, at once.

    \b
    Example:
      watchtower token revoke grafana
    """
    entry = _access(context).revoke_token(name)
    if as_json:
        emit_json(_plain(entry))
    else:
        click.echo(f"revoked {entry.id} ({entry.name})")


def _access(context: Context) -> AccessFile:
    return AccessFile(Path(context.load().settings.access_path))


def _plain(entry: TokenEntry) -> dict[str, object]:
    return {"id": entry.id, "name": entry.name, "scopes": list(entry.scopes), "created_at": entry.created_at}


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
