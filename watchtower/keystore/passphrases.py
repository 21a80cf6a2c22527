"""Where a passphrase comes from: a file, a credential of the service manager, a line of standard input.

Never an argument: the arguments of a process can be read by everybody on the host.

Standard input is read one line per passphrase, so `keys passphrase` can take the old and the new one from a pipe.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import BinaryIO

from watchtower.host.durable import sync_path
from watchtower.keystore.errors import KeystoreError, WrongPassphrase
from watchtower.keystore.file_keystore import FileKeystore
from watchtower.keystore.files import replace_file

MAX_PASSPHRASE_FILE = 4096
PASSPHRASE_NAME = "keystore.passphrase"  # noqa: S105 - the name of a file, not what is in it
"""File beside the keystore that `init` makes."""


def read_passphrase(path: Path) -> bytes:
    """The passphrase from a file or service credential: its bytes without one trailing newline."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise KeystoreError(
            f"the passphrase file {path} cannot be read ({error.strerror}); restore it, or set keystore.passphrase"
        ) from None
    return _checked(content, f"the passphrase file {path}")


def read_passphrase_line(stream: BinaryIO | None = None) -> bytes:
    """The passphrase from one line of standard input."""
    source = sys.stdin.buffer if stream is None else stream
    return _checked(source.readline(MAX_PASSPHRASE_FILE + 1), "a line of standard input")


def new_passphrase() -> str:
    """256 random bits as text."""
    return secrets.token_urlsafe(32)


def open_with_file(path: Path, passphrase_path: Path, *, for_writing: bool = True) -> FileKeystore:
    """Open a keystore with a passphrase file, also after a change of passphrase that was cut short.

    `replace_passphrase` writes the new passphrase beside the file before it changes the keystore. If the file does not
    fit, that one is tried and, if it fits, put in its place.
    """
    opened = FileKeystore.open if for_writing else FileKeystore.open_copy
    beside = _beside(passphrase_path)
    try:
        return opened(path, read_passphrase(passphrase_path))
    except WrongPassphrase:
        if not beside.exists():
            raise
        keystore = opened(path, read_passphrase(beside))
    if for_writing:
        _put_in_place(beside, passphrase_path)
    return keystore


def fitting_passphrase(path: Path, passphrase_path: Path) -> bytes:
    """The passphrase of a file, or the one beside it if a change was cut short and that one fits; writes nothing."""
    passphrase, beside = read_passphrase(passphrase_path), _beside(passphrase_path)
    if not beside.exists():
        return passphrase
    try:
        FileKeystore.open_copy(path, passphrase)
    except WrongPassphrase:
        return read_passphrase(beside)
    return passphrase


def replace_passphrase(keystore: FileKeystore, passphrase_path: Path, passphrase: bytes, cost: int | None) -> None:
    """Change the passphrase of a keystore and of its passphrase file; a crash at any point leaves both usable.

    The passphrase must survive a file: no newline at its end. Order: new passphrase durable beside the old one, then
    the keystore, then the rename.
    """
    _checked(passphrase, "the new passphrase")
    if passphrase.endswith(b"\n"):
        raise KeystoreError("a passphrase that is kept in a file must not end with a newline")
    beside = _beside(passphrase_path)
    try:
        _write(beside, passphrase + b"\n")
        keystore.change_passphrase(passphrase, cost=cost)
        _put_in_place(beside, passphrase_path)
    except OSError as error:
        raise KeystoreError(
            f"{passphrase_path} could not be written ({error.strerror}); both passphrases are kept"
        ) from None


def _beside(passphrase_path: Path) -> Path:
    return passphrase_path.with_name(passphrase_path.name + ".next")


def _write(path: Path, content: bytes) -> None:
    os.close(replace_file(path, content))


def _put_in_place(beside: Path, path: Path) -> None:
    beside.replace(path)
    sync_path(path.parent)


def _checked(content: bytes, what: str) -> bytes:
    passphrase = content.removesuffix(b"\n")
    if not passphrase or len(content) > MAX_PASSPHRASE_FILE:
        raise KeystoreError(f"{what} must hold 1 to {MAX_PASSPHRASE_FILE} bytes")
    return passphrase
