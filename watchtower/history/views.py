"""All read models as of a point: folded from the log into a file of their own, beside the live ones.

Such a file may be kept. It only goes forward: a later point is reached from where it stands, an earlier one from the
first event again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from domain.errors import MalformedInput
from projections.catalog import PROJECTIONS
from projections.projector import Projector
from watchtower.store.reader import LogReader
from watchtower.store.rebuild import PAGE, rebuild
from watchtower.store.views import APPLICATION_ID, SqliteRows

OnProgress = Callable[[int, int], None]
"""Called after each page with the events that are folded and those to fold."""

_MAGIC, _ID_AT = b"SQLite format 3\x00", slice(68, 72)
"""How a file of SQLite begins, and where its `application_id` stands."""


@contextmanager
def views_at(
    log: LogReader, position: int, on_progress: OnProgress, *, keep: Path | None = None
) -> Iterator[SqliteRows]:
    """The read models after the first `position` events.

    `keep` is the file to fold into and to leave behind, if `check_keep` finds it good; without it nothing is left.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "views.db" if keep is None else keep
        if not _went_forward(path, log, position, on_progress):
            rebuild(path, log, until=position, on_progress=on_progress)
        rows = SqliteRows(path, read_only=True)
        try:
            yield rows
        finally:
            rows.close()


def _went_forward(path: Path, log: LogReader, position: int, on_progress: OnProgress) -> bool:
    """Bring a kept file to the position; False if it has to be made anew."""
    if not path.exists():
        return False
    rows = SqliteRows(path)
    try:
        if not rows.fits(log.meta.log_id, PROJECTIONS, position):
            return False
        projector = Projector(log, rows, PROJECTIONS, page=PAGE)
        for _ in projector.catch_up(position):
            on_progress(projector.position, position)
        rows.fold_wal()
        return True
    finally:
        rows.close()


def check_keep(keep: Path | None, live: Path | None) -> None:
    """Raise `MalformedInput` for a file that holds anything else than read models of the past.

    `live` is the file of the live ones, which belongs to the service.
    """
    if keep is None or not keep.exists():
        return
    if live is not None and live.exists() and keep.samefile(live):
        raise MalformedInput(f"{keep} belongs to the service; name another file")
    if not keep.is_file() or not _is_views(keep):
        raise MalformedInput(f"{keep} holds no read models and is left as it is; name another file")


def _is_views(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(100)
    return start.startswith(_MAGIC) and start[_ID_AT] == APPLICATION_ID.to_bytes(4, "big")
