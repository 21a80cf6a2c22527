"""What can be wrong with a keystore, its passphrase or a backup of it. No message holds a secret."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from watchtower.ports import WatchtowerError


class KeystoreError(WatchtowerError):
    """The keystore could not do what was asked; nothing was changed."""

    slug: ClassVar[str] = "keystore-error"


class KeystoreMissing(KeystoreError):
    """There is no keystore at this path."""

    slug: ClassVar[str] = "keystore-missing"


class KeystoreCorrupt(KeystoreError):
    """The file was damaged or edited: restore it from a backup."""

    slug: ClassVar[str] = "keystore-corrupt"


class WrongPassphrase(KeystoreError):
    """The passphrase does not open the file."""

    slug: ClassVar[str] = "wrong-passphrase"


class KeystoreLocked(KeystoreError):
    """Another process has the file open."""

    slug: ClassVar[str] = "keystore-locked"


class KeystoreConflict(KeystoreError):
    """Another secret is stored under this name; a secret is never replaced."""

    slug: ClassVar[str] = "keystore-conflict"


def corrupt(path: Path, what: str) -> KeystoreCorrupt:
    """The error for a damaged file, with the cure."""
    return KeystoreCorrupt(f"{path}: {what}; restore the file from a backup, secrets in it cannot be made again")
