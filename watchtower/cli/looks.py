"""The commands of `watchtower channel` that ask a tower over its API."""

from __future__ import annotations

import click

from watchtower.cli.output import Context, emit_document
from watchtower.cli.places import Place, tower_options


@click.command("info")
@click.argument("channel_id")
@tower_options
def info(context: Context, place: Place, channel_id: str, as_json: bool) -> None:
    """Show what the tower answers about a channel, with what can be spent and received.

    \b
    Example:
      watchtower channel info 3f9a --home ./alice --json
    """
    from watchtower.party.questions import TellChannel

    emit_document(context, "channel", place.ask(TellChannel(channel=channel_id)), as_json=as_json)


@click.command("state")
@click.argument("channel_id")
@tower_options
def state(context: Context, place: Place, channel_id: str, as_json: bool) -> None:
    """Show the newest complete state of a channel with everything that both parties signed.

    \b
    Example:
      watchtower channel state 3f9a --json
    """
    from watchtower.party.questions import ShowState

    emit_document(context, "state", place.ask(ShowState(channel=channel_id)), as_json=as_json)


@click.command("funding")
@click.argument("channel_id")
@tower_options
def funding(context: Context, place: Place, channel_id: str, as_json: bool) -> None:
    """Show where the funding output of a channel stands.

    \b
    Example:
      watchtower channel funding 3f9a
    """
    from watchtower.party.questions import ShowFunding

    emit_document(context, "funding", place.ask(ShowFunding(channel=channel_id)), as_json=as_json)


COMMANDS = (info, state, funding)
