"""`watchtower channel`: what is watched, from the log itself; and what a party does with its channels.

`list`, `show`, `history` and `liquidity` read the tower's log; no running service is needed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

import click

from domain.as_of import AsOf
from domain.status import ChannelStatus
from watchtower.cli.as_of import as_of_options, keep_option
from watchtower.cli.liquidity import command as liquidity
from watchtower.cli.looks import COMMANDS as LOOKS
from watchtower.cli.moves import COMMANDS as MOVES
from watchtower.cli.output import Context, Group, config_option, emit_json, pass_context
from watchtower.cli.payments import COMMANDS as PAYMENTS

STATUS = click.Choice([status.value for status in ChannelStatus], case_sensitive=False)


@click.group("channel", cls=Group)
def command() -> None:
    """Channels: what the tower watches, and what a party does with its own.

    The commands list, show, history and liquidity read the log of the tower on this machine. The others ask a party
    (--home) or a tower (--tower).
    """


for found in (liquidity, *MOVES, *PAYMENTS, *LOOKS):
    command.add_command(found)


@command.command("list")
@click.option("--status", type=STATUS, help="Only channels with this status.")
@as_of_options
@keep_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def list_channels(context: Context, status: str | None, as_of: AsOf | None, keep: Path | None, as_json: bool) -> None:
    """List all channels, the oldest funding first; or those that the tower had at a point of its log.

    For a point of the past the log is folded up to there, which takes a while for a large one.

    \b
    Examples:
      watchtower channel list
      watchtower channel list --status active --json
      watchtower channel list --at 2026-01-31T12:00:00Z --keep ./then.db
    """
    from watchtower.cli import reading, then

    if keep is not None and as_of is None:
        raise click.UsageError("--keep goes with a point of the log, for example --height")
    settings, about = context.load().settings, {}
    if as_of is None:
        with reading.views(settings) as rows:
            found = reading.oldest_first(rows)
    else:
        with then.tower_then(settings, as_of, keep) as (rows, point):
            found = reading.oldest_first(rows)
        about = {"as_of": then.point_document(point)}
    found = [row for row in found if status in {None, row.status}]
    if as_json:
        emit_json({"channels": [reading.as_document(row) for row in found], **about})
        return
    context.table(
        "channels",
        ("channel", "status", "sequence", "capacity", "balance A", "balance B", "deadline"),
        [
            (
                row.channel_id.hex()[:16],
                row.status,
                row.current_sequence,
                row.capacity,
                row.balance_a,
                row.balance_b,
                row.deadline,
            )
            for row in found
        ],
    )


@command.command("show")
@click.argument("channel_id")
@as_of_options
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def show(context: Context, channel_id: str, as_of: AsOf | None, as_json: bool) -> None:
    """Show one channel, as it is or as it was. CHANNEL_ID may be shortened as long as it is unique.

    \b
    Examples:
      watchtower channel show 3f9a
      watchtower channel show 3f9a --height 812345 --json
    """
    from watchtower.cli import reading, then

    with reading.views(context.load().settings) as rows:
        row, point = reading.channel(rows, channel_id), None
        if as_of is not None:
            row, point = then.channel_then(context.load().settings, rows, row.stream, as_of)
    document = reading.as_document(row)
    if as_json:
        emit_json(document if point is None else document | {"as_of": then.point_document(point)})
        return
    if point is not None:
        then.tell_point(point)
    document["recorded_at"] = _time(document["recorded_at"])
    told = [(name, value) for name, value in document.items() if value is not None and value != ""]
    context.table("channel", ("field", "value"), told)


@command.command("history")
@click.argument("channel_id")
@as_of_options
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def history(context: Context, channel_id: str, as_of: AsOf | None, as_json: bool) -> None:
    """Tell the story of one channel, event by event, to its end or up to a point of the log.

    \b
    Examples:
      watchtower channel history 3f9a
      watchtower channel history 3f9a --block 00000000000000000001b2… --json
    """
    from watchtower.cli import reading, then

    settings = context.load().settings
    about = {}
    with reading.views(settings) as rows:
        row = reading.channel(rows, channel_id)
        entries = reading.history(settings, row.stream)
        if as_of is not None:
            point = then.point_of(settings, rows, as_of)
            entries = takewhile(lambda entry: entry.id <= point.position, entries)
            about = {"as_of": then.point_document(point)}
        found = list(entries)
    if as_json:
        events = [reading.as_document(entry) for entry in found]
        emit_json({"channel_id": row.channel_id.hex(), "events": events, **about})
        return
    context.table(
        "events",
        ("#", "recorded", "height", "event", "what happened"),
        [(entry.version, _time(entry.recorded_at / 1e6), entry.height, entry.kind, entry.line) for entry in found],
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
