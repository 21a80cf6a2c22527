"""`watchtower audit export`: the log as a directory that can be checked without the tower."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from domain.as_of import MAX_POINT, AsOf
from watchtower.audit.findings import ExitCode
from watchtower.audit.progress import Progress, Style, style_for
from watchtower.cli.as_of import as_of_options, progress_option
from watchtower.cli.output import Context, config_option, emit_document, pass_context

if TYPE_CHECKING:
    from watchtower.config import Settings
    from watchtower.store.exports.manifest import Digests, Manifest
    from watchtower.store.exports.write import Wish
    from watchtower.store.source import LogSource


@click.command("export")
@click.option("--out", "target", type=click.Path(path_type=Path), required=True, help="Directory to make.")
@click.option("--from", "first", type=click.IntRange(min=1), default=1, help="First position. Default: 1.")
@as_of_options
@click.option("--until", type=click.IntRange(1, MAX_POINT), metavar="P", help="The same as --position.")
@click.option("--entries-only", is_flag=True, help="Leave the payloads out: streams, versions, topics and hashes.")
@click.option("--sign", "signed", is_flag=True, help="Sign the manifest with the tower's key.")
@progress_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def command(
    context: Context,
    target: Path,
    first: int,
    as_of: AsOf | None,
    until: int | None,
    entries_only: bool,
    signed: bool,
    style: Style | None,
    as_json: bool,
) -> None:
    """Write the log, or a part of it, to a directory that `audit verify-export` can check anywhere.

    Works while the tower runs. The export ends with the point that is named, or now. Whole commits are exported: one
    that holds a wanted event comes with all its events. The same log gives the same bytes. If it is interrupted, the
    same command goes on where it stopped. No key, password or token is in it, but everything that the tower has
    recorded about its channels is.

    \b
    Examples:
      watchtower audit export --out ./audit-2026
      watchtower audit export --out ./evidence --height 812345 --sign
      watchtower audit export --out ./entries --entries-only
    """
    from watchtower.store.exports.checked import LogDamaged
    from watchtower.store.exports.write import OutOfRange, Wish

    if until is not None and as_of is not None:
        raise click.UsageError(f"give one point of the log only, not both until and {next(iter(as_of.query()))}")
    settings = context.load().settings
    progress = Progress(style_for(style, sys.stderr), sys.stderr, time.monotonic)
    try:
        wish = Wish(first, _position(settings, as_of, style) if as_of else until, entries_only)
        manifest = _export(settings, target, wish, progress, signed=signed)
    except OutOfRange as error:
        raise click.UsageError(str(error)) from None
    except LogDamaged as error:
        click.echo(f"{error.slug}: {error}", err=True)
        sys.exit(ExitCode.INTEGRITY)
    except KeyboardInterrupt:
        click.echo("interrupted; the same command goes on where it stopped", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    finally:
        progress.end()
    emit_document(
        context,
        "export",
        {
            "directory": str(target),
            "log_id": manifest.log_id,
            "first_position": manifest.first_position,
            "last_position": manifest.last_position,
            "head": manifest.head,
            "bytes": sum(size for _, size in manifest.listed().values()),
            "signed": signed,
        },
        as_json=as_json,
    )


def _position(settings: Settings, as_of: AsOf, style: Style | None) -> int:
    """The last position of the prefix that was named."""
    from watchtower.cli import then

    with then.opened(settings, as_of, style) as past:
        return past.point.position


def _export(settings: Settings, target: Path, wish: Wish, progress: Progress, *, signed: bool) -> Manifest:
    from watchtower.receipts.tower_key import load_tower_key
    from watchtower.store.exports.signature import signature_file
    from watchtower.store.exports.write import export
    from watchtower.store.places import open_source

    key = load_tower_key(settings) if signed else None
    sign = None if key is None else partial(signature_file, tower_id=key.tower_id, sign=key.sign)
    with closing(open_source(settings)) as source:
        progress.begin("events", wish.until or source.last_id(), wish.first - 1)
        return export(source, target, wish, partial(_fold, progress), progress.show, sign)


def _fold(progress: Progress, source: LogSource, until: int, scratch: Path) -> Digests:
    from watchtower.store.exports.replay import fold_digests

    progress.begin("read models", until)
    return fold_digests(source, until, scratch, progress.show)[0]
