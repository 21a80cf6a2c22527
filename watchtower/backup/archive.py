"""Backups: the private files of a tower or of a party in one encrypted file, and back.

The log is copied first and the keystore after it: a secret is always older than the event that needs it. The
passphrase of the backup is that of the keystore at that time; it is in no backup. A backup counts only when it was
read back: every byte authenticated, every secret opened, every event checked against the chain.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Literal

import msgspec

from watchtower.backup.errors import BackupCorrupt, BackupError
from watchtower.backup.sealed_file import SealedReader, SealedWriter
from watchtower.host.durable import sync_path
from watchtower.keystore import FileKeystore
from watchtower.keystore.files import give_name
from watchtower.store.snapshot import SnapshotFacts, check_snapshot, copy_segments, take_snapshot

Kind = Literal["tower", "party"]
KEYSTORE_NAME = "keystore"
LOG_NAMES: dict[Kind, str] = {"tower": "events.db", "party": "party.db"}
TOWER_EXTRAS = ("tower.key", "api.token", "access.json", "config.toml")
PARTY_EXTRAS = ("party.toml", "peers")
PIECE = 1 << 20
STAGING = ".backup-"
YOUNG_SECONDS = 60.0
"""A directory younger than this may not be locked yet by the process that made it."""

_NAMES = frozenset({KEYSTORE_NAME, *LOG_NAMES.values(), *TOWER_EXTRAS, *PARTY_EXTRAS})
_SEGMENT_NAME = re.compile(r"(events|party)\.db\.segments/[0-9]{6}(\.db|(/[a-z]+)?/[A-Za-z0-9]+(\.[a-z]+)?)")
"""Files of closed segments: databases, and what is in an archive."""


TakeLog = Callable[[Path], SnapshotFacts]
"""Puts a copy of a log into a file that does not exist."""

Seal = Callable[[SnapshotFacts], bytes]
"""The tower's signature of a log's head."""

Compare = Callable[[Path], None]
"""Compares the copy of the log, once it is back from the backup, with what is served; raises if it differs."""


class Sources(msgspec.Struct, frozen=True):
    """What to copy. `log` None leaves the log out: keys only. `extras` are small private files that exist.

    `take_log` makes the copy of a log that is not in a file, `seal` signs its head, `compare` looks at the copy.
    """

    kind: Kind
    keystore: Path
    log: Path | None
    extras: tuple[Path, ...] = ()
    take_log: TakeLog | None = None
    seal: Seal | None = None
    compare: Compare | None = None

    def copy_log(self, target: Path) -> LogFacts | None:
        """Put the log into a file; None if there is none to copy."""
        if self.take_log is None and self.log is None:
            return None
        if self.take_log is not None:
            facts = self.take_log(target)
        else:
            facts = take_snapshot(_some(self.log), target)
            copy_segments(_some(self.log), target)
        return LogFacts.of(facts, b"" if self.seal is None else self.seal(facts))


class StoredFile(msgspec.Struct, frozen=True):
    """One file of a backup; `sha256` in hexadecimal."""

    name: str
    size: int
    sha256: str


class LogFacts(msgspec.Struct, frozen=True):
    """The log in a backup: which one, how far, and its last head (hexadecimal).

    `seal` is the tower's signature of it (`domain.log_chain.sealed_head_hash`), in hexadecimal, empty without one.
    """

    log_id: str
    origin: str
    last_id: int
    head: str
    seal: str = ""

    @classmethod
    def of(cls, facts: SnapshotFacts, seal: bytes = b"") -> LogFacts:
        """The form for the manifest."""
        return cls(facts.log_id.hex(), facts.origin, facts.last_id, facts.head.hex(), seal.hex())

    def says(self, facts: SnapshotFacts) -> bool:
        """Whether this is about that log."""
        return msgspec.structs.replace(self, seal="") == LogFacts.of(facts)


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """First line inside the backup. `made_at` in Unix microseconds."""

    kind: Kind
    made_at: int
    secrets: int
    files: tuple[StoredFile, ...]
    log: LogFacts | None = None


def tower_sources(data_dir: Path, log: Path | None) -> Sources:
    """The files of a tower."""
    extras = tuple(data_dir / name for name in TOWER_EXTRAS if (data_dir / name).is_file())
    return Sources("tower", data_dir / KEYSTORE_NAME, log, extras)


def party_sources(directory: Path, *, with_log: bool = True) -> Sources:
    """The files of a party's home."""
    extras = tuple(directory / name for name in PARTY_EXTRAS if (directory / name).is_file())
    return Sources("party", directory / KEYSTORE_NAME, directory / LOG_NAMES["party"] if with_log else None, extras)


def backup(sources: Sources, path: Path, passphrase: bytes, made_at: int) -> Manifest:
    """Write a backup, read it back and only then give it its name; also while the service runs.

    Raises `BackupError` if `path` exists, `KeystoreError` or `StoreError` if a source cannot be read.
    """
    home = sources.keystore.parent
    with _staging(home) as staged, _reserved(path) as unfinished:
        log = sources.copy_log(staged / LOG_NAMES[sources.kind])
        keystore = FileKeystore.open_copy(sources.keystore, passphrase)
        _write_private(staged / KEYSTORE_NAME, iter((keystore.content(),)))
        for extra in sources.extras:
            _write_private(staged / extra.name, iter((extra.read_bytes(),)))
        files = tuple(_described(file, staged) for file in sorted(staged.rglob("*")) if file.is_file())
        manifest = Manifest(sources.kind, made_at, len(keystore.names()), files, log)
        _seal(unfinished, manifest, staged, passphrase, keystore.cost)
        shutil.rmtree(staged)  # the disk need not hold the log three times
        verify(unfinished, passphrase, home, sources.compare)
    return manifest


@contextmanager
def _reserved(path: Path) -> Iterator[Path]:
    """A file beside `path` that gets its name if the body ends well; whatever ends it, there is nothing or a whole one.

    The lock on it tells a backup that is being written from what a crash left.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    if path.exists():
        raise BackupError(f"{path} exists already; a backup is never overwritten, choose another name")
    try:
        descriptor = os.open(unfinished, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise BackupError(f"{path} could not be made ({error.strerror}); choose another place") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BackupError(f"{path} is being written by another process; choose another name") from None
    try:
        yield unfinished
        give_name(unfinished, path)
    except FileExistsError:
        unfinished.unlink(missing_ok=True)
        raise BackupError(f"{path} exists already; a backup is never overwritten, choose another name") from None
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise BackupError(
            f"{path} could not be written ({error.strerror}); make room or choose another place"
        ) from None
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _some(log: Path | None) -> Path:
    assert log is not None
    return log


def verify(path: Path, passphrase: bytes, scratch: Path | None = None, compare: Compare | None = None) -> Manifest:
    """Read a whole backup back into a private directory below `scratch`, check it and remove it again."""
    with _staging(scratch) as staged:
        manifest = _unpack(path, staged, passphrase)
        _check(manifest, staged, passphrase)
        if compare is not None and manifest.log is not None:
            compare(staged / LOG_NAMES[manifest.kind])
        return manifest


def restore(
    path: Path,
    directory: Path,
    passphrase: bytes,
    prepare: Callable[[Path, Manifest], None] = lambda _path, _manifest: None,
) -> Manifest:
    """Unpack a backup to a directory that does not exist or is empty; all of it appears at once, or nothing.

    `prepare` works on the unpacked files before they get their name. Raises `BackupError`, `BackupCorrupt` or
    `WrongPassphrase`.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BackupError(f"{directory} is not empty; restore to a new directory, a restore never overwrites")
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _staging(directory.parent) as staged:
        manifest = _unpack(path, staged, passphrase)
        _check(manifest, staged, passphrase)
        prepare(staged, manifest)
        try:
            staged.replace(directory)
            sync_path(directory.parent)
        except OSError as error:
            raise BackupError(f"{directory} could not be made ({error.strerror}); restore to another place") from None
    return manifest


@contextmanager
def _staging(parent: Path | None) -> Iterator[Path]:
    """A directory of mode 0700 that is removed at the end, unless it was renamed.

    Its lock ends with the process: what a crash left is removed by the next one.
    """
    if parent is not None:
        _sweep(parent)
    try:
        staged = Path(tempfile.mkdtemp(prefix=STAGING, dir=parent))
        descriptor = os.open(staged, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BackupError(f"there is no room for work in {parent} ({error.strerror})") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield staged
    finally:
        os.close(descriptor)
        shutil.rmtree(staged, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove working directories of processes that were killed: they hold what a backup holds, unsealed."""
    for left in parent.glob(f"{STAGING}*"):
        try:
            descriptor = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # not ours to open, or gone meanwhile
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_young = time.time() - left.stat().st_mtime < YOUNG_SECONDS
            if not is_young:
                shutil.rmtree(left, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)


def _described(file: Path, staged: Path) -> StoredFile:
    digest = sha256()
    for piece in _pieces(file):
        digest.update(piece)
    return StoredFile(file.relative_to(staged).as_posix(), file.stat().st_size, digest.hexdigest())


def _seal(path: Path, manifest: Manifest, staged: Path, passphrase: bytes, cost: int) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        writer = SealedWriter(file, passphrase, cost)
        writer.write(msgspec.json.encode(manifest) + b"\n")
        for stored in manifest.files:
            for piece in _pieces(staged / stored.name):
                writer.write(piece)
        writer.finish()
        file.flush()
        os.fsync(file.fileno())


def _unpack(path: Path, staged: Path, passphrase: bytes) -> Manifest:
    try:
        with path.open("rb") as file:
            reader = SealedReader.open(file, passphrase)
            manifest = _read_manifest(reader.line())
            for stored in manifest.files:
                (staged / stored.name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _write_private(staged / stored.name, reader.pieces(stored.size))
                if _described(staged / stored.name, staged) != stored:
                    raise BackupCorrupt(f"{stored.name} in the backup is not what was saved; use another copy")
            reader.require_end()
    except OSError as error:
        raise BackupError(f"{path} could not be unpacked ({error.strerror})") from None
    return manifest


def _read_manifest(line: bytes) -> Manifest:
    try:
        manifest = msgspec.json.decode(line, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BackupCorrupt("the list of files in the backup cannot be read; was it made by a newer version?") from None
    names = [stored.name for stored in manifest.files]
    known = all(name in _NAMES or _SEGMENT_NAME.fullmatch(name) for name in names)
    if not known or len(set(names)) != len(names) or any(stored.size < 0 for stored in manifest.files):
        raise BackupCorrupt("the backup holds files that no tower or party has")
    return manifest


def _check(manifest: Manifest, staged: Path, passphrase: bytes) -> None:
    """Open what was unpacked: each secret, each event."""
    found = len(FileKeystore.open_copy(staged / KEYSTORE_NAME, passphrase).names())
    if found != manifest.secrets:
        raise BackupCorrupt(f"the backup holds {found} secrets, it says {manifest.secrets}")
    log = staged / LOG_NAMES[manifest.kind]
    if manifest.log is not None and not manifest.log.says(check_snapshot(log)):
        raise BackupCorrupt("the log in the backup is not the one that it says; use another copy")


def _write_private(path: Path, pieces: Iterator[bytes]) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece
