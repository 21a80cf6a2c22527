"""The read models of a raw log, folded from its first event: what an export says of them, and its check."""

from __future__ import annotations

from pathlib import Path

from domain.events import Envelope, Recorded, decode_payload
from projections.catalog import PROJECTIONS
from projections.projector import Projector
from watchtower.store.exports.manifest import Digests
from watchtower.store.exports.write import Progress
from watchtower.store.rebuild import PAGE, digests
from watchtower.store.source import LogSource
from watchtower.store.views import new_views_file


class SourceLog:
    """Decoded reading of raw rows, as a projector wants it; raises `LogCorrupt` for an event that cannot be read."""

    def __init__(self, source: LogSource) -> None:
        self._source = source

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """The log in order of id, behind `after_id`."""
        return [
            Recorded(number, Envelope(stream, version, topic, decode_payload(topic, state)))
            for number, stream, version, topic, state in self._source.rows(after_id + 1, after_id + limit)
        ]


def fold_digests(source: LogSource, until: int, scratch: Path, progress: Progress) -> tuple[Digests, list[str]]:
    """Fold events 1 to `until` into a scratch file, which is removed; the digests, and streams that did not fold."""
    _remove(scratch)
    rows = new_views_file(scratch, source.meta.log_id, PROJECTIONS)
    try:
        projector = Projector(SourceLog(source), rows, PROJECTIONS, page=PAGE)
        for _ in projector.catch_up(until):
            progress(projector.position)
        made = digests(rows)
        stuck = sorted({stream for skipped in projector.quarantined.values() for stream in skipped})
    finally:
        rows.close()
        _remove(scratch)
    versions = {projection.name: projection.version for projection in PROJECTIONS}
    return Digests(made.position, versions, {name: digest.hex() for name, digest in made.tables.items()}), stuck


def _remove(scratch: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        scratch.with_name(scratch.name + suffix).unlink(missing_ok=True)
