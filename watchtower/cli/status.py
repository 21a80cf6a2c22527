"""`watchtower status`: is it watching, and what is going on."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from watchtower.cli.output import Context, config_option, emit_json, printable

if TYPE_CHECKING:
    from watchtower.doctor.overview import Overview

NOT_READY, UNREACHABLE = 3, 4


@click.command("status")
@click.option("--watch", is_flag=True, help="Go on; the same as `watchtower top`.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@click.pass_context
def command(ctx: click.Context, watch: bool, as_json: bool) -> None:
    """Show phase, lag, canary, node, disk and open breaches with the blocks that are left.

    Asks the running tower. Exit code 0: it watches; 3: it does not, the reasons say why; 4: no tower answers.

    \b
    Examples:
      watchtower status
      watchtower status --json
      watchtower status --watch
    """
    if watch:
        from watchtower.cli.top import command as top

        if as_json:
            raise click.UsageError("--watch draws on a terminal; leave out --json, or ask again and again")
        ctx.invoke(top)
        return
    context = ctx.find_object(Context)
    assert context is not None, "the group makes one"
    tell(context, as_json=as_json)


def tell(context: Context, *, as_json: bool) -> None:
    """Look once and end the program."""
    from watchtower.doctor.asking import TowerAway
    from watchtower.doctor.overview import overview

    settings = context.load().settings
    try:
        seen = overview(settings, time.time())
    except TowerAway as error:
        click.echo(f"{error.slug}: {error}", err=True)
        sys.exit(UNREACHABLE)
    if as_json:
        emit_json(seen.document())
    else:
        context.table("status", ("what", "is"), rows(seen))
        for reason in seen.reasons:
            click.echo(printable(reason))
        if seen.breaches:
            context.table("open breaches", BREACH_COLUMNS, breach_rows(seen))
    sys.exit(0 if seen.watching else NOT_READY)


BREACH_COLUMNS = ("channel", "commitment", "value", "deadline", "blocks left", "answer", "fee")


def breach_rows(seen: Overview) -> list[tuple[object, ...]]:
    """The table of open breaches."""
    return [
        (each.channel_id[:16], each.txid[:16], each.value, each.deadline, each.left, each.stage, each.fee)
        for each in seen.breaches
    ]


BACKUP = "backup_last_success_timestamp_seconds"


def rows(seen: Overview) -> list[tuple[str, object]]:
    """What is said in any case; what the metrics do not tell is a dash."""
    breaches = seen.total("breaches_open")
    return [
        ("phase", seen.phase),
        ("protected", "yes" if seen.watching else "NO"),
        ("height", _number(seen.height)),
        ("blocks behind", _number(seen.lag)),
        ("node", _node(seen)),
        ("canary", _ago(seen.age("canary_last_success_timestamp_seconds"))),
        ("watched outpoints", _number(seen.value("watched_outpoints"))),
        ("protected sat", _number(seen.value("protected_sats"))),
        ("open breaches", _number(breaches)),
        ("sat at risk", _number(seen.value("breach_at_risk_sats"))),
        ("free disk", _mebibytes(seen.value("storage_available_bytes"))),
        ("last backup", "makes none" if not seen.makes_backups else _ago(seen.age(BACKUP))),
    ]


def _node(seen: Overview) -> str:
    up = seen.value("node_up")
    if up is None:
        return "-"
    silent = [topic for topic, value in seen.by_label("zmq_connected").items() if not value]
    words = "answers" if up else "AWAY"
    return f"{words}; no notifications of {', '.join(silent)}" if silent else words


def _number(value: float | None) -> str:
    return "-" if value is None else f"{int(value):,}"


def _mebibytes(value: float | None) -> str:
    return "-" if value is None else f"{int(value) >> 20:,} MiB"


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def clock(at: float) -> str:
    """A time for people."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
