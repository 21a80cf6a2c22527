"""`FileKeystore`: one append-only file, one sealed line per secret."""

from __future__ import annotations

import os
import secrets
from binascii import unhexlify
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from watchtower.keystore.errors import KeystoreConflict, KeystoreCorrupt, KeystoreError, corrupt
from watchtower.keystore.files import new_file, open_locked, open_shared, read_all, replace_file
from watchtower.keystore.sealed import NAME_SIZE, SealedSecrets
from watchtower.keystore.sealing import (
    KEY_SIZE,
    NONCE_SIZE,
    SCRYPT_COST,
    Header,
    bound,
    new_header,
    open_cipher,
    read_header,
    wipe,
)

MAX_SECRET = 64


class FileKeystore:
    """Implements `ports.Keystore`. Holds an exclusive lock on its file until `close`, unless it only reads."""

    def __init__(self, path: Path, descriptor: int, header: Header, cipher: ChaCha20Poly1305) -> None:
        self._path = path
        self._descriptor = descriptor
        self._header = header
        self._cipher = cipher
        self._sealed = SealedSecrets()
        self._size = 0
        self._broken = False
        self._mutex = Lock()

    def __repr__(self) -> str:
        return f"FileKeystore({str(self._path)!r}, {len(self._sealed)} secrets)"

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def cost(self) -> int:
        """scrypt's n: twice the number, twice the work per guess of the passphrase."""
        return self._header.n

    @classmethod
    def create(cls, path: Path, passphrase: bytes, *, cost: int = SCRYPT_COST) -> FileKeystore:
        """Make a new file (mode 0600); `KeystoreError` if one exists, for it may be the only copy of a secret."""
        header = new_header(passphrase, secrets.token_bytes(KEY_SIZE), cost)
        try:
            new_file(path, msgspec.json.encode(header) + b"\n")
        except FileExistsError:
            raise KeystoreError(
                f"{path} exists already; move it away first if you really want a new keystore"
            ) from None
        except OSError as error:
            raise KeystoreError(f"{path} could not be written ({error.strerror})") from None
        return cls.open(path, passphrase)

    @classmethod
    def open(cls, path: Path, passphrase: bytes) -> FileKeystore:
        """Open and check every line.

        Raises `KeystoreMissing`, `KeystoreLocked`, `WrongPassphrase` or `KeystoreCorrupt`.
        """
        return cls._opened(path, open_locked(path), passphrase)

    @classmethod
    def open_copy(cls, path: Path, passphrase: bytes) -> FileKeystore:
        """Open for reading without the lock, also while another process writes; what was acknowledged is there."""
        store = cls._opened(path, open_shared(path), passphrase, may_cut=False)
        store.close()
        return store

    @classmethod
    def _opened(cls, path: Path, descriptor: int, passphrase: bytes, *, may_cut: bool = True) -> FileKeystore:
        try:
            first, _, rest = read_all(descriptor).partition(b"\n")
            header = read_header(path, first)
            store = cls(path, descriptor, header, open_cipher(path, header, passphrase))
            store._load(len(first) + 1, rest, may_cut=may_cut)
        except BaseException:
            os.close(descriptor)
            raise
        return store

    def put(self, proposal_id: bytes, revocation_secret: bytes) -> None:
        """Store a secret (1 … 64 bytes) under a 32-byte name; durable on return.

        The same value again changes nothing; another value raises `KeystoreConflict`, a failed write
        `KeystoreError`.
        """
        if len(proposal_id) != 32 or not 1 <= len(revocation_secret) <= MAX_SECRET:
            raise KeystoreError("a secret has 1 to 64 bytes and a name of 32 bytes")
        with self._mutex:
            stored = self._open(proposal_id)
            if stored is None:
                self._append(proposal_id, revocation_secret)
            elif not secrets.compare_digest(stored, revocation_secret):
                raise KeystoreConflict(f"another secret is stored under {proposal_id.hex()}; it is never replaced")

    def get(self, proposal_id: bytes) -> bytes | None:
        """The secret of a name, or None."""
        with self._mutex:
            return self._open(proposal_id)

    def names(self) -> frozenset[bytes]:
        """The names of all stored secrets."""
        with self._mutex:
            return frozenset(self._sealed)

    def erase(self, names: Iterable[bytes]) -> None:
        """Forget secrets: the file is written anew without them. Copies made before still hold them."""
        unwanted = frozenset(names)
        with self._mutex:
            kept = self._opened_all(lambda name: name not in unwanted)
            self._rewrite(self._header, self._cipher, kept)

    def change_passphrase(self, passphrase: bytes, *, cost: int | None = None) -> None:
        """Seal everything anew: fresh data key, fresh salt, another passphrase or `cost`; durable on return.

        A crash leaves a file that opens with the old passphrase or with the new one. Copies made before still open
        with the old one. Raises `KeystoreError`; the file then opens with one of both.
        """
        with self._mutex:
            kept, data_key = self._opened_all(lambda _: True), bytearray(secrets.token_bytes(KEY_SIZE))
            try:
                header = new_header(passphrase, data_key, self._header.n if cost is None else cost)
                self._rewrite(header, ChaCha20Poly1305(data_key), kept)
            finally:
                wipe(data_key)

    def content(self) -> bytes:
        """The file without a torn end, sealed as it is: a backup of it opens with the same passphrase."""
        with self._mutex:
            lines = [msgspec.json.encode(self._header)]
            lines += [name.hex().encode() + b" " + sealed.hex().encode() for name, sealed in self._sealed.items()]
            return b"".join(line + b"\n" for line in lines)

    def close(self) -> None:
        """Release the file and its lock."""
        with self._mutex:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor, self._broken = -1, True

    def _opened_all(self, wanted: Callable[[bytes], bool]) -> list[tuple[bytes, bytes]]:
        self._require_whole()
        found = ((name, self._open(name)) for name in self._sealed if wanted(name))
        return [(name, secret) for name, secret in found if secret is not None]

    def _load(self, start: int, rest: bytes, *, may_cut: bool) -> None:
        """Check the lines behind the header; a torn last line is cut off."""
        position, begin, binding = 0, 0, self._header.binding
        while (end := rest.find(b"\n", begin)) >= 0:
            position += 1
            name, sealed = self._parse(rest, begin, end, position)
            if self._unseal(sealed, bound(binding, name, position)) is None:
                raise self._damaged(position)
            self._sealed.append(name, sealed)
            begin = end + 1
        if doubled := self._sealed.sort():
            raise self._damaged(doubled)
        self._size = start + begin
        if begin < len(rest) and may_cut:
            os.ftruncate(self._descriptor, self._size)
            os.fsync(self._descriptor)

    def _damaged(self, position: int) -> KeystoreCorrupt:
        return corrupt(self._path, f"line {position + 1} is damaged, moved or doubled")

    def _parse(self, rest: bytes, begin: int, end: int, position: int) -> tuple[bytes, bytes]:
        """Name and sealed bytes of the line in these places: the name has as many digits in every line."""
        middle = begin + 2 * NAME_SIZE
        try:
            if rest[middle : middle + 1] != b" " or middle > end:
                raise ValueError
            return unhexlify(rest[begin:middle]), unhexlify(rest[middle + 1 : end])
        except ValueError:
            raise corrupt(self._path, f"line {position + 1} cannot be read") from None

    def _open(self, name: bytes) -> bytes | None:
        found = self._sealed.get(name)
        if found is None:
            return None
        position, sealed = found
        secret = self._unseal(sealed, self._header.bound_to(name, position))
        if secret is None:
            raise corrupt(self._path, "a secret cannot be opened any more")
        return secret

    def _unseal(self, sealed: bytes, bound_to: bytes) -> bytes | None:
        try:
            return self._cipher.decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], bound_to)
        except (InvalidTag, ValueError):
            return None

    def _append(self, name: bytes, secret: bytes) -> None:
        self._require_whole()
        position = len(self._sealed) + 1
        sealed, line = _seal_line(self._header, self._cipher, name, secret, position)
        try:
            written = os.pwrite(self._descriptor, line, self._size)
            if written != len(line):
                raise OSError("short write")
            os.fsync(self._descriptor)
        except OSError as error:
            # After a failed fsync nobody knows what the disk holds: stop writing until the file was read again.
            self._broken = True
            raise self._unwritten(error) from None
        self._size += len(line)
        self._sealed.add(name, sealed)

    def _rewrite(self, header: Header, cipher: ChaCha20Poly1305, kept: list[tuple[bytes, bytes]]) -> None:
        """Write the secrets into a new file and put it in the place of the old one."""
        lines = [msgspec.json.encode(header) + b"\n"]
        sealed_now = SealedSecrets()
        for position, (name, secret) in enumerate(kept, start=1):
            sealed, line = _seal_line(header, cipher, name, secret, position)
            sealed_now.append(name, sealed)
            lines.append(line)
        sealed_now.sort()
        content = b"".join(lines)
        try:
            descriptor = replace_file(self._path, content)
        except OSError as error:
            self._broken = True
            raise self._unwritten(error) from None
        os.close(self._descriptor)
        self._descriptor, self._header, self._cipher = descriptor, header, cipher
        self._sealed, self._size = sealed_now, len(content)

    def _require_whole(self) -> None:
        """Refuse to write through a keystore whose last write failed or that was closed."""
        if self._broken:
            raise KeystoreError(f"{self._path} is closed or its last write failed; restart to read it again")

    def _unwritten(self, error: OSError) -> KeystoreError:
        reason = error.strerror or error
        return KeystoreError(
            f"{self._path} could not be written ({reason}); make room or repair the disk, then restart"
        )


def _seal_line(
    header: Header, cipher: ChaCha20Poly1305, name: bytes, secret: bytes, position: int
) -> tuple[bytes, bytes]:
    nonce = secrets.token_bytes(NONCE_SIZE)
    sealed = nonce + cipher.encrypt(nonce, secret, header.bound_to(name, position))
    return sealed, name.hex().encode() + b" " + sealed.hex().encode() + b"\n"
