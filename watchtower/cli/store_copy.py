"""`watchtower store copy`: move the event log to another database."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from typing import get_args

import click

from watchtower.audit.findings import ExitCode
from watchtower.audit.progress import Progress, Style, style_for
from watchtower.cli.output import Context, config_option, emit_document, pass_context


@click.command("copy")
@click.option("--from", "origin", help="Address of the log. Default: that of the settings.")
@click.option("--to", "destination", required=True, help="sqlite:PATH or postgresql://user@host/database.")
@click.option("--online", is_flag=True, help="The tower may run: copy what the log holds at the start.")
@click.option("--progress", "style", type=click.Choice(get_args(Style)), help="How to tell how far it is, on stderr.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def command(
    context: Context, origin: str | None, destination: str, online: bool, style: Style | None, as_json: bool
) -> None:
    """Copy the whole event log to an empty database, and prove that both are equal.

    Ids, commits, heads and the key of stream names stay what they are, so receipts, exports and known heads fit the
    copy too. The target is a file that does not exist yet, or a database after `watchtower store migrate`. The copy
    becomes a log only when every event, leaf and head was compared; interrupted, the same command goes on where it
    stopped. Nothing in the source is changed. Stop the service first: what a running tower records afterwards is not in
    the copy, and never start a tower on both. Give a password through PGPASSFILE, not in the address.

    \b
    Examples:
      watchtower store copy --to postgresql://tower@db.example/watchtower
      watchtower store copy --from postgresql://tower@db.example/watchtower --to sqlite:./events.db
    """
    from watchtower.store.copying import CopyDiffers, SourceDamaged, copy_log
    from watchtower.store.ends import end_of, log_url

    source, target = end_of(origin or log_url(context.load().settings)), end_of(destination)
    progress = Progress(style_for(style, sys.stderr), sys.stderr, time.monotonic)
    try:
        with nullcontext() if online else source.held():
            copied = copy_log(source, target, progress.begin, progress.show)
    except (SourceDamaged, CopyDiffers) as error:
        click.echo(f"{error.slug}: {error}", err=True)
        sys.exit(ExitCode.INTEGRITY)
    except KeyboardInterrupt:
        click.echo("interrupted; the same command goes on where it stopped", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    finally:
        progress.end()
    emit_document(
        context,
        "copy",
        {
            "from": source.name,
            "to": target.name,
            "log_id": copied.log_id.hex(),
            "commits": copied.commits,
            "events": copied.events,
            "head": copied.head.hex(),
            "equal": True,
        },
        as_json=as_json,
    )
