"""What `watchtower audit replay` does: fold, then show, write or compare."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import msgspec

from domain.as_of import AsOf
from domain.errors import LogCorrupt
from projections import preimages
from projections.catalog import PROJECTIONS, TABLES
from projections.channels import FACTS
from projections.tables import Row, Table
from watchtower.audit.findings import ExitCode, Finding, exit_code
from watchtower.audit.progress import Style
from watchtower.cli import reading, then
from watchtower.cli.output import Context, emit_json
from watchtower.config import Settings
from watchtower.history.log import version_at
from watchtower.history.streams import stream_views
from watchtower.history.tower import PAGE
from watchtower.store.compare import Comparison, compare
from watchtower.store.rebuild import digests
from watchtower.store.views import SqliteRows


class Wish(msgspec.Struct, frozen=True):
    """What was asked for; `names` are those of projections and tables."""

    as_of: AsOf | None
    names: tuple[str, ...]
    stream: str | None
    channel: str | None
    out: Path | None
    keep: Path | None
    style: Style | None
    as_json: bool

    @property
    def is_summary(self) -> bool:
        """Whether the rows themselves are not wanted on the screen."""
        return self.out is not None or not (self.names or self.stream or self.channel)

    def tables(self, stream: str | None) -> list[Table]:
        """The tables that are meant; those about single streams if there is one.

        The encoded facts are for programs of this version: they are shown only by their own name.
        """
        named = {table.name for p in PROJECTIONS if p.name in self.names for table in p.tables} - {FACTS.name}
        chosen = named | set(self.names) or (set(TABLES) if self.is_summary else set(TABLES) - {FACTS.name})
        return [
            table for name, table in TABLES.items() if name in chosen and (stream is None or "stream" in table.columns)
        ]


def run(context: Context, settings: Settings, wish: Wish, *, check: bool) -> ExitCode:
    """Do it; a log that cannot be read ends with 71 and says where."""
    try:
        return (_check if check else _show)(context, settings, wish)
    except LogCorrupt as error:
        said = f"the log cannot be replayed: {error}"
        return _tell(context, wish, {}, [Finding(code=ExitCode.REPLAY, sentence=said)])


def _show(context: Context, settings: Settings, wish: Wish) -> ExitCode:
    """Fold up to the point and show or write the rows; the exit code."""
    with ExitStack() as stack:
        past = stack.enter_context(then.opened(settings, wish.as_of, wish.style))
        stream = _stream(past, wish)
        if stream is None:
            rows = stack.enter_context(then.folded(past.log, past.point.position, wish.style, wish.keep, settings))
        else:
            rows, _ = stack.enter_context(stream_views(past.log, stream, past.point.position))
        findings = list(_stuck(rows))
        then.tell_point(past.point)
        about = {"as_of": then.point_document(past.point)}
        if wish.out is not None:
            _write(wish.out, rows, wish.tables(stream))
        if wish.is_summary:
            return _tell(context, wish, about | {"tables": _summary(rows, wish.tables(stream), stream)}, findings)
        return _tell_rows(context, wish, about, rows, wish.tables(stream), findings)


def _check(context: Context, settings: Settings, wish: Wish) -> ExitCode:
    """Compare with the live read models; the exit code."""
    with ExitStack() as stack:
        past = stack.enter_context(then.opened(settings, None, wish.style))
        if past.live is None:
            missing = "the live read models are missing, or were made by another version or from another log"
            return _tell(context, wish, {}, [Finding(code=ExitCode.INCOMPLETE, sentence=missing)])
        made = stack.enter_context(TemporaryDirectory())
        comparison, rows = _compare(stack, past, wish, _stream(past, wish), Path(made) / "views.db")
        findings = [*_differences(comparison), *_stuck(rows)]
        tables = {
            name: {"rows": count, "differing": comparison.differing.get(name, 0)}
            for name, count in comparison.rows.items()
        }
        return _tell(context, wish, {"position": comparison.position, "tables": tables}, findings)


def _compare(
    stack: ExitStack, past: then.Then, wish: Wish, stream: str | None, scratch: Path
) -> tuple[Comparison, SqliteRows]:
    live, found = past.live, list[SqliteRows]()
    assert live is not None, "the caller has looked"

    def made_at(position: int) -> SqliteRows:
        if stream is None:
            rows = stack.enter_context(then.folded(past.log, position, "none", scratch))
        else:
            rows, _ = stack.enter_context(stream_views(past.log, stream, position))
        found.append(rows)
        return rows

    first = PROJECTIONS[0].name
    if stream is None:  # nearly all of the way while the live ones may still move
        with then.folded(past.log, live.position(first), wish.style, scratch):
            pass
    return compare(live, made_at, first, wish.tables(stream), stream), found[-1]


def _stream(past: then.Then, wish: Wish) -> str | None:
    """The one stream that is meant; wrong usage if the log does not have it at the point."""
    if wish.channel is None and wish.stream is None:
        return None
    stream = wish.stream
    if wish.channel is not None and past.live is not None:
        stream = reading.channel(past.live, wish.channel).stream
    elif wish.channel is not None:
        with then.folded(past.log, past.log.last_id(), wish.style) as rows:
            stream = reading.channel(rows, wish.channel).stream
    if stream is None or version_at(past.log, stream, past.point.position) == 0:
        raise click.UsageError(f"the log has no event of {wish.channel or wish.stream} at that point")
    return stream


# ── findings ─────────────────────────────────────────────────────────────────────────────────────────────


def _stuck(rows: SqliteRows) -> Iterator[Finding]:
    for projection in PROJECTIONS:
        for stuck in rows.quarantined(projection.name).values():
            said = (
                f"event {stuck.id} cannot be folded ({stuck.error}); {projection.name} skips its stream from there on"
            )
            yield Finding(code=ExitCode.REPLAY, position=stuck.id, stream=stuck.stream, sentence=said)


def _differences(found: Comparison) -> Iterator[Finding]:
    for each in found.named:
        stream = each.key[0] if TABLES[each.table].columns[0] == "stream" else ""
        yield Finding(code=ExitCode.VIEWS, position=found.position, stream=str(stream), sentence=each.sentence)
    for name, count in found.differing.items():
        left = count - sum(each.table == name for each in found.named)
        if left:
            said = f"{name}: {left} more rows differ"
            yield Finding(code=ExitCode.VIEWS, position=found.position, sentence=said)


# ── telling ──────────────────────────────────────────────────────────────────────────────────────────────


def _tell(context: Context, wish: Wish, document: dict[str, Any], findings: list[Finding]) -> ExitCode:
    code = exit_code(findings)
    if wish.as_json:
        emit_json({**document, "findings": findings, "exit_code": int(code)})
        return code
    tables: dict[str, dict[str, Any]] = document.get("tables", {})
    if tables:
        columns = list(next(iter(tables.values())))
        lines = [(name, *(_cell(row[column]) for column in columns)) for name, row in tables.items()]
        context.table("read models", ("table", *columns), lines)
    _say(findings)
    return code


def _tell_rows(
    context: Context,
    wish: Wish,
    about: dict[str, Any],
    rows: SqliteRows,
    tables: list[Table],
    findings: list[Finding],
) -> ExitCode:
    code = exit_code(findings)
    if wish.as_json:
        shown = {table.name: [document(table, row) for row in _all(rows, table)] for table in tables}
        emit_json({**about, "tables": shown, "findings": findings, "exit_code": int(code)})
        return code
    for table in tables:
        found = [document(table, row) for row in _all(rows, table)]
        context.table(table.name, table.columns, [list(each.values()) for each in found])
    _say(findings)
    return code


def _say(findings: list[Finding]) -> None:
    for finding in findings:
        click.echo(f"{int(finding.code)}: {finding.sentence}")


def _cell(value: Any) -> Any:
    return value[:16] if isinstance(value, str) else value


def _summary(rows: SqliteRows, tables: list[Table], stream: str | None) -> dict[str, Any]:
    """Rows of each table; digests only of whole tables."""
    made = digests(rows).tables if stream is None else {}
    counted = {table.name: sum(1 for _ in _all(rows, table)) for table in tables}
    return {
        name: {"rows": count} | ({"digest": made[name].hex()} if name in made else {})
        for name, count in counted.items()
    }


def _all(rows: SqliteRows, table: Table) -> Iterator[Row]:
    page = rows.page(table, None, PAGE)
    while page:
        yield from page
        page = rows.page(table, table.key_of(page[-1]), PAGE)


def document(table: Table, row: Row) -> dict[str, Any]:
    """A row for people and programs. A preimage that is not public stays in the log."""
    shown = reading.as_document(table.read(row))
    if table.name == preimages.TABLE.name and not shown["public"]:
        shown["preimage"] = None
    return shown


def _write(path: Path, rows: SqliteRows, tables: list[Table]) -> None:
    """All rows, one document per line, under the final name only when they are complete."""
    building = path.with_name(path.name + ".part")
    try:
        with os.fdopen(os.open(building, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
            for table in tables:
                for row in _all(rows, table):
                    file.write(msgspec.json.encode({"table": table.name} | document(table, row)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        building.rename(path)
    except OSError as error:
        building.unlink(missing_ok=True)
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None
