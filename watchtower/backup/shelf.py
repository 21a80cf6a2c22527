"""The directory of a tower's backups: their names, the newest one, and which are too many."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from watchtower.backup.errors import BackupError

_TIME = "%Y%m%dT%H%M%SZ"
SUFFIX = ".backup"


class Shelf(msgspec.Struct, frozen=True):
    """Backups of one log in one directory: `tower-<begin of the log id>-<time>.backup`. Other files are left alone."""

    directory: Path
    log_id: bytes

    @property
    def _prefix(self) -> str:
        return f"tower-{self.log_id.hex()[:8]}-"

    def path_for(self, made_at: int) -> Path:
        """Name of a backup that is made now (Unix microseconds)."""
        when = datetime.fromtimestamp(made_at / 1e6, UTC).strftime(_TIME)
        return self.directory / f"{self._prefix}{when}{SUFFIX}"

    def backups(self) -> list[Path]:
        """All of them, oldest first. Only what was verified has such a name. Raises `BackupError`."""
        try:
            found = [path for path in self.directory.glob(f"{self._prefix}*{SUFFIX}") if self._time_of(path)]
        except OSError as error:
            raise BackupError(f"{self.directory} cannot be read ({error.strerror}); see backup.directory") from None
        return sorted(found)

    def newest(self) -> float | None:
        """Unix time of the newest one, None if there is none. Raises `BackupError`."""
        backups = self.backups()
        return self._time_of(backups[-1]) if backups else None

    def prune(self, keep: int) -> list[Path]:
        """Remove all but the newest `keep`; those that were removed. Raises `BackupError`."""
        surplus = self.backups()[:-keep]
        for path in surplus:
            try:
                path.unlink()
            except OSError as error:
                raise BackupError(f"{path} could not be removed ({error.strerror})") from None
        return surplus

    def _time_of(self, path: Path) -> float | None:
        text = path.name.removeprefix(self._prefix).removesuffix(SUFFIX)
        try:
            return datetime.strptime(text, _TIME).replace(tzinfo=UTC).timestamp()
        except ValueError:
            return None
