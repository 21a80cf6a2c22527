"""A mark that read models may hold events which the log never got: they waited in memory for its server.

While it is there, another tower may write other events under the same ids. Read models found beside the mark at a start
are thrown away; they are folded again from the log.
"""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from watchtower.host.durable import sync_path

_log = structlog.get_logger(__name__)


class AheadMark:
    """The file `<views>.ahead`. `set` before the first waiting event is applied, `clear` when all are in the log."""

    def __init__(self, views: Path) -> None:
        self._views = views
        self._path = views.with_name(views.name + ".ahead")

    def set(self) -> None:
        """Durable on return. A disk that takes no mark takes no read models either."""
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            sync_path(self._path.parent)
        except OSError as error:
            _log.error("mark_failed", path=str(self._path), reason=error.strerror)

    def clear(self) -> None:
        """Everything that was applied is in the log."""
        self._path.unlink(missing_ok=True)

    def discard_views(self) -> None:
        """Remove read models that may hold what the log has not, and the mark after them."""
        if not self._path.exists():
            return
        _log.warning("views_discarded", path=str(self._views))
        for suffix in ("", "-wal", "-shm"):
            self._views.with_name(self._views.name + suffix).unlink(missing_ok=True)
        sync_path(self._path.parent)
        self.clear()
