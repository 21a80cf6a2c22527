"""Secrets encrypted at rest: one append-only file, one sealed line per secret.

The first line holds a random data key, sealed under a key that scrypt makes from the passphrase; every further
line holds one secret, sealed under the data key with ChaCha20-Poly1305. The associated data of a line bind the
format version, the file, the position and the name of the secret, so lines can be neither exchanged, moved nor
left out in the middle. A line is durable (fsync) before `put` returns; a last line without its newline was
never acknowledged and is dropped at the next opening. Secrets are opened one at a time when they are asked
for: an idle process holds the data key only.

Not promised: Python cannot wipe memory, and cutting whole lines off the end cannot be seen from the file alone;
the event log says which secrets must exist.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Annotated, ClassVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from msgspec import Meta

from watchtower.ports import WatchtowerError

FORMAT = "state-channel-keystore"
VERSION = 1

SCRYPT_COST = 2**16
"""64 MiB and about 0.2 s. `init` makes passphrases of 256 random bits; the cost is for those that people choose."""

MAX_SECRET = 64
MAX_PASSPHRASE_FILE = 4096
_NONCE = 12


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


_Small = Annotated[int, Meta(ge=1, le=2**20)]


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """First line. `check` is a SHA-256 over the other fields: it tells damage from a wrong passphrase."""

    format: str
    version: int
    file_id: str
    salt: str
    n: _Small
    r: _Small
    p: _Small
    data_key: str
    check: str = ""

    def checksum(self) -> str:
        fields = (self.format, self.version, self.file_id, self.salt, self.n, self.r, self.p, self.data_key)
        return sha256("|".join(map(str, fields)).encode()).hexdigest()


class FileKeystore:
    """Implements `ports.Keystore`. Holds an exclusive lock on its file until `close`."""

    def __init__(self, path: Path, descriptor: int, header: _Header, cipher: ChaCha20Poly1305) -> None:
        self._path = path
        self._descriptor = descriptor
        self._header = header
        self._cipher = cipher
        self._sealed: dict[bytes, tuple[int, bytes]] = {}
        self._size = 0
        self._broken = False
        self._mutex = Lock()

    def __repr__(self) -> str:
        return f"FileKeystore({str(self._path)!r}, {len(self._sealed)} secrets)"

    @classmethod
    def create(cls, path: Path, passphrase: bytes, *, cost: int = SCRYPT_COST) -> FileKeystore:
        """Make a new file (mode 0600); `KeystoreError` if one exists, for it may be the only copy of a secret."""
        if path.exists():
            raise KeystoreError(f"{path} exists already; move it away first if you really want a new keystore")
        header = _new_header(passphrase, secrets.token_bytes(32), cost)
        _replace_file(path, msgspec.json.encode(header) + b"\n")
        return cls.open(path, passphrase)

    @classmethod
    def open(cls, path: Path, passphrase: bytes) -> FileKeystore:
        """Open and check every line.

        Raises `KeystoreMissing`, `KeystoreLocked`, `WrongPassphrase` or `KeystoreCorrupt`.
        """
        descriptor = _open_locked(path)
        try:
            content = _read_all(descriptor)
            first, _, rest = content.partition(b"\n")
            header = _read_header(path, first)
            store = cls(path, descriptor, header, ChaCha20Poly1305(_open_data_key(path, header, passphrase)))
            store._load(len(first) + 1, rest)
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
        """Forget secrets for good: the file is written anew under a fresh data key, without them."""
        unwanted = frozenset(names)
        with self._mutex:
            kept = [(name, self._open(name)) for name in self._sealed if name not in unwanted]
            raise_if_broken(self._broken, self._path)
            self._rewrite([(name, secret) for name, secret in kept if secret is not None])

    def close(self) -> None:
        """Release the file and its lock."""
        with self._mutex:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor, self._broken = -1, True

    def _load(self, start: int, rest: bytes) -> None:
        """Check the lines behind the header; a torn last line is cut off."""
        *lines, torn = rest.split(b"\n")
        for position, line in enumerate(lines, start=1):
            name, sealed = self._parse(line, position)
            if name in self._sealed or self._unseal(name, position, sealed) is None:
                raise KeystoreCorrupt(_corrupt(self._path, f"line {position + 1} is damaged, moved or doubled"))
            self._sealed[name] = (position, sealed)
        self._size = start + len(rest) - len(torn)
        if torn:
            os.ftruncate(self._descriptor, self._size)
            os.fsync(self._descriptor)

    def _parse(self, line: bytes, position: int) -> tuple[bytes, bytes]:
        name, _, sealed = line.partition(b" ")
        try:
            parsed = bytes.fromhex(name.decode("ascii")), bytes.fromhex(sealed.decode("ascii"))
        except ValueError:
            raise KeystoreCorrupt(_corrupt(self._path, f"line {position + 1} cannot be read")) from None
        return parsed

    def _open(self, name: bytes) -> bytes | None:
        found = self._sealed.get(name)
        if found is None:
            return None
        secret = self._unseal(name, *found)
        if secret is None:
            raise KeystoreCorrupt(_corrupt(self._path, "a secret cannot be opened any more"))
        return secret

    def _unseal(self, name: bytes, position: int, sealed: bytes) -> bytes | None:
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], self._bound_to(name, position))
        except (InvalidTag, ValueError):
            return None

    def _bound_to(self, name: bytes, position: int) -> bytes:
        return b"|".join(
            (FORMAT.encode(), bytes([VERSION]), bytes.fromhex(self._header.file_id), b"%d" % position, name)
        )

    def _seal_line(self, name: bytes, secret: bytes, position: int) -> tuple[bytes, bytes]:
        nonce = secrets.token_bytes(_NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, secret, self._bound_to(name, position))
        return sealed, name.hex().encode() + b" " + sealed.hex().encode() + b"\n"

    def _append(self, name: bytes, secret: bytes) -> None:
        raise_if_broken(self._broken, self._path)
        position = len(self._sealed) + 1
        sealed, line = self._seal_line(name, secret, position)
        try:
            written = os.pwrite(self._descriptor, line, self._size)
            if written != len(line):
                raise OSError("short write")
            os.fsync(self._descriptor)
        except OSError as error:
            # After a failed fsync nobody knows what the disk holds: stop writing until the file was read again.
            self._broken = True
            reason = error.strerror or error
            raise KeystoreError(
                f"{self._path} could not be written ({reason}); make room or repair the disk, then restart"
            ) from None
        self._size += len(line)
        self._sealed[name] = (position, sealed)

    def _rewrite(self, kept: list[tuple[bytes, bytes]]) -> None:
        """Write the secrets into a new file with the same passphrase key and put it in the place of the old one."""
        lines = [msgspec.json.encode(self._header) + b"\n"]
        sealed_now: dict[bytes, tuple[int, bytes]] = {}
        for position, (name, secret) in enumerate(kept, start=1):
            sealed, line = self._seal_line(name, secret, position)
            sealed_now[name] = (position, sealed)
            lines.append(line)
        content = b"".join(lines)
        _replace_file(self._path, content)
        os.close(self._descriptor)
        self._descriptor = _open_locked(self._path)
        self._sealed, self._size = sealed_now, len(content)


def raise_if_broken(broken: bool, path: Path) -> None:
    """Refuse to write through a keystore whose last write failed or that was closed."""
    if broken:
        raise KeystoreError(f"{path} is closed or its last write failed; restart to read it again")


def read_passphrase(path: Path) -> bytes:
    """The passphrase from a file or service credential: its bytes without one trailing newline."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise KeystoreError(
            f"the passphrase file {path} cannot be read ({error.strerror}); restore it, or set keystore.passphrase"
        ) from None
    passphrase = content.removesuffix(b"\n")
    if not passphrase or len(content) > MAX_PASSPHRASE_FILE:
        raise KeystoreError(f"the passphrase file {path} must hold 1 to {MAX_PASSPHRASE_FILE} bytes")
    return passphrase


def _new_header(passphrase: bytes, data_key: bytes, cost: int) -> _Header:
    file_id, salt, nonce = secrets.token_bytes(16), secrets.token_bytes(16), secrets.token_bytes(_NONCE)
    sealing = ChaCha20Poly1305(_stretch(passphrase, salt, cost, 8, 1))
    sealed = nonce + sealing.encrypt(nonce, data_key, _header_binding(file_id))
    header = _Header(FORMAT, VERSION, file_id.hex(), salt.hex(), cost, 8, 1, sealed.hex())
    return msgspec.structs.replace(header, check=header.checksum())


def _read_header(path: Path, line: bytes) -> _Header:
    try:
        header = msgspec.json.decode(line, type=_Header)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise KeystoreCorrupt(_corrupt(path, "the first line is not a keystore header")) from None
    if header.format != FORMAT or header.version != VERSION:
        raise KeystoreCorrupt(
            f"{path} is not a keystore of format {FORMAT} {VERSION}; was it written by a newer version?"
        )
    if header.check != header.checksum() or header.n & (header.n - 1) or header.n * header.r * 128 > 2**30:
        raise KeystoreCorrupt(_corrupt(path, "the first line is damaged"))
    return header


def _open_data_key(path: Path, header: _Header, passphrase: bytes) -> bytes:
    sealed = bytes.fromhex(header.data_key)
    opening = ChaCha20Poly1305(_stretch(passphrase, bytes.fromhex(header.salt), header.n, header.r, header.p))
    try:
        return opening.decrypt(sealed[:_NONCE], sealed[_NONCE:], _header_binding(bytes.fromhex(header.file_id)))
    except InvalidTag:
        raise WrongPassphrase(
            f"the passphrase does not open {path}; give the one that it was made with "
            "(a tower reads the setting keystore.passphrase, else the file keystore.passphrase in data_dir)"
        ) from None


def _header_binding(file_id: bytes) -> bytes:
    return b"|".join((FORMAT.encode(), bytes([VERSION]), file_id, b"data-key"))


def _stretch(passphrase: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(passphrase)


def _corrupt(path: Path, what: str) -> str:
    return f"{path}: {what}; restore the file from a backup, secrets in it cannot be made again"


def _open_locked(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise KeystoreMissing(
            f"there is no keystore at {path}; restore it from a backup, or make a new tower with `watchtower init`"
        ) from None
    except OSError as error:
        raise KeystoreError(f"{path} cannot be opened ({error.strerror})") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise KeystoreLocked(f"{path} is in use by another process; stop it first") from None
    if os.fstat(descriptor).st_mode & 0o077:
        os.close(descriptor)
        raise KeystoreError(f"{path} may be read by others; run: chmod 600 {path}")
    return descriptor


def _read_all(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    content = b""
    while len(content) < size:
        content += os.pread(descriptor, size - len(content), len(content))
    return content


def _replace_file(path: Path, content: bytes) -> None:
    """Write beside, fsync, rename, fsync the directory: the path holds the old or the new content, never less."""
    beside = path.with_name(path.name + ".new")
    try:
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise KeystoreError(f"{path} could not be written ({error.strerror})") from None
