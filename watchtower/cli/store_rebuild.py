"""`watchtower store rebuild`: make the read models again from the log."""

from __future__ import annotations

import sys
from pathlib import Path
from time import monotonic

import click

from watchtower.cli.output import Context, config_option, emit_json, pass_context


@click.command("rebuild")
@click.option("--stream", help="Only the channel with this stream, and end its quarantine.")
@click.option("--progress", type=click.Choice(["bar", "plain", "json", "none"]), help="On stderr.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def command(context: Context, stream: str | None, progress: str | None, as_json: bool) -> None:
    """Replay the log into the live read models. Stop the service first.

    The old ones stay until the new ones are complete. `watchtower audit replay --check` compares beside a running
    service instead.

    \b
    Examples:
      watchtower store rebuild
      watchtower store rebuild --stream cAAECAwQFBgcICQoLDA0ODw
    """
    from watchtower.audit.progress import Progress, style_for
    from watchtower.store.lock import InstanceLock
    from watchtower.store.places import open_log_reader
    from watchtower.store.rebuild import open_views, rebuild
    from watchtower.store.rebuild_stream import rebuild_stream

    settings = context.load().settings
    views = Path(settings.views_path)
    shown = Progress(style_for(progress, sys.stderr), sys.stderr, monotonic)  # type: ignore[arg-type]
    with open_log_reader(settings) as log:
        lock = InstanceLock(Path(settings.event_log_path))
        try:
            if stream is None:
                shown.begin("rebuild", log.last_id())
                rebuild(views, log, on_progress=lambda done, _total: shown.show(done))
                events = log.last_id()
            else:
                rows = open_views(views, log)
                try:
                    events = rebuild_stream(rows, log, stream)
                finally:
                    rows.close()
        finally:
            shown.end()
            lock.release()
    if as_json:
        emit_json({"views": str(views), "stream": stream, "events": events})
    else:
        click.echo(f"{events} events replayed into {views}")
