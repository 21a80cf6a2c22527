"""A backup of a tower as one piece of work, in this process or in one of its own.

In a process of its own it takes no time from the threads that watch: proving a large log needs minutes of a processor.
The work and the passphrase come by a pipe; the tower key stays where it is: the head is handed out to be signed.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event

import msgspec

from domain.errors import DomainError
from domain.log_chain import sealed_head_hash
from projections.catalog import PROJECTIONS
from projections.channels import ChannelViews
from watchtower.backup.archive import Compare, Manifest, Seal, TakeLog, backup, tower_sources
from watchtower.backup.errors import BackupCorrupt, BackupError
from watchtower.host.hygiene import forbid_core_dumps
from watchtower.ports import WatchtowerError
from watchtower.store.copying import FileEnd, copy_log
from watchtower.store.create import open_reader
from watchtower.store.ends import end_of
from watchtower.store.rebuild import Digests, digests, open_views_reader, rebuild
from watchtower.store.segments.names import segments_directory
from watchtower.store.snapshot import SnapshotFacts, facts_of
from watchtower.store.sqlite_source import SqliteSource

NICENESS = 10
POLL_SECONDS = 0.5
SIGN, DONE, FAILED = "sign", "done", "failed"
PROJECTION = (ChannelViews(),)

Sign = Callable[[bytes], bytes]
"""The tower's signature (64 bytes) of a hash (32)."""


class Work(msgspec.Struct, frozen=True):
    """What to back up and where to.

    `log` is the log's file on this machine, or its copy there; `server` the address of a log on a server, or "".
    `spare` bytes of the disk of `data_dir` are for the tower: a backup that would take them is not begun.
    """

    data_dir: str
    log: str
    server: str
    views: str
    out: str
    made_at: int
    passphrase: bytes
    spare: int = 0

    def __repr__(self) -> str:
        return f"Work(data_dir={self.data_dir!r}, out={self.out!r})"


def make_backup(work: Work, sign: Sign | None) -> Manifest:
    """Write and prove the backup: read back, every event and secret checked, the views that follow from it compared.

    Raises `BackupError`, `KeystoreError` or `StoreError`; nothing is left then.
    """
    _require_room(work)
    sources = tower_sources(Path(work.data_dir), Path(work.log))
    sources = msgspec.structs.replace(
        sources,
        take_log=_from_server(work.server) if work.server else None,
        seal=None if sign is None else _seal(sign),
        compare=_compare(Path(work.views), Path(work.log)),
    )
    out = Path(work.out)
    return backup(sources, out, work.passphrase, work.made_at)


def _require_room(work: Work) -> None:
    """A backup must not take the space from the log that it copies: a full disk refuses all clients."""
    log, out = Path(work.log), Path(work.out)
    parts = (log, log.with_name(f"{log.name}-wal"), *segments_directory(log).rglob("*"))
    size = sum(path.stat().st_size for path in parts if path.is_file())
    views = Path(work.views)
    needed = size + (views.stat().st_size if views.is_file() else 0)  # of a copy, and of the views that follow from it
    if out.parent.is_dir() and out.parent.stat().st_dev == Path(work.data_dir).stat().st_dev:
        needed += size
    free = shutil.disk_usage(work.data_dir).free
    if free - needed < work.spare:
        raise BackupError(
            f"a backup needs {needed >> 20} MB of work in {work.data_dir}, where {free >> 20} MB are free and "
            f"{work.spare >> 20} MB are kept for the tower; make room"
        )


def make_beside(
    work: Work, sign: Sign | None, stopping: Event, got_on: Callable[[], object] = lambda: None
) -> Manifest:
    """`make_backup` in a process with a low priority; it is ended, and leaves nothing, once `stopping` is set.

    `got_on` is called again and again while that process runs.

    Raises `BackupError`, whatever went wrong there.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
    ours, theirs = context.Pipe()
    process = context.Process(target=_inside, args=(theirs,), name="backup")
    process.start()
    theirs.close()
    try:
        ours.send((work, sign is not None))
        return _converse(ours, sign, stopping, got_on)
    except (OSError, EOFError):
        raise BackupError("the process that makes the backup ended without a result") from None
    finally:
        ours.close()
        process.terminate()
        process.join()


def _converse(ours: Connection, sign: Sign | None, stopping: Event, got_on: Callable[[], object]) -> Manifest:
    while not stopping.is_set():
        got_on()
        if not ours.poll(POLL_SECONDS):
            continue
        kind, content = ours.recv()
        if kind == DONE:
            return msgspec.json.decode(content, type=Manifest)
        if kind == FAILED:
            raise BackupError(content)
        assert sign is not None
        ours.send(sign(content))
    raise BackupError("the service ends; the backup was not finished")


def _inside(theirs: Connection) -> None:
    """The process: one piece of work, then the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt at the terminal is for the parent, which then ends us
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    os.nice(NICENESS)
    forbid_core_dumps()  # it reads the passphrase; a new program does not inherit all of the service's protection
    work, is_sealed = theirs.recv()

    def sign(message: bytes) -> bytes:
        theirs.send((SIGN, message))
        answer: bytes = theirs.recv()
        return answer

    try:
        manifest = make_backup(work, sign if is_sealed else None)
    except (WatchtowerError, DomainError) as error:
        theirs.send((FAILED, str(error)))
    except Exception as error:  # noqa: BLE001 - the border of the process: the parent tells of it
        theirs.send((FAILED, f"{type(error).__name__}: {error}"))
    else:
        theirs.send((DONE, msgspec.json.encode(manifest)))


def _seal(sign: Sign) -> Seal:
    def seal(facts: SnapshotFacts) -> bytes:
        return sign(sealed_head_hash(facts.log_id, facts.last_id, facts.head))

    return seal


def _from_server(url: str) -> TakeLog:
    def take(target: Path) -> SnapshotFacts:
        copy_log(end_of(url), FileEnd(target), lambda _stage, _of, _done: None, lambda _position: None)
        for left in (f"{target.name}.lock", f"{target.name}-wal", f"{target.name}-shm"):
            target.with_name(left).unlink(missing_ok=True)
        with SqliteSource(target, immutable=True) as copy:
            return facts_of(copy)

    return take


def _compare(views: Path, log: Path) -> Compare | None:
    """The channels that follow from the copy are those that are served; their digest is taken before the copy is.

    Nothing is compared with views that are missing, or of another version of the program.
    """
    live = _live_digests(views, log) if views.exists() and log.exists() else None
    if live is None:
        return None

    def compare(copy: Path) -> None:
        replayed = copy.with_name("replayed.db")
        with open_reader(copy, immutable=True) as copied:
            if copied.last_id() < live.position:
                raise BackupCorrupt(f"the copy ends at event {copied.last_id()}, the tower serves {live.position}")
            rebuild(replayed, copied, PROJECTION, until=live.position)
        if _digests(replayed) != live:
            raise BackupCorrupt(
                f"the channels that follow from the copy at event {live.position} are not those that are served; "
                "see `watchtower audit replay --check`"
            )

    return compare


def _live_digests(views: Path, log: Path) -> Digests | None:
    with SqliteSource(log) as source:
        log_id, last_id = source.meta.log_id, source.last_id()
    rows = open_views_reader(views)
    try:
        return digests(rows, PROJECTION) if rows.fits(log_id, PROJECTIONS, last_id) else None
    finally:
        rows.close()


def _digests(views: Path) -> Digests:
    rows = open_views_reader(views)
    try:
        return digests(rows, PROJECTION)
    finally:
        rows.close()
