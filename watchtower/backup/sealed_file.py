"""One encrypted file: a readable first line, then frames that can be neither changed, moved, left out nor cut off.

The key comes from the passphrase and a fresh salt, so frame numbers are safe nonces. Each frame is bound to the first
line, to its number and to whether it is the last one.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from hashlib import sha256
from io import BufferedReader
from typing import Annotated, BinaryIO, Self

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from msgspec import Meta

from watchtower.backup.errors import BackupCorrupt
from watchtower.keystore import SCRYPT_COST, WrongPassphrase
from watchtower.keystore.sealing import NONCE_SIZE, TAG_SIZE, stretched_cipher

FORMAT = "state-channel-backup"
VERSION = 1
FRAME = 1 << 20
"""Plain bytes of a frame, except of the last one."""

MAX_HEADER = 1024
_LOCK_NONCE = b"\xff" * NONCE_SIZE
_DAMAGED = "the backup is damaged; use another copy"


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """First line. `lock` proves the passphrase before any content is read; `check` tells damage from a wrong one."""

    format: str
    version: int
    salt: str
    n: Annotated[int, Meta(ge=2, le=2**20)]
    lock: str = ""
    check: str = ""

    def checksum(self) -> str:
        fields = (self.format, self.version, self.salt, self.n, self.lock)
        return sha256("|".join(map(str, fields)).encode()).hexdigest()


class SealedWriter:
    """Takes plain bytes in pieces, writes frames; `finish` writes the last one."""

    def __init__(self, file: BinaryIO, passphrase: bytes, cost: int = SCRYPT_COST) -> None:
        salt = secrets.token_bytes(16)
        self._cipher = stretched_cipher(passphrase, salt, cost)
        lock = self._cipher.encrypt(_LOCK_NONCE, b"", salt).hex()
        header = _Header(FORMAT, VERSION, salt.hex(), cost, lock)
        header = msgspec.structs.replace(header, check=header.checksum())
        self._file, self._binding = file, header.check.encode()
        self._number, self._waiting = 0, bytearray()
        file.write(msgspec.json.encode(header) + b"\n")

    def write(self, piece: bytes) -> None:
        """Add plain bytes."""
        self._waiting += piece
        while len(self._waiting) > FRAME:
            self._put(bytes(self._waiting[:FRAME]), is_last=False)
            del self._waiting[:FRAME]

    def finish(self) -> None:
        """Write what waits as the last frame."""
        self._put(bytes(self._waiting), is_last=True)
        self._waiting.clear()

    def _put(self, piece: bytes, *, is_last: bool) -> None:
        binding = _frame_binding(self._binding, is_last=is_last)
        sealed = self._cipher.encrypt(self._number.to_bytes(NONCE_SIZE, "little"), piece, binding)
        self._file.write(len(sealed).to_bytes(4, "little") + sealed)
        self._number += 1


class SealedReader:
    """Reads plain bytes back; everything that comes out was authenticated."""

    def __init__(self, frames: Iterator[bytes]) -> None:
        self._frames = frames
        self._waiting = b""

    @classmethod
    def open(cls, file: BufferedReader, passphrase: bytes) -> Self:
        """Read the first line; `BackupCorrupt` or `WrongPassphrase`."""
        line = file.readline(MAX_HEADER)
        try:
            header = msgspec.json.decode(line, type=_Header)
            salt, lock = bytes.fromhex(header.salt), bytes.fromhex(header.lock)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
            raise BackupCorrupt("this is no backup of a tower or party, or its first line is damaged") from None
        if header.format != FORMAT or header.version != VERSION:
            raise BackupCorrupt(f"this is no backup of format {FORMAT} {VERSION}; was it made by a newer version?")
        if header.check != header.checksum() or header.n & (header.n - 1):
            raise BackupCorrupt(_DAMAGED)
        cipher = stretched_cipher(passphrase, salt, header.n)
        try:
            cipher.decrypt(_LOCK_NONCE, lock, salt)
        except InvalidTag:
            raise WrongPassphrase(
                "the passphrase does not open the backup; give the one that the keystore had when it was made"
            ) from None
        return cls(_frames(file, cipher, header.check.encode()))

    def line(self) -> bytes:
        """Plain bytes up to a newline, without it; `BackupCorrupt` if there is none."""
        while b"\n" not in self._waiting:
            self._waiting += self._more()
        line, _, self._waiting = self._waiting.partition(b"\n")
        return line

    def pieces(self, size: int) -> Iterator[bytes]:
        """The next `size` plain bytes in pieces."""
        while size:
            if not self._waiting:
                self._waiting = self._more()
            piece, self._waiting = self._waiting[:size], self._waiting[size:]
            size -= len(piece)
            yield piece

    def require_end(self) -> None:
        """`BackupCorrupt` if there is more, or if the last frame is missing."""
        if self._waiting or any(self._frames):
            raise BackupCorrupt("the backup holds more than it says; use another copy")

    def _more(self) -> bytes:
        piece = next(self._frames, b"")
        if not piece:
            raise BackupCorrupt(_DAMAGED)
        return piece


def _frames(file: BufferedReader, cipher: ChaCha20Poly1305, bound_to: bytes) -> Iterator[bytes]:
    number, is_last = 0, False
    while not is_last:
        size = int.from_bytes(file.read(4), "little")
        sealed = file.read(size) if TAG_SIZE <= size <= FRAME + TAG_SIZE else b""
        # Only the last frame may be followed by nothing: its binding says that it is the last.
        is_last = not file.peek(1)
        try:
            binding = _frame_binding(bound_to, is_last=is_last)
            yield cipher.decrypt(number.to_bytes(NONCE_SIZE, "little"), sealed, binding)
        except InvalidTag:
            raise BackupCorrupt(_DAMAGED) from None
        number += 1


def _frame_binding(header: bytes, *, is_last: bool) -> bytes:
    return header + (b"|last" if is_last else b"|more")
