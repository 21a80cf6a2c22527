"""`watchtower breach`: revoked states that were published, and what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from watchtower.cli.output import Context, Group, config_option, emit_json, pass_context

if TYPE_CHECKING:
    from projections.channel_info import ChannelInfoRow
    from projections.open_breaches import OpenBreachRow


@click.group("breach", cls=Group)
def command() -> None:
    """Breaches, from the log itself; no running tower is needed."""


@command.command("list")
@click.option("--all", "with_ended", is_flag=True, help="Those that are over, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def list_breaches(context: Context, with_ended: bool, as_json: bool) -> None:
    """List open breaches, the nearest deadline first, with the blocks that are left.

    \b
    Examples:
      watchtower breach list
      watchtower breach list --all --json
    """
    from watchtower.cli import reading

    with reading.views(context.load().settings) as rows:
        tip = reading.tip_height(rows)
        names = names_of(rows)
        found = [open_document(row, names.get(row.stream, row.stream), tip) for row in open_rows(rows)]
        found.sort(key=lambda each: (each["blocks_left"] is None, each["blocks_left"] or 0))
        if with_ended:
            listed = {each["commit_txid"] for each in found}
            ended = [ended_document(row) for row in reading.channels(rows) if is_breach(row)]
            found += [each for each in ended if each["commit_txid"] not in listed]
    if as_json:
        emit_json({"height": tip, "breaches": found})
        return
    columns = ("commitment", "channel", "state", "value", "deadline", "blocks left", "answer", "fee")
    shown = ("sequence", "value", "deadline", "blocks_left", "answer", "fee")
    cells = [(each["commit_txid"][:16], each["channel_id"][:16], *(each[name] for name in shown)) for each in found]
    context.table("breaches", columns, cells)


@command.command("show")
@click.argument("breach_id")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def show(context: Context, breach_id: str, as_json: bool) -> None:
    """Show one breach and its story. BREACH_ID is the txid of the commitment or the channel's id, shortened if unique.

    \b
    Examples:
      watchtower breach show 3f9a
      watchtower breach show 3f9a --json
    """
    from domain.errors import MalformedInput, UnknownChannel
    from watchtower.cli import reading

    wanted, settings = breach_id.lower(), context.load().settings
    if len(wanted) < 4:
        raise MalformedInput("give at least 4 characters of the txid or of the channel's id")
    with reading.views(settings) as rows:
        tip = reading.tip_height(rows)
        names = names_of(rows)
        found = [open_document(row, names.get(row.stream, row.stream), tip) for row in open_rows(rows)]
        streams = {each["stream"] for each in found}
        ended = (row for row in reading.channels(rows) if is_breach(row) and row.stream not in streams)
        found += [ended_document(row) for row in ended]
    fitting = [
        each
        for each in found
        if each["commit_txid"].startswith(wanted)
        or each["channel_id"].startswith(wanted)
        or each["stream"].startswith(breach_id)
    ]
    if len(fitting) != 1:
        raise UnknownChannel(
            f"{len(fitting)} breaches begin with {breach_id}; `watchtower breach list --all` shows them"
        )
    document = fitting[0]
    story = [entry for entry in reading.history(settings, document["stream"]) if entry.kind not in _UNEVENTFUL]
    if as_json:
        emit_json(document | {"events": [reading.as_document(entry) for entry in story]})
        return
    context.table(
        "breach", ("field", "value"), [(name, value) for name, value in document.items() if value is not None]
    )
    context.table("events", ("height", "event", "what happened"), [(e.height, e.kind, e.line) for e in story])


_UNEVENTFUL = frozenset({"StateAccepted", "StateRevoked"})
"""Updates from before the breach: a channel has thousands of them."""


def open_rows(rows: Any) -> list[OpenBreachRow]:
    """All breaches that stand."""
    from projections import open_breaches
    from projections.open_breaches import OpenBreachRow

    found: list[OpenBreachRow] = []
    after = None
    while page := rows.page(open_breaches.TABLE, after, 5_000):
        found += [OpenBreachRow(*row) for row in page]
        after = open_breaches.TABLE.key_of(page[-1])
    return found


def names_of(rows: Any) -> dict[str, str]:
    """Stream -> channel id, in hexadecimal."""
    from watchtower.cli import reading

    return {row.stream: row.channel_id.hex() for row in reading.channels(rows)}


def open_document(row: OpenBreachRow, channel_id: str, tip: int) -> dict[str, Any]:
    """A breach that stands: txids in display order, amounts in satoshi."""
    from watchtower.cli.reading import as_document
    from watchtower.doctor.overview import stage_of

    told = as_document(row)
    return {
        "commit_txid": told["commit_txid"],
        "channel_id": channel_id,
        "stream": row.stream,
        "sequence": row.sequence,
        "value": row.value,
        "height": row.height,
        "deadline": row.deadline,
        "blocks_left": None if row.deadline is None else row.deadline - tip,
        "answer": stage_of(row),
        "bids": row.bid_no,
        "fee": row.bid_fee,
        "penalty_txid": told["penalty_txid"] or told["bid_txid"],
        "penalty_height": row.penalty_height,
        "lost_height": row.lost_height,
    }


def is_breach(row: ChannelInfoRow) -> bool:
    """True for a channel that ended, or is ending, by a revoked state."""
    from domain.events import SpendKind

    return row.spend_kind == SpendKind.BREACH.value


def ended_document(row: ChannelInfoRow) -> dict[str, Any]:
    """A breach that is over, in the form of one that stands."""
    from watchtower.cli.reading import as_document

    told = as_document(row)
    return {
        "commit_txid": told["spend_txid"],
        "channel_id": row.channel_id.hex(),
        "stream": row.stream,
        "sequence": row.spend_sequence,
        "value": row.contest_value,
        "height": row.spend_height,
        "deadline": row.deadline,
        "blocks_left": None,
        "answer": row.status.lower(),
        "bids": row.penalty_bid_no or 0,
        "fee": row.penalty_fee or 0,
        "penalty_txid": told["penalty_txid"],
        "penalty_height": row.penalty_height,
        "lost_height": row.settle_height,
    }
