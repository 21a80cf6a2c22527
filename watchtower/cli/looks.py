"""The commands of `watchtower channel` that ask a tower over its API, or a party for what only it knows."""

from __future__ import annotations

from contextlib import closing
from itertools import islice

import click

from domain.as_of import AsOf
from watchtower.cli.as_of import as_of_options
from watchtower.cli.output import Context, emit_document, emit_line, printable
from watchtower.cli.places import Place, party_options, tower_options


@click.command("info")
@click.argument("channel_id")
@as_of_options
@tower_options
def info(context: Context, place: Place, channel_id: str, as_of: AsOf | None, as_json: bool) -> None:
    """Show what the tower answers about a channel, with what can be spent and received; or could be, at a point.

    \b
    Examples:
      watchtower channel info 3f9a --home ./alice --json
      watchtower channel info 3f9a --height 812345
    """
    from watchtower.party.questions import TellChannel

    emit_document(context, "channel", place.ask(TellChannel(channel=channel_id, as_of=as_of)), as_json=as_json)


@click.command("state")
@click.argument("channel_id")
@as_of_options
@tower_options
def state(context: Context, place: Place, channel_id: str, as_of: AsOf | None, as_json: bool) -> None:
    """Show the newest complete state of a channel with everything that both parties signed, or the newest of then.

    \b
    Examples:
      watchtower channel state 3f9a --json
      watchtower channel state 3f9a --at 2026-01-31T12:00:00Z
    """
    from watchtower.party.questions import ShowState

    emit_document(context, "state", place.ask(ShowState(channel=channel_id, as_of=as_of)), as_json=as_json)


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


@click.command("fees")
@click.argument("channel_id")
@party_options
def fees(context: Context, place: Place, channel_id: str, as_json: bool) -> None:
    """Show the fee children of a close: what the wallet pays so that a block takes it, and what keeps it from more.

    \b
    Example:
      watchtower channel fees 3f9a --home ./alice
    """
    from watchtower.party.questions import TellFees

    emit_document(context, "fees", place.ask_party(TellFees(channel=channel_id)), as_json=as_json)


@click.command("follow")
@click.argument("channel_id", required=False)
@click.option("--after", type=click.IntRange(0), help="Begin behind the event with this id; 0 tells everything.")
@click.option("--count", type=click.IntRange(1), help="End after so many events. Default: with Ctrl-C.")
@tower_options
def follow(
    _context: Context, place: Place, channel_id: str | None, after: int | None, count: int | None, as_json: bool
) -> None:
    """Tell the events of a channel, or of all channels, as the tower stores them. With --json one document per line.

    \b
    Examples:
      watchtower channel follow
      watchtower channel follow 3f9a --after 0 --json
    """
    with closing(place.follow(channel_id, after)) as events:
        for event in islice(events, count):
            if as_json:
                emit_line(event)
                continue
            height = "-" if event["height"] is None else event["height"]
            line = f"{event['id']}  {event['channel_id'][:16]}  {height}  {event['kind']}  {event['text']}"
            click.echo(printable(line))


COMMANDS = (info, state, funding, fees, follow)
