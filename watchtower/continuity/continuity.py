"""Whether the log is the one that receipts were signed for, and which epoch new receipts belong to.

Decided at the start from the high-water file (docs/backup.md). A log that was rolled back still protects every channel
that it knows, but nothing is signed about it until the operator has said that it goes on from there.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock

import structlog

from projections.log_standing import LogStanding
from watchtower.ports import StoreError
from watchtower.store.high_water import (
    Comparison,
    HighWater,
    HighWaterDamaged,
    compare,
    mark_of,
    read_high_water,
    write_high_water,
)
from watchtower.store.source import LogSource

_log = structlog.get_logger(__name__)

ACCEPT = "run `watchtower store accept-rollback` with the service stopped (docs/backup.md)"
YOUNG = 1
"""Events of a log that nobody can have a receipt of: `LogOpened` only."""


class Continuity:
    """The standing of a log beside its high-water mark; moves the mark on. Safe to use from several threads.

    `verdict` says what was found at the start, `doubt` the same in words (empty if the log is the right one), `gap`
    where the log ended then, and how far it had come by its mark.
    """

    def __init__(self, path: Path, source: LogSource, standing: LogStanding) -> None:
        """Compare. Writes the mark of a log that fits, so it is durable before a receipt is signed. `StoreError`."""
        self._path, self._source = path, source
        self._lock = Lock()
        self._written: HighWater | None = None
        self._trouble = ""
        last = source.last_commit().last_id
        self.gap = (last, last)
        self.verdict, self.doubt, self._epoch = self._compare(standing)
        if self.may_sign():
            self.note()

    def epoch(self) -> int:
        """Epoch of the receipts that are signed now."""
        return self._epoch

    def may_sign(self) -> bool:
        """False while the log is known to lack what receipts were signed for, and nobody has accepted that."""
        return self.verdict is Comparison.FITS

    def note(self) -> None:
        """Write how far the log has come, if it moved; a failure is told once, and tried again with the next call."""
        if not self.may_sign():
            return
        with self._lock:
            try:
                mark = mark_of(self._source, self._epoch)
                if mark == self._written:
                    return
                write_high_water(self._path, mark)
            except OSError as error:
                self._tell(error.strerror or type(error).__name__)
                return
            except StoreError as error:  # the end of a service, which closes what is left, must not stop here
                self._tell(str(error))
                return
            self._written, self._trouble = mark, ""

    def _noticed(self, mark: HighWater) -> int:
        """Where the rollback begins: what the tower stores from now on, before it is accepted, is behind it."""
        noticed = first_noticed(self._path, self._source)
        if noticed is None:
            noticed = mark_of(self._source, mark.epoch)
            try:
                write_high_water(found_path(self._path), noticed)
            except OSError as error:
                self._tell(error.strerror or type(error).__name__)
        return noticed.position

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            _log.error("high_water_failed", path=self._path.name, reason=trouble)
        self._trouble = trouble

    def _compare(self, standing: LogStanding) -> tuple[Comparison, str, int]:
        try:
            mark = read_high_water(self._path)
        except HighWaterDamaged as error:
            return Comparison.DIFFERENT, f"{error}; to go on without it, {ACCEPT}", standing.epoch
        if mark is None:
            if self._source.last_commit().last_id > YOUNG:
                _log.warning("high_water_missing", path=self._path.name)
            return Comparison.FITS, "", standing.epoch
        verdict = compare(mark, self._source)
        if verdict is not Comparison.FITS and was_accepted(mark, standing):
            verdict = Comparison.FITS
        self.gap = (self._noticed(mark) if verdict is not Comparison.FITS else self.gap[0], mark.position)
        return verdict, doubt_of(verdict, mark, self._source), max(mark.epoch, standing.epoch)


def found_path(path: Path) -> Path:
    """The file beside the mark that says where the log ended when it was first seen to be an older copy."""
    return path.with_name(f"{path.name}.found")


def first_noticed(path: Path, source: LogSource) -> HighWater | None:
    """Where the log ended then, if that file is there and about this history."""
    try:
        found = read_high_water(found_path(path))
    except HighWaterDamaged:
        return None
    return found if found is not None and compare(found, source) is Comparison.FITS else None


def was_accepted(mark: HighWater, standing: LogStanding) -> bool:
    """Whether the operator accepted this difference already, and the process ended before the mark was renewed."""
    return standing.epoch > mark.epoch and standing.high_water >= mark.position


def doubt_of(verdict: Comparison, mark: HighWater, source: LogSource) -> str:
    """What a difference means, for people; empty if there is none."""
    if verdict is Comparison.FITS:
        return ""
    if mark.log_id != source.meta.log_id:
        found = f"the high-water file belongs to another log ({mark.origin}, {mark.log_id.hex()})"
    elif verdict is Comparison.SHORTER:
        last = source.last_commit().last_id
        found = f"the log ends at event {last}, but it had {mark.position}: it is an older copy"
    else:
        found = f"the log has another history than the one that reached event {mark.position}"
    return f"{found}; {ACCEPT}"
