"""One thread behind the commits that keeps what is known of the log outside it: mark, seals, what clients still owe.

It is never in the way of a commit or of a pass, and its failures are told and tried again: they stop nothing.
"""

from __future__ import annotations

import threading
from typing import Protocol

import structlog

from domain.events import CoveredBy, ReceiptsCovered
from projections.log_standing import TABLE, LogStanding, LogStandings, fold
from projections.projector import Rows
from watchtower.channels.context import Rollback
from watchtower.continuity.continuity import Continuity
from watchtower.continuity.coverage import PAGE, Coverage, ReadableLog
from watchtower.continuity.sealing import HeadSealer
from watchtower.ports import Clock, EventStore, StoreError
from watchtower.store.log_stream import append_to_log_stream
from watchtower.telemetry.tasks import TaskReport

_log = structlog.get_logger(__name__)

PAUSE = 0.8
"""Least seconds between two turns: the mark is at most a second behind, and a busy log is not written twice."""

REASON = "behind_receipts"


class Board(Protocol):
    """Where readiness reasons are shown."""

    def set(self, reason: str, detail: str = "") -> None:
        """A reason begins to hold, or its detail changes."""
        ...

    def clear(self, reason: str) -> None:
        """It no longer holds."""
        ...


class HeadKeeper:
    """Moves the high-water mark, seals heads, and ends the wait for clients once all have come."""

    def __init__(
        self,
        *,
        store: EventStore,
        continuity: Continuity,
        coverage: Coverage,
        sealer: HeadSealer,
        board: Board,
        clock: Clock,
        report: TaskReport,
    ) -> None:
        self._report = report
        self._store, self._clock, self._board = store, clock, board
        self._continuity, self._coverage, self._sealer = continuity, coverage, sealer
        self._thread = threading.Thread(target=self.run, name="heads", daemon=True)
        self._stopping = threading.Event()
        self._trouble = ""
        self._show()

    def start(self) -> None:
        """Begin to follow the log."""
        self._thread.start()

    def run(self) -> None:
        """The body of the thread."""
        seen = -1
        with self._report.running():
            while not self._stopping.is_set():
                self._store.wait_beyond(seen, 1.0)
                seen = self._store.last_id()
                try:
                    self.turn()
                    self._trouble = ""
                except Exception as error:  # noqa: BLE001 - the border of the task: the tower protects without it
                    self._tell(error)
                self._report.progressed()
                self._stopping.wait(PAUSE)

    def turn(self) -> None:
        """Everything that is due now. Raises `StoreError`."""
        self._continuity.note()
        if self._continuity.may_sign():
            self._sealer.seal_if_due()
        self._settle()
        self._show()

    def stop(self, timeout: float) -> bool:
        """End after the present turn; False if it has not within `timeout` seconds."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def epoch(self) -> int:
        """Epoch of what is stored now."""
        return self._continuity.epoch()

    def awaits(self, stream: str) -> bool:
        """Whether the owner of a channel is asked to compare it."""
        return self._coverage.waits_for(stream)

    def behind(self) -> Rollback | None:
        """What the log lacks; None if nothing."""
        if not self._continuity.may_sign():
            since, high_water = self._continuity.gap
            return Rollback(since, high_water, 0, accepted=False)
        if self._coverage.is_over:
            return None
        standing = self._coverage.standing
        return Rollback(standing.restored_at, standing.high_water, len(self._coverage), accepted=True)

    def _settle(self) -> None:
        """Once every channel was compared, the log says that it lacks nothing any more."""
        if self._coverage.is_over:
            return
        self._coverage.follow()
        if len(self._coverage) == 0 and self._continuity.may_sign():
            event = ReceiptsCovered(
                recorded_at=self._clock.wall_microseconds(),
                epoch=self._coverage.epoch,
                by=CoveredBy.CLIENTS,
                missing=0,
            )
            append_to_log_stream(self._store, event)
            self._coverage.end()

    def _show(self) -> None:
        if self._continuity.doubt:
            self._board.set(REASON, self._continuity.doubt)
        elif not self._coverage.is_over:
            waiting = len(self._coverage)
            self._board.set(
                REASON, f"restored log, epoch {self._coverage.epoch}: {waiting} channels were not compared yet"
            )
        else:
            self._board.clear(REASON)

    def _tell(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        if not isinstance(error, StoreError):
            self._report.went_on()
        if reason != self._trouble:
            known = isinstance(error, StoreError)
            _log.error("head_task_failed", reason=reason, exc_info=None if known else error)
        self._trouble = reason


def standing_of(log: ReadableLog, rows: Rows) -> LogStanding:
    """What the log says about itself: the view, and the events behind it. Raises `StoreError`."""
    position = rows.position(LogStandings.name)
    found = rows.page(TABLE, None, 1)
    standing: LogStanding = TABLE.read(found[0]) if found else LogStanding()
    while page := log.read_log(position, PAGE):
        standing = fold(standing, page)
        position = page[-1].id
    return standing
