"""Two copies of the read models, row by row: what is missing, too much, or different."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence

import msgspec

from projections.tables import Key, Row, Table
from watchtower.store.views import SqliteRows

NAMED = 20
"""Differing rows that are named per table; the others are counted."""


class Difference(msgspec.Struct, frozen=True):
    """A row by its key. `columns` are those with another value; without any it is `missing`, or else too much."""

    table: str
    key: Key
    columns: tuple[str, ...] = ()
    missing: bool = False

    @property
    def sentence(self) -> str:
        """For people."""
        name = ", ".join(value.hex() if isinstance(value, bytes) else str(value) for value in self.key)
        if self.columns:
            return f"{self.table}: the live row {name} differs in {', '.join(self.columns)}"
        if self.missing:
            return f"{self.table}: the live row {name} is missing"
        return f"{self.table}: the live row {name} does not follow from the log"


class Comparison(msgspec.Struct, frozen=True):
    """Live read models beside replayed ones at one position.

    `rows` counts the replayed rows per table, `differing` those that differ in tables where any do; `named` are the
    first differences of each.
    """

    position: int
    rows: dict[str, int]
    differing: dict[str, int]
    named: tuple[Difference, ...]


def compare(
    live: SqliteRows,
    made_at: Callable[[int], SqliteRows],
    projection: str,
    tables: Sequence[Table],
    stream: str | None = None,
) -> Comparison:
    """Compare also while a service writes the live ones: they are held still in one read transaction meanwhile.

    `made_at` gives replayed read models at the position of that moment, which it learns only then: it had better be
    near. `projection` names the live position. With `stream` only rows of this stream count.
    """
    with live.datastore.raw() as connection:
        connection.execute("BEGIN")
        try:
            query = "SELECT coalesce(max(notification_id), 0) FROM tracking WHERE application_name = ?"
            position = int(connection.execute(query, (f"wt:{projection}",)).fetchone()[0])
            made = made_at(position)
            with made.datastore.raw() as other:
                return _compared(position, connection, other, tables, stream)
        finally:
            connection.execute("ROLLBACK")


def _compared(
    position: int, live: sqlite3.Connection, made: sqlite3.Connection, tables: Sequence[Table], stream: str | None
) -> Comparison:
    rows: dict[str, int] = {}
    differing: dict[str, int] = {}
    named: list[Difference] = []
    for table in tables:
        rows[table.name] = 0
        for row, difference in _merged(table, _rows(live, table, stream), _rows(made, table, stream)):
            rows[table.name] += row is not None
            if difference is None:
                continue
            differing[table.name] = differing.get(table.name, 0) + 1
            if differing[table.name] <= NAMED:
                named.append(difference)
    return Comparison(position, rows, differing, tuple(named))


def _rows(connection: sqlite3.Connection, table: Table, stream: str | None) -> Iterator[Row]:
    order = ", ".join(table.columns[: table.key])
    where, values = ("WHERE stream = ?", (stream,)) if stream is not None else ("", ())
    cursor = connection.cursor()
    cursor.row_factory = None
    yield from cursor.execute(f"SELECT * FROM {table.name} {where} ORDER BY {order}", values)  # noqa: S608


def _merged(table: Table, live: Iterator[Row], made: Iterator[Row]) -> Iterator[tuple[Row | None, Difference | None]]:
    """Each replayed row, with how the live one differs; None for a row that only the live ones have."""
    left, right = next(live, None), next(made, None)
    while left is not None or right is not None:
        if left == right:
            yield right, None
        elif right is None or (left is not None and _before(table, left, right)):
            assert left is not None, "one of the two is there"
            yield None, Difference(table.name, table.key_of(left))
            left = next(live, None)
            continue
        elif left is None or _before(table, right, left):
            yield right, Difference(table.name, table.key_of(right), missing=True)
            right = next(made, None)
            continue
        else:
            yield right, Difference(table.name, table.key_of(right), _changed(table, left, right))
        left, right = next(live, None), next(made, None)


def _before(table: Table, row: Row, other: Row) -> bool:
    return table.key_of(row) < table.key_of(other)


def _changed(table: Table, row: Row, other: Row) -> tuple[str, ...]:
    pairs = zip(table.columns, row, other, strict=True)
    return tuple(name for name, value, expected in pairs if value != expected)
