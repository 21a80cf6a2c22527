"""Private files: opened under a lock, and replaced so that a crash leaves the old content or the new one."""

from __future__ import annotations

import fcntl
import os
import secrets
from contextlib import suppress
from pathlib import Path

from watchtower.host.durable import sync_path
from watchtower.host.hygiene import give_to_owner
from watchtower.keystore.errors import KeystoreError, KeystoreLocked, KeystoreMissing


def open_locked(path: Path) -> int:
    """Descriptor with an exclusive lock; `KeystoreMissing`, `KeystoreLocked`, or `KeystoreError` if others may read."""
    descriptor = _open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between open and lock the file may have been replaced: a lock on the old one protects nothing.
        replaced = not os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):
        replaced = True
    if replaced:
        os.close(descriptor)
        raise KeystoreLocked(f"{path} is in use by another process; stop it first")
    return _private(descriptor, path)


def open_shared(path: Path) -> int:
    """Descriptor for reading without a lock, also while another process writes."""
    return _private(_open(path, os.O_RDONLY), path)


def read_all(descriptor: int) -> bytes:
    """The content of an open file."""
    size = os.fstat(descriptor).st_size
    content = b""
    while len(content) < size:
        more = os.pread(descriptor, size - len(content), len(content))
        if not more:
            break
        content += more
    return content


def replace_file(path: Path, content: bytes) -> int:
    """Put a file of mode 0600 in the place of another; returns its locked descriptor.

    Written beside, synced, locked, renamed, directory synced: the path holds the old or the new content, never less,
    and there is no moment in which another process could lock it. Raises OSError; the path may then hold either.
    """
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, content)
        give_to_owner(descriptor, path.parent)
        os.fsync(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        beside.replace(path)
        sync_path(path.parent)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def new_file(path: Path, content: bytes) -> None:
    """Make a file of mode 0600, durable on return; `FileExistsError` if the name is taken, also in this moment.

    Raises OSError; there is no file then.
    """
    beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, content)
        give_to_owner(descriptor, path.parent)
        os.fsync(descriptor)
        give_name(beside, path)
    finally:
        os.close(descriptor)
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def give_name(beside: Path, path: Path) -> None:
    """Give a finished file its name, durably. Raises `FileExistsError` if the name is taken, and OSError.

    A rename would replace a file that came meanwhile; it is used only where the file system knows no links.
    """
    try:
        os.link(beside, path)
    except FileExistsError:
        raise
    except OSError:
        beside.replace(path)
    else:
        beside.unlink()
    sync_path(path.parent)


def write_all(descriptor: int, content: bytes) -> None:
    """Write everything; a short write goes on where it stopped."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise KeystoreMissing(
            f"there is no keystore at {path}; restore it from a backup, or make a new one "
            "(`watchtower init` for a tower, `watchtower party init` for a party)"
        ) from None
    except OSError as error:
        raise KeystoreError(f"{path} cannot be opened ({error.strerror})") from None


def _private(descriptor: int, path: Path) -> int:
    if os.fstat(descriptor).st_mode & 0o077:
        os.close(descriptor)
        raise KeystoreError(f"{path} may be read by others; run: chmod 600 {path}")
    return descriptor
