"""`watchtower audit verify-export`: was anything in an export changed? Needs no tower."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, get_args

import click

from watchtower.audit.progress import Progress, Style, style_for

if TYPE_CHECKING:
    from watchtower.audit.findings import Report
    from watchtower.audit.verify import Wish

KNOWN = click.Path(exists=True, path_type=Path)


@click.command("verify-export")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--known", type=KNOWN, multiple=True, help="A high-water file kept elsewhere, or a directory of them.")
@click.option("--receipts", type=KNOWN, multiple=True, help="Receipts of clients: a file, or a directory of them.")
@click.option("--no-replay", is_flag=True, help="Do not fold the read models anew.")
@click.option("--no-domain-rules", is_flag=True, help="Only what the bytes show, not what the rules demand.")
@click.option("--no-signatures", is_flag=True, help="Rules without operations on the curve: much faster.")
@click.option("--tower-key", help="The tower's id (hex): whatever is signed has to be signed by it.")
@click.option("--strict-time", is_flag=True, help="Times that run back are an error, not a warning.")
@click.option("--allow-incomplete", is_flag=True, help="Exit code 0 where something could not be looked at.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes. Default: one per core.")
@click.option("--progress", type=click.Choice(get_args(Style)), help="On stderr.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write the JSON document here too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
def command(directory: Path, **options: Any) -> None:
    """Check an export with nothing but the export: its files, every event, the chain, the rules, the read models.

    Needs no tower, no settings, no keys and no network. A damaged file is traced to the first event that suffers.
    Exit code 10: a file is missing, extra or damaged; then nothing else is looked at. The other codes are those of
    `audit verify`; 80 if the export holds no payloads or does not begin with the log.

    \b
    Examples:
      watchtower audit verify-export ./audit-2026
      watchtower audit verify-export ./audit-2026 --receipts receipts/ --report report.json
    """
    from domain.errors import MalformedInput
    from watchtower.audit.findings import ExitCode
    from watchtower.audit.known import UnreadableHeads
    from watchtower.audit.report import as_json as document
    from watchtower.audit.report import as_text, broken
    from watchtower.audit.stopping import Interrupted
    from watchtower.store.source import Unreadable

    try:
        report = _audit(directory, options)
    except (UnreadableHeads, MalformedInput) as error:
        raise click.UsageError(str(error)) from None
    except Interrupted:
        click.echo("interrupted", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    except Unreadable as error:
        report = broken("audit verify-export", str(error))
    except OSError as error:
        click.echo(f"cannot be written or read: {error}", err=True)
        sys.exit(ExitCode.INTERNAL)
    if options["report"]:
        options["report"].write_bytes(document(report))
    click.echo(document(report).decode() if options["as_json"] else as_text(report), nl=False)
    sys.exit(report.exit_code)


def _audit(directory: Path, options: dict[str, Any]) -> Report:
    from watchtower.audit.export_check import ExportAudit
    from watchtower.audit.stopping import stop_at_interrupt

    progress = Progress(style_for(options["progress"], sys.stderr), sys.stderr, monotonic)
    with stop_at_interrupt() as stop, tempfile.TemporaryDirectory(prefix="audit-") as scratch:
        replay = not options["no_replay"]
        audit = ExportAudit(directory, _wish(directory, options), progress, stop, Path(scratch) / "work", replay=replay)
        try:
            return audit.run()
        finally:
            progress.end()


def _wish(directory: Path, options: dict[str, Any]) -> Wish:
    from watchtower.audit.known import read_known
    from watchtower.audit.receipts import read_kept
    from watchtower.audit.rules import rules_for, tower_key_of
    from watchtower.audit.verify import Wish

    ruled = not options["no_domain_rules"]
    receipts = tuple(kept for path in options["receipts"] for kept in read_kept(path))
    tower_key = tower_key_of(options["tower_key"], receipts, _signer(directory))
    return Wish(
        known=tuple(head for path in options["known"] for head in read_known(path)),
        receipts=receipts,
        tower_id=tower_key if options["tower_key"] else None,
        is_current=False,
        rules=rules_for(signatures=not options["no_signatures"], tower_key=tower_key) if ruled else (),
        storage=False,
        strict_time=options["strict_time"],
        allow_incomplete=options["allow_incomplete"],
        jobs=options["jobs"] or len(os.sched_getaffinity(0)),
    )


def _signer(directory: Path) -> str | None:
    """Who signed the manifest, if anybody did; whether the signature fits is checked with the files."""
    from watchtower.store.exports.records import ExportMalformed
    from watchtower.store.exports.signature import read_signature

    try:
        found = read_signature(directory, b"")
    except ExportMalformed:
        return None
    return None if found is None else found[0]
