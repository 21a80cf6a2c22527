"""Rows of the views in dictionaries, with the promises of the real ones; the contract tests run on both."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from projections.projector import Batch, Stuck
from projections.tables import Change, Key, Row, Scalar, Table


class MemoryRows:
    """The `Rows` port. A batch works on staged changes that are applied when it ends without an exception."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[Key, Row]] = {}
        self.positions: dict[str, int] = {}
        self.stuck: dict[str, dict[str, Stuck]] = {}

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Open a transaction; applied if the block ends without an exception."""
        staged = _MemoryBatch(self)
        yield staged
        staged.apply()

    def position(self, projection: str) -> int:
        """Id of the last applied event."""
        return self.positions.get(projection, 0)

    def quarantined(self, projection: str) -> dict[str, Stuck]:
        """Streams that a projection skips."""
        return dict(self.stuck.get(projection, {}))

    def find(self, table: Table, column: str, value: bytes | str | int) -> list[Row]:
        """Rows with this value in a column, in key order."""
        if column not in table.columns:
            raise ValueError(f"{table.name} has no column {column}")
        at = table.columns.index(column)
        return [row for row in self._sorted(table) if row[at] == value]

    def sums(self, table: Table, by: str, of: Sequence[str]) -> dict[Scalar, tuple[int, ...]]:
        """Per value of a column the number of rows and the sums of other columns."""
        at, columns = table.columns.index(by), [table.columns.index(name) for name in of]
        found: dict[Scalar, tuple[int, ...]] = {}
        for row in self._sorted(table):
            known = found.get(row[at], (0,) * (1 + len(columns)))
            found[row[at]] = tuple(a + b for a, b in zip(known, (1, *(row[c] for c in columns)), strict=True))  # type: ignore[operator]
        return found

    def distinct(self, table: Table, column: str, unless: str) -> int:
        """How many values a column has among the rows without a value in another one."""
        at, other = table.columns.index(column), table.columns.index(unless)
        return len({row[at] for row in self._sorted(table) if row[other] is None})

    def count(self, table: Table, column: str, value: Scalar, unless: str, limit: int) -> int:
        """How many of these rows have this value; not counted beyond `limit`."""
        other = table.columns.index(unless)
        return min(limit, sum(row[other] is None for row in self.find(table, column, value)))  # type: ignore[arg-type]

    def keys_above(self, table: Table, column: str, bound: int) -> list[Key]:
        """Keys of the rows whose number in this column is greater."""
        at = table.columns.index(column)
        return [table.key_of(row) for row in self._sorted(table) if row[at] is not None and row[at] > bound]  # type: ignore[operator]

    def page(self, table: Table, after: Key | None, limit: int) -> list[Row]:
        """Rows in key order whose leading key columns are greater than `after`."""
        bound = after or ()
        return [row for row in self._sorted(table) if not bound or row[: len(bound)] > bound][:limit]  # type: ignore[operator]

    def page_of(self, table: Table, where: Mapping[str, Scalar], after: Key | None, limit: int) -> list[Row]:
        """Rows with these values in key order behind a key."""
        wanted = [(table.columns.index(name), value) for name, value in where.items()]
        found = [row for row in self._sorted(table) if all(row[at] == value for at, value in wanted)]
        return [row for row in found if not after or row[: len(after)] > after][:limit]  # type: ignore[operator]

    def _sorted(self, table: Table) -> list[Row]:
        rows = self.tables.get(table.name, {})
        return [rows[key] for key in sorted(rows)]  # type: ignore[type-var]


class _MemoryBatch:
    def __init__(self, rows: MemoryRows) -> None:
        self._rows = rows
        self._changes: list[Change] = []
        self._positions: dict[str, int] = {}
        self._stuck: list[tuple[str, Stuck]] = []

    def load(self, table: Table, keys: Collection[Key]) -> dict[Key, Row]:
        known = self._rows.tables.get(table.name, {})
        return {key: known[key] for key in keys if key in known}

    def write(self, tables: Mapping[str, Table], changes: Iterable[Change]) -> None:
        self._changes.extend(changes)

    def advance(self, projection: str, position: int) -> None:
        if position <= self._rows.position(projection):
            raise ValueError(f"{projection} is at {self._rows.position(projection)}, not below {position}")
        self._positions[projection] = position

    def quarantine(self, projection: str, stuck: Stuck) -> None:
        self._stuck.append((projection, stuck))

    def apply(self) -> None:
        for change in self._changes:
            table = self._rows.tables.setdefault(change.table, {})
            if change.row is None:
                table.pop(change.key, None)
            else:
                table[change.key] = change.row
        self._rows.positions.update(self._positions)
        for projection, stuck in self._stuck:
            self._rows.stuck.setdefault(projection, {})[stuck.stream] = stuck
