"""`watchtower audit verify`: was anything in the event log changed?"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

from watchtower.cli.output import Context, config_option, pass_context

if TYPE_CHECKING:
    from watchtower.audit.findings import Report
    from watchtower.audit.verify import ViewsCheck, Wish
    from watchtower.store.reader import LogReader
    from watchtower.store.source import LogSource

COMMAND = "audit verify"
PLACE = click.Path(dir_okay=False, path_type=Path)
KNOWN = click.Path(exists=True, path_type=Path)


@click.command("verify")
@click.option("--log", type=PLACE, help="A log file, for example a copy. Default: the log of the settings.")
@click.option("--from", "first", type=click.IntRange(min=1), help="Begin at this position.")
@click.option("--tail", type=click.IntRange(min=1), help="Only the last so many events.")
@click.option(
    "--known", type=KNOWN, multiple=True, help="High-water files kept elsewhere, beside that of the settings."
)
@click.option("--receipts", type=KNOWN, multiple=True, help="Receipts of clients: a file, or a directory of them.")
@click.option("--views", type=PLACE, help="Read models to compare. Default: those of the settings, if they are there.")
@click.option("--no-views", is_flag=True, help="Leave the read models alone.")
@click.option(
    "--domain-rules/--no-domain-rules", "ruled", default=None, help="Rules of the domain. Default: whole log."
)
@click.option("--no-signatures", is_flag=True, help="Rules without operations on the curve: much faster.")
@click.option("--tower-key", help="The tower's id (hex): whatever is signed has to be signed by it.")
@click.option(
    "--storage-check/--no-storage-check",
    default=None,
    help="The database's own check. Default: for copies and small logs.",
)
@click.option("--strict-time", is_flag=True, help="Times that run back are an error, not a warning.")
@click.option("--allow-incomplete", is_flag=True, help="Exit code 0 where something could not be looked at.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes. Default: one per core.")
@click.option("--progress", type=click.Choice(["bar", "plain", "json", "none"]), help="On stderr.")
@click.option("--resume", type=PLACE, help="Keep what is done in this file, and go on from it.")
@click.option("--report", type=PLACE, help="Write the JSON document to this file too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
@config_option
@pass_context
def command(context: Context, /, **options: Any) -> None:
    """Check every event against the commit chain, the order of all streams, and heads kept outside the log.

    Reads only; works beside a running tower. Nobody's keys and no node are needed. docs/audit.md says what is found and
    what cannot be.

    \b
    Exit codes: 0 passed; 20 changed; 21 missing or out of order; 31 wrong signature; 40 another history;
    41 rolled back; 50 times run back (--strict-time); 70 read models differ; 71 unreadable event; 72 broken rule;
    80 incomplete; 130 interrupted; 2 usage; 3 no log, or of a newer version.

    \b
    Examples:
      watchtower audit verify
      watchtower audit verify --log backup.db --known high-water --receipts receipts/
      watchtower audit verify --resume audit.state --report report.json
    """
    from domain.errors import MalformedInput
    from watchtower.audit.findings import ExitCode
    from watchtower.audit.known import UnreadableHeads
    from watchtower.audit.report import as_json as document
    from watchtower.audit.report import as_text, broken
    from watchtower.audit.resume import OtherRun
    from watchtower.audit.stopping import Interrupted
    from watchtower.ports import StoreBusy
    from watchtower.store.source import Unreadable

    _check_usage(options)
    try:
        report = _audit(context, options)
    except (OtherRun, UnreadableHeads, MalformedInput) as error:
        raise click.UsageError(str(error)) from None
    except Interrupted:
        kept = f"; the same command goes on from {options['resume']}" if options["resume"] else ""
        click.echo(f"interrupted{kept}", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    except StoreBusy as error:
        click.echo(f"{error.slug}: {error}", err=True)
        sys.exit(ExitCode.UNAVAILABLE)
    except Unreadable as error:
        report = broken(COMMAND, str(error))
    except OSError as error:
        _fail(error)
    if options["report"]:
        try:
            options["report"].write_bytes(document(report))
        except OSError as error:
            _fail(error)
    click.echo(document(report).decode() if options["as_json"] else as_text(report), nl=False)
    sys.exit(report.exit_code)


def _fail(error: OSError) -> NoReturn:
    from watchtower.audit.findings import ExitCode

    click.echo(f"a file of the audit cannot be written or read: {error}", err=True)
    sys.exit(ExitCode.INTERNAL)


def _check_usage(options: dict[str, Any]) -> None:
    if options["first"] and options["tail"]:
        raise click.UsageError("--from and --tail name two different beginnings; give one of them")
    if options["views"] and options["no_views"]:
        raise click.UsageError("--views and --no-views contradict each other")
    if options["log"] and options["log"].is_dir():
        raise click.UsageError("--log is a file; an export is checked by `watchtower audit verify-export`")


def _audit(context: Context, options: dict[str, Any]) -> Report:
    from watchtower.audit.progress import Progress, style_for
    from watchtower.audit.resume import Notebook
    from watchtower.audit.stopping import stop_at_interrupt
    from watchtower.audit.verify import Audit
    from watchtower.ports import StoreBusy
    from watchtower.store.sqlite_source import is_written

    style = style_for(options["progress"], sys.stderr)
    progress = Progress(style, sys.stderr, monotonic)
    opened = _open(context, options)
    try:
        with stop_at_interrupt() as stop, tempfile.TemporaryDirectory(prefix="audit-") as scratch:
            notebook = Notebook(options["resume"], Path(scratch), monotonic)
            report = Audit(opened.source, _wish(opened, options), notebook, progress, stop, opened.views).run()
    finally:
        opened.source.close()
    if opened.is_copy and is_written(options["log"]):
        raise StoreBusy("a program began to write this file during the audit; run it again")
    return report


class _Opened(NamedTuple):
    """A log, how its read models are compared, if it is a copy that nobody writes, its own high-water file."""

    source: LogSource
    views: ViewsCheck | None
    is_copy: bool
    mark: Path | None


def _wish(opened: _Opened, options: dict[str, Any]) -> Wish:
    from watchtower.audit.known import UnreadableHeads, read_known
    from watchtower.audit.receipts import read_kept
    from watchtower.audit.rules import rules_for, tower_key_of
    from watchtower.audit.verify import Wish

    log_id, own = opened.source.meta.log_id, () if opened.mark is None else (opened.mark,)
    known = tuple(head for path in (*own, *options["known"]) for head in read_known(path))
    for head in known:
        if head.log_id != log_id:
            raise UnreadableHeads(f"{head.source} is about log {head.log_id.hex()}, not {log_id.hex()}")
    receipts = tuple(kept for path in options["receipts"] for kept in read_kept(path))
    tower_key = tower_key_of(options["tower_key"], receipts)
    is_whole = not (options["first"] or options["tail"])
    ruled = is_whole if options["ruled"] is None else options["ruled"]
    storage: bool | None = options["storage_check"]
    return Wish(
        first=options["first"],
        tail=options["tail"],
        known=known,
        receipts=receipts,
        tower_id=tower_key if options["tower_key"] else None,
        rules=rules_for(signatures=not options["no_signatures"], tower_key=tower_key) if ruled else (),
        storage=True if opened.is_copy and storage is None else storage,
        strict_time=options["strict_time"],
        allow_incomplete=options["allow_incomplete"],
        jobs=options["jobs"] or len(os.sched_getaffinity(0)),
    )


def _open(context: Context, options: dict[str, Any]) -> _Opened:
    from watchtower.store.create import open_reader
    from watchtower.store.places import open_log_reader, open_source
    from watchtower.store.segments.source import open_log_files
    from watchtower.store.sqlite_source import is_written

    if options["log"]:
        path: Path = options["log"]
        is_copy = not is_written(path)
        source = open_log_files(path, immutable=is_copy)
        views = _views(options, None, lambda: open_reader(path, immutable=is_copy))
        return _Opened(source, views, is_copy, None)
    settings = context.load().settings
    views = _views(options, Path(settings.views_path), lambda: open_log_reader(settings))
    mark = Path(settings.high_water_path)
    return _Opened(open_source(settings), views, False, mark if mark.exists() else None)


def _views(options: dict[str, Any], live: Path | None, open_log: Callable[[], LogReader]) -> ViewsCheck | None:
    from watchtower.audit.views import compare_views, not_compared

    named: Path | None = options["views"]
    if named is not None and not named.exists():
        raise click.UsageError(f"--views: {named} does not exist")
    is_part = bool(options["first"] or options["tail"])
    place = named or (live if live is not None and live.exists() and not is_part else None)
    if options["no_views"]:
        return lambda: not_compared("not asked for")
    if place is None:
        reason = "only a part of the log was looked at" if is_part else "there are none beside this log"
        return lambda: not_compared(reason)
    return lambda: compare_views(open_log, place, required=named is not None)
