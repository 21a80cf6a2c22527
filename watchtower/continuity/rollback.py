"""The operator's word about a log that is an older copy, or has another history: it goes on from here.

The service is stopped: these hold the instance lock. They work for a log in a file and on a server.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar

import msgspec

from domain.events import CoveredBy, ReceiptsCovered, StoreRestored
from projections.log_standing import LogStanding
from watchtower.config import Settings
from watchtower.continuity.continuity import first_noticed, found_path, was_accepted
from watchtower.continuity.coverage import Coverage
from watchtower.continuity.heads import standing_of
from watchtower.host.system import SystemClock
from watchtower.ports import WatchtowerError
from watchtower.store.high_water import (
    Comparison,
    HighWater,
    HighWaterDamaged,
    compare,
    mark_of,
    read_high_water,
    write_high_water,
)
from watchtower.store.log_stream import append_to_log_stream
from watchtower.store.places import open_log, open_source
from watchtower.store.rebuild import rebuild
from watchtower.store.source import LogSource
from watchtower.store.views import SqliteRows
from watchtower.store.writer import LogWriter

MAX_SOURCE = 120
"""Characters of the words about where a copy came from."""


class NothingToAccept(WatchtowerError):
    """The log is the one that it should be, or nothing is waited for."""

    slug: ClassVar[str] = "nothing-to-accept"


class HighWaterUnwritten(WatchtowerError):
    """The new mark could not be written; the decision is in the log, and the next start writes it."""

    slug: ClassVar[str] = "high-water-unwritten"


class Acceptance(msgspec.Struct, frozen=True):
    """The new epoch; the log goes on behind `position`, had reached `high_water`; `channels` have to be compared.

    What the tower stored since it noticed is behind `position`, and belongs to the new epoch.
    """

    epoch: int
    position: int
    high_water: int
    channels: int


class _Opened(msgspec.Struct, frozen=True):
    store: LogWriter
    source: LogSource
    rows: SqliteRows
    standing: LogStanding


def accept_rollback(settings: Settings, source: str, *, always: bool = False) -> Acceptance:
    """Append `StoreRestored` with the next epoch, then renew the mark. `source` says where the copy came from.

    `always`: also for a log that reaches its mark, or has none, because somebody knows that it was restored.
    Raises `NothingToAccept`, `StoreLocked` while the tower runs, `StoreError`.
    """
    path = Path(settings.high_water_path)
    with _opened(settings) as log:
        mark, is_known = _read(path)
        if not always and is_known and not _differs(mark, log):
            raise NothingToAccept("the log holds what its high-water mark says; there is nothing to accept")
        tip = first_noticed(path, log.source) or mark_of(log.source, 0)
        ours = mark if mark is not None and mark.log_id == tip.log_id else None
        event = StoreRestored(
            recorded_at=SystemClock().wall_microseconds(),
            epoch=1 + max(log.standing.epoch, 0 if ours is None else ours.epoch),
            position=tip.position,
            head=tip.head,
            high_water=max(tip.position, 0 if ours is None else ours.position),
            source=source[:MAX_SOURCE],
        )
        append_to_log_stream(log.store, event)
        _renew(path, mark_of(log.source, event.epoch))
        found_path(path).unlink(missing_ok=True)
        waiting = Coverage(standing_of(log.store, log.rows), log.store, log.rows)
        return Acceptance(event.epoch, event.position, event.high_water, len(waiting))


def stop_waiting(settings: Settings) -> int:
    """Append `ReceiptsCovered`: whoever has not compared yet is not waited for. Returns how many channels those are.

    Raises `NothingToAccept`, `StoreLocked` while the tower runs, `StoreError`.
    """
    with _opened(settings) as log:
        if log.standing.is_covered:
            raise NothingToAccept("no restored log waits for clients")
        missing = len(Coverage(log.standing, log.store, log.rows))
        event = ReceiptsCovered(
            recorded_at=SystemClock().wall_microseconds(),
            epoch=log.standing.epoch,
            by=CoveredBy.OPERATOR,
            missing=missing,
        )
        append_to_log_stream(log.store, event)
        return missing


@contextmanager
def _opened(settings: Settings) -> Iterator[_Opened]:
    """The log, locked, with views that are certainly its own: those beside it may be of the other history."""
    leading = msgspec.structs.replace(settings, store=msgspec.structs.replace(settings.store, standby=False))
    with ExitStack() as stack:
        store = open_log(leading)
        stack.callback(store.close)
        rebuild(Path(settings.views_path), store)
        rows = SqliteRows(Path(settings.views_path))
        stack.callback(rows.close)
        source = open_source(settings)
        stack.callback(source.close)
        yield _Opened(store, source, rows, standing_of(store, rows))


def _read(path: Path) -> tuple[HighWater | None, bool]:
    """The mark, and whether the file says anything: a damaged one is no mark, and a reason to decide."""
    try:
        return read_high_water(path), True
    except HighWaterDamaged:
        return None, False


def _differs(mark: HighWater | None, log: _Opened) -> bool:
    if mark is None or was_accepted(mark, log.standing):
        return False
    return compare(mark, log.source) is not Comparison.FITS


def _renew(path: Path, mark: HighWater) -> None:
    try:
        write_high_water(path, mark)
    except OSError as error:
        raise HighWaterUnwritten(
            f"epoch {mark.epoch} is in the log, but {path} could not be written ({error.strerror}); see "
            "store.high_water_path"
        ) from None
