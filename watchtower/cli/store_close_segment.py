"""`watchtower store close-segment`: end the file of the log and go on in a new one."""

from __future__ import annotations

from pathlib import Path

import click

from watchtower.cli.output import Context, config_option, emit_json, pass_context


@click.command("close-segment")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def command(context: Context, as_json: bool) -> None:
    """End the file of the log; the next events go to a new one. Stop the service first.

    The closed file becomes read only and stays beside the log: all segments together are the log, none may be missing.
    If this is interrupted, the next start of the service finishes it. Only for a log in a file.

    \b
    Examples:
      watchtower store close-segment
      watchtower store archive-segment 0
    """
    from domain.chain import chain_hash
    from watchtower.host.system import SystemClock
    from watchtower.store.segments.cut import close_segment
    from watchtower.store.segments.names import segment_file

    settings = context.load().settings
    if settings.store_on_server:
        raise click.UsageError("a log on a server has no segments; the server takes care of its files")
    log = Path(settings.event_log_path)
    followed = chain_hash(settings.network)
    opened = close_segment(log, SystemClock().wall_microseconds(), chain_hash=followed)
    closed = segment_file(log, opened.segment - 1)
    if as_json:
        emit_json({"segment": opened.segment, "first_position": opened.first_id, "closed": str(closed)})
        return
    click.echo(f"{closed} holds the events up to {opened.first_id - 1}; the log goes on as segment {opened.segment}")
