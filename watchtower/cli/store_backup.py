"""`watchtower store backup`: a verified, encrypted copy of the tower, also while it runs."""

from __future__ import annotations

import time
from pathlib import Path

import click

from watchtower.cli.output import Context, config_option, emit_json, pass_context


@click.command("backup")
@click.option("--out", type=click.Path(path_type=Path), help="File to make. Default: a new one in backup.directory.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def command(context: Context, out: Path | None, as_json: bool) -> None:
    """Copy log, keystore, keys and configuration into one encrypted file, and prove it. The service may run.

    Proved means: read back, every secret opened, every event checked, and the channels that follow from the copy
    compared with those that are served. The file opens with the passphrase of the keystore, which is not in it: keep
    that elsewhere. Nothing is overwritten.

    \b
    Examples:
      watchtower store backup
      watchtower store backup --out /mnt/usb/tower-2026-11-22
    """
    from watchtower.backup.job import make_backup
    from watchtower.backup.periodic import work_of
    from watchtower.backup.shelf import Shelf
    from watchtower.receipts.tower_key import load_tower_key
    from watchtower.store.places import open_source

    settings = context.load().settings
    made_at = time.time_ns() // 1000
    if out is None:
        if not settings.backup.directory:
            raise click.UsageError("name a file with --out, or set backup.directory")
        source = open_source(settings)
        out = Shelf(Path(settings.backup.directory), source.meta.log_id).path_for(made_at)
        source.close()
    manifest = make_backup(work_of(settings, out, made_at), load_tower_key(settings).sign)
    log = manifest.log
    if as_json:
        emit_json(
            {
                "path": str(out),
                "made_at": manifest.made_at / 1e6,
                "secrets": manifest.secrets,
                "events": log.last_id if log else None,
                "log_id": log.log_id if log else None,
                "head": log.head if log else None,
                "files": [stored.name for stored in manifest.files],
            }
        )
        return
    click.echo(f"{out}: {log.last_id if log else 0} events, {manifest.secrets} secrets, read back and compared")
