"""`watchtower channel liquidity`: what can be spent and received, from the log itself; no running service is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from watchtower.cli.output import Context, config_option, emit_json, pass_context

if TYPE_CHECKING:
    from watchtower.config import Settings
    from watchtower.wire.liquidity import LiquidityBody

MAX_FEERATE = 100_000.0


@click.command("liquidity")
@click.argument("channel_id", required=False)
@click.option(
    "--feerate",
    type=click.FloatRange(0, MAX_FEERATE),
    help="sat/vB that costs are counted with. Default: the static one.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def command(context: Context, channel_id: str | None, feerate: float | None, as_json: bool) -> None:
    """Show what each side can spend and receive; with CHANNEL_ID also pending conditions and what closing costs.

    Amounts are exact for the next state. A channel that takes no updates has nothing spendable. This reads the log of
    a tower on this machine; a party asks its tower with `watchtower channel info --home`.

    \b
    Examples:
      watchtower channel liquidity
      watchtower channel liquidity 3f9a --feerate 25
      watchtower channel liquidity --json
    """
    found = list(_bodies(context.load().settings, channel_id, feerate))
    if as_json:
        emit_json(_plain(found[0]) if channel_id else {"channels": [_plain(body) for body in found]})
        return
    context.table(
        "channels",
        (
            "channel",
            "side",
            "balance",
            "reserve",
            "spendable",
            "receivable",
            "htlc spendable",
            "pending in",
            "pending out",
        ),
        [row for body in found for row in _sides(body)],
    )
    if channel_id:
        _tell_more(context, found[0])


def _bodies(settings: Settings, channel_id: str | None, feerate: float | None) -> list[LiquidityBody]:
    from domain.channel_fold import fold
    from domain.status import ChannelStatus
    from watchtower.bootstrap.policies import channel_policy
    from watchtower.channels.liquidity import liquidity_body
    from watchtower.cli import reading
    from watchtower.store.places import open_log_reader

    policy, over = channel_policy(settings), (ChannelStatus.RESOLVED, ChannelStatus.DOUBLE_SPENT)
    with reading.views(settings) as rows, open_log_reader(settings) as log:
        chosen = [reading.channel(rows, channel_id)] if channel_id else reading.oldest_first(rows)
        tip, made = reading.tip_height(rows), []
        for row in chosen:
            if row.status in over and not channel_id:
                continue
            channel = fold(None, log.read_stream(row.stream))
            assert channel is not None, "a row of the read models has a stream"
            made.append(liquidity_body(channel, policy, tip, feerate=feerate))
    return made


def _plain(body: LiquidityBody) -> Any:
    from watchtower.wire.hexes import to_plain

    return to_plain(body)


def _sides(body: LiquidityBody) -> list[tuple[Any, ...]]:
    name = body.channel_id.hex()[:16]
    return [
        (
            name,
            letter,
            side.balance,
            side.reserve,
            side.spendable,
            side.receivable,
            side.htlc_spendable,
            side.pending_in,
            side.pending_out,
        )
        for letter, side in (("A", body.a), ("B", body.b))
    ]


def _tell_more(context: Context, body: LiquidityBody) -> None:
    context.table(
        "pending conditions",
        ("type", "id", "offerer", "amount", "expiry", "trimmed"),
        [
            (each.type, each.id, each.offerer, each.amount, each.expiry, "yes" if each.trimmed else "no")
            for each in body.pending
        ],
    )
    context.table(
        f"ways to close at {body.feerate:g} sat/vB",
        ("way", "by", "vB", "fee", "extra", "A gets", "B gets"),
        [(cost.way, cost.by, cost.vsize, cost.fee, cost.extra, *cost.nets) for cost in body.closing],
    )
    context.table(
        "claims",
        ("type", "id", "path", "by", "amount", "fee", "worth it"),
        [
            (each.type, each.id, each.path, each.by, each.amount, each.fee, "yes" if each.worth_it else "no")
            for each in body.claims
        ],
    )
