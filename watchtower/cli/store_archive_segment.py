"""`watchtower store archive-segment`: pack a closed segment of the log."""

from __future__ import annotations

import sys
from pathlib import Path
from time import monotonic
from typing import get_args

import click

from watchtower.audit.progress import Progress, Style, style_for
from watchtower.cli.output import Context, config_option, emit_json, pass_context


@click.command("archive-segment")
@click.argument("number", type=click.IntRange(min=0))
@click.option("--progress", "style", type=click.Choice(get_args(Style)), help="How to tell how far it is, on stderr.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def command(context: Context, number: int, style: Style | None, as_json: bool) -> None:
    """Pack the closed segment NUMBER, read it back, and remove its database. Stop the service first.

    A packed segment is read as before, more slowly; audits go across it. It is an export, too: `audit verify-export`
    checks it. If this is interrupted, the same command goes on.

    \b
    Examples:
      watchtower store archive-segment 0
    """
    from watchtower.store.segments.archive import archive_segment

    settings = context.load().settings
    if settings.store_on_server:
        raise click.UsageError("a log on a server has no segments")
    progress = Progress(style_for(style, sys.stderr), sys.stderr, monotonic)
    try:
        done = archive_segment(Path(settings.event_log_path), number, progress.show)
    finally:
        progress.end()
    if as_json:
        emit_json(done)
        return
    click.echo(
        f"segment {number}: {done.events} events, {done.bytes_before} bytes before, {done.bytes_after} bytes now"
    )
