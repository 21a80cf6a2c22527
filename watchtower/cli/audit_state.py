"""`watchtower audit state`: the whole tower as of a point of its log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domain.as_of import AsOf
from watchtower.audit.progress import Style
from watchtower.cli.as_of import as_of_options, keep_option, progress_option
from watchtower.cli.output import Context, config_option, emit_json, pass_context

if TYPE_CHECKING:
    from watchtower.history.tower import TowerState


@click.command("state")
@as_of_options
@keep_option
@progress_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def command(context: Context, as_of: AsOf | None, keep: Path | None, style: Style | None, as_json: bool) -> None:
    """Tell what the log said of the whole tower at a point: its block, its channels, open breaches and alerts.

    Without a point: at the end of the log. It is folded anew, from the first event or from the file of --keep.

    \b
    Examples:
      watchtower audit state --height 812345
      watchtower audit state --at 2026-01-31T12:00:00Z --keep ./then.db --json
    """
    from watchtower.cli import then
    from watchtower.history.tower import state_of_views

    with then.tower_then(context.load().settings, as_of, keep, style) as (rows, point):
        state = state_of_views(point, rows)
    if as_json:
        emit_json(_document(state))
        return
    found = [(status, state.channels[status], state.capacity[status]) for status in state.channels]
    context.table("channels", ("status", "channels", "capacity"), found)
    if state.breaches:
        context.table("open breaches", tuple(_breaches(state)[0]), [list(each.values()) for each in _breaches(state)])
    if state.alerts:
        context.table("alerts", ("alert", "channels"), list(state.alerts.items()))
    click.echo(f"{state.clients} clients, {len(state.breaches)} open breaches", err=True)


def _document(state: TowerState) -> dict[str, Any]:
    from watchtower.cli.then import point_document

    return {
        "as_of": point_document(state.point),
        "channels": state.channels,
        "capacity": state.capacity,
        "open_breaches": _breaches(state),
        "alerts": state.alerts,
        "clients": state.clients,
    }


def _breaches(state: TowerState) -> list[dict[str, Any]]:
    from watchtower.cli.reading import as_document

    shown = ("commit_txid", "sequence", "value", "height", "deadline", "penalty_txid", "penalty_height")
    return [
        {"channel_id": state.breached[row.stream].hex()} | {name: as_document(row)[name] for name in shown}
        for row in state.breaches
    ]
