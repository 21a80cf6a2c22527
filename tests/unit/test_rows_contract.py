"""The `Rows` port: one suite for the fake and the views file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from projections.projector import Stuck
from projections.tables import Change, Table, as_row
from tests.fakes.rows import MemoryRows
from watchtower.store import views
from watchtower.store.views import new_views_file


class FruitRow(msgspec.Struct, frozen=True):
    """A row with every kind of column."""

    name: str
    weight: int | None
    skin: bytes
    ripe: bool = False


class PairRow(msgspec.Struct, frozen=True):
    """A row that is all key."""

    left: bytes
    right: str


FRUIT = Table("fruit", FruitRow, indexes=(("weight",),))
PAIRS = Table("pairs", PairRow, key=2)
TABLES = {table.name: table for table in (FRUIT, PAIRS)}


class Fruits:
    """A projection that only declares its tables."""

    name: ClassVar[str] = "fruits"
    version: ClassVar[int] = 1
    tables: ClassVar[tuple[Table, ...]] = (FRUIT, PAIRS)

    def keys(self, _recorded: object) -> tuple[()]:
        """Nothing."""
        return ()

    def apply(self, _before: object, _page: object) -> list[Change]:
        """Nothing."""
        return []


@pytest.fixture(params=["memory", "sqlite"])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Empty tables."""
    if request.param == "memory":
        yield MemoryRows()
        return
    made = new_views_file(tmp_path / "views.db", bytes(16), (Fruits(),))
    yield made
    made.close()


def put(rows: Any, position: int, *changes: Change) -> None:
    """One batch."""
    with rows.batch() as batch:
        batch.write(TABLES, changes)
        batch.advance("fruits", position)


def fruit(name: str, weight: int | None = 1, ripe: bool = False) -> Change:
    """The row of a fruit."""
    return Change("fruit", (name,), as_row(FruitRow(name, weight, b"\x00", ripe)))


def pair(left: bytes, right: str) -> Change:
    """The row of a pair."""
    return Change("pairs", (left, right), (left, right))


def test_written_rows_are_loaded_by_key(rows: Any) -> None:
    """A batch sees rows of earlier batches; absent keys are absent."""
    put(rows, 1, fruit("apple", 3, ripe=True), fruit("plum", None))

    with rows.batch() as batch:
        loaded = batch.load(FRUIT, [("apple",), ("plum",), ("pear",)])

    assert {("apple",): ("apple", 3, b"\x00", 1), ("plum",): ("plum", None, b"\x00", 0)} == loaded


def test_a_row_is_replaced_and_removed_as_a_whole(rows: Any) -> None:
    """The last change of a key counts."""
    put(rows, 1, fruit("apple", 3), pair(b"a", "x"))
    put(rows, 2, fruit("apple", 4), pair(b"a", "x"), Change("pairs", (b"a", "x"), (b"a", "x")))
    put(rows, 3, Change("fruit", ("apple",), None), fruit("pear", 9))

    assert [("pear", 9, b"\x00", 0)] == rows.page(FRUIT, None, 10)
    assert [(b"a", "x")] == rows.page(PAIRS, None, 10)


def test_many_keys_are_loaded_at_once(rows: Any) -> None:
    """More keys than one statement can take."""
    put(rows, 1, *(fruit(f"f{number}") for number in range(1_300)))

    with rows.batch() as batch:
        loaded = batch.load(FRUIT, [(f"f{number}",) for number in range(1_300)])

    assert len(loaded) == 1_300


def test_pages_are_in_key_order_behind_a_key_or_its_beginning(rows: Any) -> None:
    """Paging works with a whole key and with its leading columns."""
    put(rows, 1, *(pair(left, right) for left in (b"b", b"a") for right in ("y", "x")))

    assert [(b"a", "x"), (b"a", "y"), (b"b", "x")] == rows.page(PAIRS, None, 3)
    assert [(b"a", "y"), (b"b", "x")] == rows.page(PAIRS, (b"a", "x"), 2)
    assert [(b"b", "x"), (b"b", "y")] == rows.page(PAIRS, (b"a",), 10)
    assert rows.page(PAIRS, (b"b", "y"), 10) == []


def test_rows_are_found_by_a_column(rows: Any) -> None:
    """Equality on one column, in key order; an unknown column is an error."""
    put(rows, 1, fruit("plum", 3), fruit("apple", 3), fruit("pear", 4))

    assert ["apple", "plum"] == [row[0] for row in rows.find(FRUIT, "weight", 3)]
    with pytest.raises(ValueError, match="color"):
        rows.find(FRUIT, "color", 3)


@pytest.mark.parametrize("sorted_rows", [1, 1000])
def test_pages_of_the_rows_with_a_value(rows: Any, sorted_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In key order behind a key, whether few rows are sorted or many passed by; further columns narrow them."""
    monkeypatch.setattr(views, "_SORTED", sorted_rows)
    put(rows, 1, fruit("plum", 3), fruit("apple", 3, ripe=True), fruit("pear", 4), fruit("fig", 3), fruit("kiwi", 3))

    pages = [rows.page_of(FRUIT, {"weight": 3}, after, 2) for after in (None, ("fig",), ("plum",))]

    assert [["apple", "fig"], ["kiwi", "plum"], []] == [[row[0] for row in page] for page in pages]
    assert ["apple"] == [row[0] for row in rows.page_of(FRUIT, {"weight": 3, "ripe": 1}, None, 10)]
    assert rows.page_of(FRUIT, {"weight": 7}, None, 10) == []


@pytest.mark.parametrize(("count", "index"), [(2, "fruit_weight"), (3, "fruit_key")])
def test_rows_are_taken_along_the_shorter_way(tmp_path: Path, count: int, index: str) -> None:
    """Few rows from the index of their value; many, which would all be sorted for each page, along the key."""
    made = new_views_file(tmp_path / "views.db", bytes(16), (Fruits(),))
    put(made, 1, *(fruit(f"f{number}") for number in range(count)))
    asked: list[tuple[str, Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "_SORTED", 2)
        select = made._rows
        patch.setattr(made, "_rows", lambda query, values: asked.append((query, values)) or select(query, values))
        made.page_of(FRUIT, {"weight": 1}, ("a",), 2)
    query, values = asked[-1]

    plan = " ".join(str(row[3]) for row in made.select(f"EXPLAIN QUERY PLAN {query}", values))

    assert f"INDEX {index} " in plan
    made.close()


def test_a_failed_batch_leaves_nothing(rows: Any) -> None:
    """Rows, position and quarantine are stored together or not at all."""

    def fail() -> None:
        with rows.batch() as batch:
            batch.write(TABLES, [fruit("apple")])
            batch.quarantine("fruits", Stuck("s", 1, "Error"))
            batch.advance("fruits", 5)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert (0, {}, []) == (rows.position("fruits"), rows.quarantined("fruits"), rows.page(FRUIT, None, 10))


@pytest.mark.parametrize("position", [3, 2])
def test_a_position_only_grows(rows: Any, position: int) -> None:
    """A page that was applied before is refused, with its rows."""
    put(rows, 3, fruit("apple"))

    with pytest.raises(Exception):  # noqa: B017 - each adapter has its own error
        put(rows, position, fruit("pear"))

    assert (3, ["apple"]) == (rows.position("fruits"), [row[0] for row in rows.page(FRUIT, None, 10)])


def test_quarantine_is_kept_per_projection(rows: Any) -> None:
    """A skipped stream is remembered with event and error."""
    with rows.batch() as batch:
        batch.quarantine("fruits", Stuck("s", 7, "ValueError"))
        batch.advance("fruits", 7)

    assert {"s": Stuck("s", 7, "ValueError")} == rows.quarantined("fruits")
    assert rows.quarantined("others") == {}
