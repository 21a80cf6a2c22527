"""The watch index in memory."""

from __future__ import annotations

from projections.tables import Change
from projections.watch_set import WatchSet

COIN, OTHER = b"\x01" * 36, b"\x02" * 36


def added(outpoint: bytes, stream: str) -> Change:
    """A row that appears."""
    return Change("watch_index", (outpoint, stream), (outpoint, stream, 1))


def removed(outpoint: bytes, stream: str) -> Change:
    """A row that goes."""
    return Change("watch_index", (outpoint, stream), None)


def test_it_is_filled_from_rows() -> None:
    """Each outpoint knows its channel; unknown ones have none."""
    watch = WatchSet([(COIN, "c1", 1)])

    assert (True, False, 1) == (COIN in watch, OTHER in watch, len(watch))
    assert (("c1",), ()) == (watch.streams(COIN), watch.streams(OTHER))


def test_a_shared_outpoint_has_several_channels() -> None:
    """An input of a transaction that funds two channels is watched until both let go of it.

    It counts for both: an alert compares the count with that of the channels.
    """
    watch = WatchSet([(COIN, "c2", 3)])
    watch.apply([added(COIN, "c1"), added(COIN, "c2")])
    assert (("c1", "c2"), 2) == (watch.streams(COIN), len(watch))

    watch.apply([removed(COIN, "c2")])
    assert (("c1",), 1) == (watch.streams(COIN), len(watch))
    watch.apply([removed(COIN, "c1"), removed(COIN, "c1")])
    assert (False, 0) == (COIN in watch, len(watch))


def test_changes_of_other_tables_are_passed_over() -> None:
    """Only the watch index is followed."""
    watch = WatchSet()

    watch.apply([Change("closings", ("c1",), ("c1",))])

    assert len(watch) == 0
