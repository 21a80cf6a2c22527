"""A tower's own copy of a log on a server, when a replica that lacked commits has taken over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from projections.catalog import PROJECTIONS
from projections.channel_info import TABLE
from projections.projector import Projector
from tests.support.histories import OTHER_STREAM, STREAM, History
from tests.support.stores import new_log, note
from watchtower.ports import StoreBroken
from watchtower.store.checks import read_meta
from watchtower.store.create import open_store
from watchtower.store.datastore import connect
from watchtower.store.local_copy import LocalCopy
from watchtower.store.postgres.standby import CopyReader
from watchtower.store.rebuild import open_views
from watchtower.store.recorders import LogMeta
from watchtower.store.sqlite_source import SqliteSource


def log_of(directory: Path, name: str, streams: Sequence[str]) -> Path:
    """A log with one commit for each stream; in place of a server."""
    path = new_log(directory, name)
    with open_store(path) as store:
        for stream in streams:
            store.append([note(stream, 1)])
    return path


def meta_of(path: Path) -> LogMeta:
    """Which log a file is."""
    connection = connect(path, read_only=True)
    try:
        return read_meta(connection)
    finally:
        connection.close()


@pytest.mark.parametrize("later", [(), ("c13",), ("c13", "c14", "c15")])
def test_fault_nothing_of_another_history_gets_behind_the_copy(tmp_path: Path, later: Sequence[str]) -> None:
    """The new primary lacks two commits, however far it has gone on since: following ends, and a new copy is whole."""
    before = log_of(tmp_path, "before.db", ["c1", "c2", "c3", "c4"])
    after = log_of(tmp_path, "after.db", ["c1", "c2", *later])
    with SqliteSource(before) as source:
        copy = LocalCopy(tmp_path / "copy.db", meta_of(before), source)
        copy.follow(source)

    with SqliteSource(after) as source:
        with pytest.raises(StoreBroken, match="another history"):
            copy.follow(source)
        copy.close()
        again = LocalCopy(tmp_path / "copy.db", meta_of(before), source)
        again.follow(source)
        again.close()
        assert (0, source.last_commit()) == (again.known_until, again.last)


def test_fault_no_views_of_another_history_are_gone_on_from(tmp_path: Path) -> None:
    """They stand at an id that the log has, too; the channel that the log holds is watched all the same."""
    logs = {}
    for name, stream in (("before.db", STREAM), ("after.db", OTHER_STREAM)):
        logs[name] = new_log(tmp_path, name)
        with open_store(logs[name]) as store:
            for event in History(stream).play([1, 2, 5]).events:
                store.append([event], chain=True)
            store.append([note("c" + "z" * 22, 1)])
    meta, shown = meta_of(logs["before.db"]), []

    for path in logs.values():
        with SqliteSource(path) as source:
            copy = LocalCopy(tmp_path / "copy.db", meta, source)
            copy.follow(source)
        log = CopyReader(copy, meta)
        rows = open_views(tmp_path / "views.db", log)
        for _ in Projector(log, rows, PROJECTIONS).catch_up():
            pass
        shown.append([TABLE.read(row).stream for row in rows.page(TABLE, None, 9)])
        rows.close()
        log.close()

    assert [[STREAM], [OTHER_STREAM]] == shown


def test_views_of_the_same_history_are_kept(tmp_path: Path) -> None:
    """A log that only grew meanwhile: nothing is folded again."""
    path = log_of(tmp_path, "log.db", ["c1"])
    with SqliteSource(path) as source:
        copy = LocalCopy(tmp_path / "copy.db", meta_of(path), source)
        copy.follow(source)
    log = CopyReader(copy, meta_of(path))
    open_views(tmp_path / "views.db", log).close()
    log.close()
    made = (tmp_path / "views.db").stat().st_ino
    with open_store(path) as store:
        store.append([note("c2", 1)])

    with SqliteSource(path) as source:
        copy = LocalCopy(tmp_path / "copy.db", meta_of(path), source)
        copy.follow(source)
    log = CopyReader(copy, meta_of(path))
    open_views(tmp_path / "views.db", log).close()
    log.close()

    assert made == (tmp_path / "views.db").stat().st_ino
