"""The projector: positions, quarantine, and commits that fail or seem to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from domain.events import AlertCleared, AlertKind, Envelope, Recorded
from projections.projector import Projector, Stuck
from projections.tables import Change, Key, Row, Table
from tests.fakes.rows import MemoryRows
from tests.support.histories import ListLog
from watchtower.ports import StoreError
from watchtower.store.views import SqliteRows, new_views_file

POISON = 666


class SumRow(msgspec.Struct, frozen=True):
    """Sum of heights per stream."""

    stream: str
    total: int


SUMS = Table("sums", SumRow)


class Sums:
    """Adds up heights; cannot digest one of them."""

    name: ClassVar[str] = "sums"
    version: ClassVar[int] = 1
    tables: ClassVar[tuple[Table, ...]] = (SUMS,)

    def keys(self, recorded: Recorded) -> Sequence[Key]:
        """The stream's sum."""
        return ((recorded.envelope.stream,),)

    def apply(self, before: Mapping[Key, Row], page: Iterable[Recorded]) -> list[Change]:
        """Sums after the page."""
        totals: dict[str, int] = {}
        for recorded in page:
            stream, payload = recorded.envelope.stream, recorded.envelope.payload
            assert isinstance(payload, AlertCleared)
            if payload.height == POISON:
                raise ValueError("cannot be digested")
            known = before.get((stream,), (stream, 0))[1]
            assert isinstance(known, int)
            totals[stream] = totals.get(stream, known) + payload.height
        return [Change("sums", (stream,), (stream, total)) for stream, total in totals.items()]


def log_of(*events: tuple[str, int]) -> ListLog:
    """A log of heights per stream."""
    return ListLog(
        [
            Recorded(
                number,
                Envelope(
                    stream,
                    number,
                    AlertCleared.TOPIC,
                    AlertCleared(recorded_at=0, kind=AlertKind.SELF_BREACH, height=height),
                ),
            )
            for number, (stream, height) in enumerate(events, start=1)
        ]
    )


def sums(rows: MemoryRows | SqliteRows) -> dict[object, object]:
    """What the view says."""
    return {row[0]: row[1] for row in rows.page(SUMS, None, 100)}


def test_pages_are_applied_in_order_up_to_a_bound() -> None:
    """`until` stops at an event; the next call goes on behind it."""
    rows, log = MemoryRows(), log_of(("a", 1), ("b", 2), ("a", 4), ("b", 8))
    projector = Projector(log, rows, [Sums()], page=3)

    list(projector.catch_up(until=2))
    assert ({"a": 1, "b": 2}, 2) == (sums(rows), projector.position)
    list(projector.catch_up())
    assert ({"a": 5, "b": 10}, 4) == (sums(rows), projector.position)


def test_changes_are_handed_out_per_page() -> None:
    """Each committed page yields one change per key."""
    projector = Projector(log_of(("a", 1), ("a", 2), ("b", 3)), MemoryRows(), [Sums()], page=2)

    assert [[("a", 3)], [("b", 3)]] == [[change.row for change in page] for page in projector.catch_up()]


def test_one_of_a_hundred_streams_is_quarantined() -> None:
    """A stream whose event cannot be folded is skipped from there on; the others go on, position included."""
    events = [(f"s{number}", 1) for number in range(100)]
    log = log_of(*events, ("s7", POISON), *events)
    rows = MemoryRows()
    projector = Projector(log, rows, [Sums()], page=50)

    list(projector.catch_up())

    assert {f"s{number}": 2 for number in range(100)} | {"s7": 1} == sums(rows)
    assert {"s7": Stuck("s7", 101, "ValueError")} == projector.quarantined["sums"] == rows.quarantined("sums")
    assert projector.position == 201


def test_quarantine_survives_a_restart() -> None:
    """A new projector skips the same streams."""
    log = log_of(("a", 1), ("a", POISON))
    rows = MemoryRows()
    list(Projector(log, rows, [Sums()]).catch_up())
    log.recorded += [Recorded(3, log.recorded[0].envelope)]

    list(Projector(log, rows, [Sums()]).catch_up())

    assert ({"a": 1}, 3) == (sums(rows), rows.position("sums"))


class FailOnce:
    """A failpoint that raises the first time its name comes by."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, name: str) -> None:
        """Raise at the named point."""
        if name == self.name:
            self.name = ""
            raise StoreError(name)


@pytest.mark.parametrize(
    "point",
    [
        "projection_apply:before",
        "projection_apply:after",
        "projection_position:before",
        "projection_position:after",
    ],
)
def test_fault_a_commit_fails_or_only_seems_to(tmp_path: Path, point: str) -> None:
    """Whether the page was stored or not, the next call ends in the same views and hands out all changes once."""
    new_views_file(tmp_path / "views.db", bytes(16), [Sums()]).close()
    rows = SqliteRows(tmp_path / "views.db", failpoint=FailOnce(point))
    projector = Projector(log_of(("a", 1), ("b", 2)), rows, [Sums()])

    with pytest.raises(StoreError, match=point):
        list(projector.catch_up())
    handed_out = [change.row for page in projector.catch_up() for change in page]

    assert [("a", 1), ("b", 2)] == handed_out
    assert ({"a": 1, "b": 2}, 2) == (sums(rows), projector.position)
    rows.close()


def test_projections_at_different_positions_are_refused() -> None:
    """They move together; a file in which they do not must be rebuilt."""

    class Others(Sums):
        """A second projection."""

        name: ClassVar[str] = "others"

    rows = MemoryRows()
    list(Projector(log_of(("a", 1)), rows, [Sums()]).catch_up())

    with pytest.raises(ValueError, match="rebuild"):
        Projector(log_of(("a", 1)), rows, [Sums(), Others()])
