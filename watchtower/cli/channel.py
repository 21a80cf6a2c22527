"""`watchtower channel`: what is watched, from the log itself; and what a party does with its channels.

`list`, `show`, `history` and `liquidity` read the tower's log; no running service is needed.
"""

from __future__ import annotations

from datetime import UTC, datetime

import click

from domain.status import ChannelStatus
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
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def list_channels(context: Context, status: str | None, as_json: bool) -> None:
    """List all channels, the oldest funding first.

    \b
    Examples:
      watchtower channel list
      watchtower channel list --status active --json
    """
    from watchtower.cli import reading

    with reading.views(context.load().settings) as rows:
        found = [row for row in reading.oldest_first(rows) if status in {None, row.status}]
    if as_json:
        emit_json({"channels": [reading.as_document(row) for row in found]})
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
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def show(context: Context, channel_id: str, as_json: bool) -> None:
    """Show one channel. CHANNEL_ID may be shortened as long as it is unique.

    \b
    Examples:
      watchtower channel show 3f9a
      watchtower channel show 3f9a --json
    """
    from watchtower.cli import reading

    with reading.views(context.load().settings) as rows:
        document = reading.as_document(reading.channel(rows, channel_id))
    if as_json:
        emit_json(document)
        return
    document["recorded_at"] = _time(document["recorded_at"])
    told = [(name, value) for name, value in document.items() if value is not None and value != ""]
    context.table("channel", ("field", "value"), told)


@command.command("history")
@click.argument("channel_id")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def history(context: Context, channel_id: str, as_json: bool) -> None:
    """Tell the story of one channel, event by event.

    \b
    Examples:
      watchtower channel history 3f9a
      watchtower channel history 3f9a --json
    """
    from watchtower.cli import reading

    settings = context.load().settings
    with reading.views(settings) as rows:
        row = reading.channel(rows, channel_id)
    entries = list(reading.history(settings, row.stream))
    if as_json:
        events = [reading.as_document(entry) for entry in entries]
        emit_json({"channel_id": row.channel_id.hex(), "events": events})
        return
    context.table(
        "events",
        ("#", "recorded", "height", "event", "what happened"),
        [(entry.version, _time(entry.recorded_at / 1e6), entry.height, entry.kind, entry.line) for entry in entries],
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
