"""Encrypted, verified backups of a tower's or a party's private files, and their restore."""

from watchtower.backup.archive import (
    LOG_NAMES,
    LogFacts,
    Manifest,
    Sources,
    StoredFile,
    backup,
    party_sources,
    restore,
    tower_sources,
    verify,
)
from watchtower.backup.errors import BackupCorrupt, BackupError

__all__ = [
    "LOG_NAMES",
    "BackupCorrupt",
    "BackupError",
    "LogFacts",
    "Manifest",
    "Sources",
    "StoredFile",
    "backup",
    "party_sources",
    "restore",
    "tower_sources",
    "verify",
]
