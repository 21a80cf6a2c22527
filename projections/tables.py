"""What a view is made of: rows of plain columns, a key, and changes that replace or remove whole rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import msgspec

from domain.events import Payload, Recorded

Scalar = int | str | bytes | None
"""What a column may hold."""

Key = tuple[Scalar, ...]
Row = tuple[Scalar, ...]


class Table(msgspec.Struct, frozen=True):
    """A table whose columns are the fields of a struct, in order; the first `key` of them are the primary key.

    `indexes` name further columns to look up by.
    """

    name: str
    row: type[msgspec.Struct]
    key: int = 1
    indexes: tuple[tuple[str, ...], ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names."""
        return self.row.__struct_fields__

    def key_of(self, row: Row) -> Key:
        """The primary key of a row."""
        return row[: self.key]

    def read(self, row: Row) -> Any:
        """The row as its struct."""
        return self.row(*row)


class Change(msgspec.Struct, frozen=True):
    """The row that now stands under a key; None = no row. `before` is the one it replaces, where sums need it."""

    table: str
    key: Key
    row: Row | None
    before: Row | None = None


class Projection(Protocol):
    """A fold of the log. Its first table is loaded before a page is folded, the others are only written.

    A change of the fold or of a table needs a new `version`; the views are then rebuilt.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    tables: ClassVar[tuple[Table, ...]]

    def keys(self, recorded: Recorded, /) -> Sequence[Key]:
        """Rows of the first table that folding this event needs."""

    def apply(self, before: Mapping[Key, Row], page: Iterable[Recorded], /) -> list[Change]:
        """Fold events in log order over the loaded rows; each key changes at most once."""


@runtime_checkable
class Selective(Protocol):
    """A projection that only ever looks at events with these topics: a rebuild hands it no others."""

    topics: ClassVar[frozenset[str]]


@runtime_checkable
class Mergeable(Protocol):
    """A projection with one table whose rows can be made from parts of the log, in any order, and then put together."""

    def part(self, events: Iterable[tuple[int, Payload]], /) -> dict[Key, Row]:
        """The rows that events (id, payload) make alone."""

    def merge(self, first: Row, second: Row, /) -> Row:
        """The row that two rows with the same key make together."""


def as_row(struct: msgspec.Struct) -> Row:
    """The columns of a row struct; True and False are the 1 and 0 that the database gives back."""
    row: Row = msgspec.structs.astuple(struct)
    return row


def differences(table: Table, before: Iterable[Row], after: Iterable[Row]) -> list[Change]:
    """Changes that turn one set of rows into another."""
    old = {table.key_of(row): row for row in before}
    new = {table.key_of(row): row for row in after}
    changes = [Change(table.name, key, None) for key in old if key not in new]
    return changes + [Change(table.name, key, row) for key, row in new.items() if old.get(key) != row]
