"""What can be wrong with a backup."""

from __future__ import annotations

from typing import ClassVar

from watchtower.ports import WatchtowerError


class BackupError(WatchtowerError):
    """The backup could not be made or restored; what existed before is untouched."""

    slug: ClassVar[str] = "backup-error"


class BackupCorrupt(BackupError):
    """The backup file is damaged, cut short, or no backup."""

    slug: ClassVar[str] = "backup-corrupt"
