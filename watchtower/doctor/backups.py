"""Backups: is there a place for them, on another disk, can it be written, and how old is the newest one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from watchtower.backup.errors import BackupError
from watchtower.backup.shelf import Shelf
from watchtower.doctor.case import Case
from watchtower.doctor.finding import Finding, ok, warn
from watchtower.ports import StoreError
from watchtower.store.places import open_log_reader

LATE = 2.0
"""Intervals after which a missing backup is no accident any more."""


def look(case: Case) -> Iterator[Finding]:
    """Findings about `[backup]`; never a failure, because a tower without backups watches all the same."""
    chosen = case.settings.backup
    if not chosen.directory:
        mend = "set backup.directory, best on another disk, or run `watchtower store backup` by a timer"
        yield warn("backups.directory", "the tower makes no backups of itself", mend)
        return
    directory = Path(chosen.directory)
    if not directory.is_dir():
        yield warn("backups.directory", f"{directory} is no directory", "make it, for the user of the tower")
        return
    if not os.access(directory, os.W_OK | os.X_OK):
        yield warn("backups.directory", f"{directory} cannot be written", "let the user of the tower write there")
    else:
        yield ok("backups.directory", f"{directory} can be written")
    yield _place(case, directory)
    yield _age(case, directory, chosen.interval_hours)


def _place(case: Case, directory: Path) -> Finding:
    if case.data_dir.is_dir() and directory.stat().st_dev == case.data_dir.stat().st_dev:
        mend = "set backup.directory to another disk, or copy the backups elsewhere"
        return warn("backups.place", "backups are on the disk of the tower: both are lost together", mend)
    return ok("backups.place", "on another file system than the tower")


def _age(case: Case, directory: Path, interval_hours: float) -> Finding:
    mend = "look for backup_failed in the log; make one with `watchtower store backup`"
    try:
        with open_log_reader(case.settings) as log:
            newest = Shelf(directory, log.meta.log_id).newest()
    except (StoreError, BackupError) as error:
        return warn("backups.age", str(error), mend)
    if newest is None:
        return warn("backups.age", "there is none of this tower yet", mend)
    hours = (case.now() - newest) / 3_600
    if hours > LATE * interval_hours:
        return warn(
            "backups.age", f"the newest one is {hours:.0f} hours old, one is due every {interval_hours:g}", mend
        )
    return ok("backups.age", f"the newest one is {max(hours, 0):.1f} hours old")
