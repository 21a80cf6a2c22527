"""Read access for commands: the views beside the log, also while the service runs or when it never ran."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from domain.chain import display, display_outpoint
from domain.errors import MalformedInput, UnknownChannel
from domain.events import Mode, ResolvedAs, SpendKind
from domain.units import Side
from projections import chain_tip, channel_info
from projections.catalog import PROJECTIONS
from projections.channel_info import ChannelInfoRow
from projections.tables import Key, Row, Table
from projections.timeline import TimelineRow, row_of
from watchtower.config import Settings
from watchtower.store.places import open_log_reader
from watchtower.store.rebuild import open_views_reader, rebuild
from watchtower.store.views import SqliteRows

PAGE = 5_000
_REVERSED = ("txid", "_hash")
_PLAIN = ("state_hash",)


@contextmanager
def views(settings: Settings) -> Iterator[SqliteRows]:
    """The read models. Without usable ones the log is folded into a temporary file, and nothing is left behind."""
    live = Path(settings.views_path)
    with open_log_reader(settings) as log, tempfile.TemporaryDirectory() as scratch:
        rows = open_views_reader(live) if live.exists() else None
        if rows is None or not rows.fits(log.meta.log_id, PROJECTIONS, log.last_id()):
            made = Path(scratch) / "views.db"
            rebuild(made, log)
            rows = open_views_reader(made)
        behind = log.last_id() - rows.position(PROJECTIONS[0].name)
        if behind > 0:
            click.echo(f"the read models are {behind} events behind the log", err=True)
        try:
            yield rows
        finally:
            rows.close()


def channels(rows: SqliteRows) -> Iterator[ChannelInfoRow]:
    """All channels in the order of their streams."""
    for row in _all(rows, channel_info.TABLE, None):
        yield ChannelInfoRow(*row)  # type: ignore[arg-type]


def oldest_first(rows: SqliteRows) -> list[ChannelInfoRow]:
    """All channels by the height of their funding; those that have none yet at the end."""
    return sorted(channels(rows), key=lambda row: (row.funding_height is None, row.funding_height or 0, row.stream))


def tip_height(rows: SqliteRows) -> int:
    """Height of the tower's cursor; before it has one, that of the newest funding that the log calls confirmed."""
    found = rows.page(chain_tip.TABLE, None, 1)
    if found:
        tip: chain_tip.TipRow = chain_tip.TABLE.read(found[0])
        return tip.height
    return max((row.funding_height or 0 for row in channels(rows)), default=0)


def channel(rows: SqliteRows, prefix: str) -> ChannelInfoRow:
    """The one channel whose channel id, proposal id or stream begins like this; raises `UnknownChannel`."""
    wanted = prefix.lower()
    if len(wanted) < 4:
        raise MalformedInput("give at least 4 characters of the channel's id")
    found = [
        each
        for each in channels(rows)
        if each.channel_id.hex().startswith(wanted)
        or each.proposal_id.hex().startswith(wanted)
        or each.stream.startswith(prefix)
    ]
    if not found:
        raise UnknownChannel(f"no channel begins with {prefix}; `watchtower channel list` shows all")
    if len(found) > 1:
        raise UnknownChannel(f"{len(found)} channels begin with {prefix}; give more characters")
    return found[0]


def history(settings: Settings, stream: str) -> Iterator[TimelineRow]:
    """Every event of a channel in order, from its stream in the log."""
    with open_log_reader(settings) as log:
        after = 0
        while page := log.read_recorded(stream, after, PAGE):
            yield from map(row_of, page)
            after = page[-1].envelope.version


def _all(rows: SqliteRows, table: Table, after: Key | None) -> Iterator[Row]:
    while page := rows.page(table, after, PAGE):
        yield from page
        after = table.key_of(page[-1])


_WORDS: dict[str, Callable[[int], str]] = {
    "mode": lambda value: Mode(value).name.lower(),
    "own_side": lambda value: Side(value).name,
    "spend_side": lambda value: Side(value).name,
    "spend_kind": lambda value: SpendKind(value).name.lower(),
    "resolved": lambda value: ResolvedAs(value).name.lower(),
}
"""Columns that hold the number of a word."""

_FLAGS = frozenset({"penalty_accepted", "soft_final"})


def as_document(row: msgspec.Struct) -> dict[str, Any]:
    """A row for people and programs: ids as hexadecimal, txids and block hashes in display order, words for kinds.

    Times are Unix seconds.
    """
    return {name: _shown(name, value) for name, value in msgspec.structs.asdict(row).items()}


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, int) and name in _WORDS:
        return _WORDS[name](value)
    if isinstance(value, int) and name in _FLAGS:
        return bool(value)
    if isinstance(value, int) and name == "recorded_at":
        return value / 1e6
    if not isinstance(value, bytes):
        return value
    if name.endswith("outpoint"):
        return display_outpoint(value)
    if name not in _PLAIN and len(value) == 32 and name.endswith(_REVERSED):
        return display(value)
    return value.hex()
