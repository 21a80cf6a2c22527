"""`watchtower audit show`: what one event says, and which hashes bind it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from watchtower.cli.output import Context, config_option, emit_json, pass_context, printable

if TYPE_CHECKING:
    from watchtower.audit.one_event import Shown, ShownEvent
    from watchtower.store.source import LogSource


@click.command("show")
@click.argument("position")
@click.option(
    "--log", type=click.Path(dir_okay=False, path_type=Path), help="A log file. Default: that of the settings."
)
@click.option("--export", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Directory of an export.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@config_option
@pass_context
def command(context: Context, position: str, log: Path | None, export: Path | None, as_json: bool) -> None:
    """Show the event at POSITION, or up to 1,000 of them (FIRST..LAST), with leaf, commit and head.

    Works beside a running tower; an export needs neither tower nor settings. Each event is compared with its leaf, its
    commit with the one before; one that does not fit is named, not shown. Exit codes as of `audit verify`; 2 behind the
    end of the log, 10 a damaged export, 80 before its first event or without payloads.

    \b
    Examples:
      watchtower audit show 352
      watchtower audit show 340..352 --json
      watchtower audit show 352 --export ./audit-2026
    """
    from watchtower.audit.findings import ExitCode
    from watchtower.audit.one_event import BehindTheEnd
    from watchtower.store.exports.records import ExportMalformed
    from watchtower.store.source import Unreadable

    if log is not None and export is not None:
        raise click.UsageError("give one of --log and --export")
    first, last = _range(position)
    try:
        shown = _show(context, log, export, first, last)
    except BehindTheEnd as error:
        raise click.UsageError(str(error)) from None
    except (ExportMalformed, Unreadable) as error:
        click.echo(f"{error.slug}: {error}", err=True)
        sys.exit(ExitCode.INTEGRITY if export is None else ExitCode.MALFORMED_EXPORT)
    if as_json:
        emit_json(shown)
    else:
        click.echo("\n".join(map(printable, _lines(shown))))
        for finding in shown.findings:
            click.echo(printable(finding.sentence), err=True)
    sys.exit(shown.exit_code)


def _range(text: str) -> tuple[int, int]:
    """First and last position. Raises `UsageError`."""
    from watchtower.audit.one_event import MOST

    found = re.fullmatch(r"([0-9]{1,15})(?:\.\.([0-9]{1,15}))?", text)
    if found is None:
        raise click.UsageError(f"{text!r} is no position of the log: give a number, or FIRST..LAST")
    first, last = int(found[1]), int(found[2] or found[1])
    if first < 1:
        raise click.UsageError("the first event of a log has position 1")
    if last < first:
        raise click.UsageError(f"{text} runs backwards: give the smaller position first")
    if last - first >= MOST:
        raise click.UsageError(f"{text} are {last - first + 1:,} events; at most {MOST:,} are shown at once")
    return first, last


def _show(context: Context, log: Path | None, export: Path | None, first: int, last: int) -> Shown:
    from watchtower.audit.one_event import show

    source = _open(context, log, export)
    try:
        return show(source, first, last)
    finally:
        source.close()


def _open(context: Context, log: Path | None, export: Path | None) -> LogSource:
    from watchtower.store.exports.source import ExportSource
    from watchtower.store.places import open_source
    from watchtower.store.segments.source import open_log_files
    from watchtower.store.sqlite_source import is_written

    if export is not None:
        return ExportSource(export)
    if log is not None:
        return open_log_files(log, immutable=not is_written(log))
    return open_source(context.load().settings)


def _lines(shown: Shown) -> Iterator[str]:
    yield f"Log         {shown.origin} (log id {shown.log_id})"
    for event in shown.events:
        yield ""
        yield from _event(event)


def _event(event: ShownEvent) -> Iterator[str]:
    yield f"Event       {event.position}  {_headline(event)}"
    yield f"stream      {event.stream}, version {event.version}"
    yield f"topic       {event.topic}"
    if event.recorded_at is not None:
        yield f"recorded    {event.recorded_at}"
    yield f"state       {event.state_size:,} bytes, SHA-256 {event.state_sha256}"
    yield f"leaf        {event.leaf}"
    commit = event.commit
    yield f"commit      {commit.number}, positions {commit.first_position} to {commit.last_position}"
    yield f"head after  {event.head}"
    fields = list(_flat(event.fields or {}))
    width = max((len(field) for field, _ in fields), default=0)
    for field, value in fields:
        mark = "  (display order)" if field in event.display_order and value is not None else ""
        text = "(withheld: this event does not make it public)" if field in event.withheld else _text(value)
        yield f"  {field:<{width}}  {text}{mark}"


def _headline(event: ShownEvent) -> str:
    if event.name is None or event.sentence is None:
        return "(its payload is not here, or cannot be read)"
    return event.name if event.sentence == event.name else f"{event.name}: {event.sentence}"


def _flat(fields: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return str(value) or "(empty)"
