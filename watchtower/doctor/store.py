"""The log's file: is it there, is it ours, of this network, guarded, and synced with every commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from domain.chain import chain_hash
from watchtower.doctor.case import Case
from watchtower.doctor.finding import Finding, fail, ok, warn
from watchtower.ports import StoreError
from watchtower.store.datastore import FULL, library_doubt
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.examine import LogLook, examine_log
from watchtower.store.high_water import Comparison, compare, read_high_water
from watchtower.store.places import open_source

RESTORE = "restore a backup (docs/backup.md); `watchtower store verify` tells more"


def look(case: Case) -> Iterator[Finding]:
    """Findings about the file; with a log on a server it is the copy that answers while the server is away."""
    if case.settings.store_on_server and not case.log_path.exists():
        yield ok("store.log", "the log is on a server; the first start makes a copy of it here")
        return
    try:
        found = examine_log(case.log_path)
    except StoreCheckFailed as error:
        mend = "run `watchtower init`, or set data_dir to that of the tower" if error.check == "exists" else RESTORE
        yield fail("store.log", str(error), mend)
        return
    yield ok("store.log", f"{found.last_id} events in {case.log_path}")
    yield _network(case, found)
    yield _durability(found)
    if found.differing:
        what = f"tables or triggers are not the shipped ones: {', '.join(found.differing)}"
        yield fail("store.triggers", what, RESTORE)
    else:
        yield ok("store.triggers", f"{found.triggers} triggers forbid every change of an event")
    if doubt := library_doubt():
        yield warn("store.library", doubt, "use a Python with SQLite 3.51.3 or later")
    yield from _high_water(case)


def _network(case: Case, found: LogLook) -> Finding:
    if found.chain_hash is None:
        return fail("store.network", "the log does not say which chain it follows", RESTORE)
    if found.chain_hash != chain_hash(case.settings.network):
        what = f"the log follows another chain than {case.settings.network}"
        return fail("store.network", what, "set network to that of the log, or data_dir to another tower's")
    return ok("store.network", f"the log is one of {case.settings.network}")


def _durability(found: LogLook) -> Finding:
    """What a connection of ours gets here is what the service gets: it sets the same and reads it back."""
    if found.journal_mode != "wal" or found.synchronous != FULL:
        what = f"journal mode {found.journal_mode}, synchronous {found.synchronous}: a commit may be lost"
        return fail("store.durability", what, "let no other program open the log; then start the tower once")
    return ok("store.durability", "every commit is written to the disk before it counts (WAL, synchronous FULL)")


def _high_water(case: Case) -> Iterator[Finding]:
    """A log that does not reach its mark is an older copy: nothing is signed about it."""
    mend = "run `watchtower store accept-rollback` with the tower stopped (docs/backup.md)"
    path = Path(case.settings.high_water_path)
    try:
        mark = read_high_water(path)
        if mark is None:
            yield ok("store.high_water", "no mark yet; the first start writes it")
            return
        with closing(open_source(case.settings)) as source:
            verdict = compare(mark, source)
    except StoreError as error:
        yield warn("store.high_water", str(error), mend)
        return
    if verdict is Comparison.FITS:
        yield ok("store.high_water", "the log has come as far as its high-water mark says")
    else:
        what = f"the log is {verdict.name.lower()} than its high-water mark, {path}, says: an older copy of itself"
        yield fail("store.high_water", what, mend)
