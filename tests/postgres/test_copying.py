"""`store copy`: both directions keep every byte, an interrupted copy goes on, and half a copy is no log."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.commands import shell
from tests.support.postgres import PostgresServer
from tests.support.postgres_logs import migrated, new_postgres_log
from tests.support.stores import new_log, note
from watchtower.ports import StoreLocked
from watchtower.store.copying import CopyDiffers, FileEnd, SourceDamaged, copy_log, prove_equal
from watchtower.store.create import open_store
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.postgres.target import ServerEnd
from watchtower.store.verify import verify_source


def ignore(*_: object) -> None:
    """Nobody looks at the progress."""


def filled_log(directory: Path, commits: int = 12) -> Path:
    """A log of small and large commits, with 1 to 40 events each."""
    path = new_log(directory)
    with open_store(path) as store:
        for number in range(commits):
            store.append([note(f"c{number:022d}", version) for version in range(1, 2 + number * 3)])
    return path


def test_file_to_server_and_back_is_equal(postgres: PostgresServer, database: str, tmp_path: Path) -> None:
    """A log that went to the server and back is the same log, with its stream key; every check passes on both."""
    path = filled_log(tmp_path)
    server, back = ServerEnd(migrated(postgres, database)), FileEnd(tmp_path / "back.db")

    there = copy_log(FileEnd(path), server, ignore, ignore)
    again = copy_log(server, back, ignore, ignore)

    assert there == again
    assert FileEnd(path).meta() == server.meta() == back.meta()
    with (
        closing(FileEnd(path).source()) as original,
        closing(back.source()) as copy,
        closing(server.source()) as middle,
    ):
        assert original.rows(1, 10_000) == copy.rows(1, 10_000) == middle.rows(1, 10_000)
        assert original.commits(1, 100) == copy.commits(1, 100) == middle.commits(1, 100)
        assert () == verify_source(middle).findings == verify_source(copy).findings
    assert not list(tmp_path.glob("*.copying*"))


@pytest.mark.parametrize("direction", ["to_server", "to_file"])
def test_interrupted_copy_goes_on(postgres: PostgresServer, database: str, tmp_path: Path, direction: str) -> None:
    """What was copied before an interruption is not copied again, and until the end there is no log."""
    path = filled_log(tmp_path, commits=30)
    file, server = FileEnd(path), ServerEnd(migrated(postgres, database))
    if direction == "to_file":
        copy_log(file, server, ignore, ignore)
    origin, destination = (file, server) if direction == "to_server" else (server, FileEnd(tmp_path / "new.db"))
    begun: list[tuple[str, int, int]] = []

    with closing(origin.source()) as source, closing(destination.target(origin.meta(), source)) as half:
        page = source.commits(1, 9)
        half.add(page, source.rows(1, page[-1].last_id))
    with pytest.raises(StoreCheckFailed, match=r"no log yet|does not exist"):
        destination.meta()
    copied = copy_log(origin, destination, lambda *stage: begun.append(stage), ignore)

    assert [("copy", copied.events, page[-1].last_id), ("compare", copied.events, 0)] == begun
    assert origin.meta() == destination.meta()


def test_full_target_is_refused(postgres: PostgresServer, database: str, tmp_path: Path) -> None:
    """A database with a log, and a file that exists, are left alone."""
    url, path = new_postgres_log(postgres, database), filled_log(tmp_path, commits=2)

    with pytest.raises(StoreCheckFailed, match="holds a log already"):
        copy_log(FileEnd(path), ServerEnd(url), ignore, ignore)
    with pytest.raises(StoreCheckFailed, match="exists already"):
        copy_log(ServerEnd(url), FileEnd(path), ignore, ignore)


def test_unfinished_copy_of_another_log_is_refused(postgres: PostgresServer, database: str, tmp_path: Path) -> None:
    """Half a copy is continued by its own source only."""
    (tmp_path / "other").mkdir()
    first, other = FileEnd(filled_log(tmp_path)), FileEnd(filled_log(tmp_path / "other", commits=3))
    server = ServerEnd(migrated(postgres, database))
    with closing(first.source()) as source, closing(server.target(first.meta(), source)) as half:
        half.add(source.commits(1, 5), source.rows(1, source.commits(5, 1)[0].last_id))

    with pytest.raises(StoreCheckFailed, match="another log"):
        copy_log(other, server, ignore, ignore)


def test_source_of_a_running_tower_is_refused(postgres: PostgresServer, database: str, tmp_path: Path) -> None:
    """Without `--online` a copy needs the lock that a tower holds, on both engines."""
    path = filled_log(tmp_path, commits=1)
    url = new_postgres_log(postgres, database)

    with open_store(path), pytest.raises(StoreLocked), FileEnd(path).held():
        pass
    with ServerEnd(url).held(), pytest.raises(StoreLocked, match="a tower or another copy"), ServerEnd(url).held():
        pass


def test_online_copy_ends_where_the_log_was_at_the_start(
    postgres: PostgresServer, database: str, tmp_path: Path
) -> None:
    """Events that arrive while a log is copied are not in the copy."""
    path, server = filled_log(tmp_path, commits=2), ServerEnd(migrated(postgres, database))
    with open_store(path) as store:
        copied = copy_log(FileEnd(path), server, lambda *_: store.append([note(f"d{store.last_id():022d}", 1)]), ignore)
        last = store.last_id()

    assert copied.events + 2 == last
    with closing(server.source()) as copy:
        assert copied.events == copy.last_id()


def test_fault_P7_changed_event_is_named_and_not_copied(
    postgres: PostgresServer, database: str, tmp_path: Path
) -> None:
    """A source that is not what was committed does not become a log elsewhere."""
    url = new_postgres_log(postgres, database)
    with postgres.connect(database) as owner:
        owner.execute("ALTER TABLE watchtower.wt_events DISABLE TRIGGER events_no_change")
        owner.execute("UPDATE watchtower.wt_events SET state = '\\x00' WHERE notification_id = 1")

    with pytest.raises(SourceDamaged, match="event 1 was changed"):
        copy_log(ServerEnd(url), FileEnd(tmp_path / "new.db"), ignore, ignore)

    assert not (tmp_path / "new.db").exists()


def test_copy_with_a_changed_event_is_not_equal(postgres: PostgresServer, database: str, tmp_path: Path) -> None:
    """The comparison finds a byte that was changed in the copy."""
    path, url = filled_log(tmp_path, commits=4), migrated(postgres, database)
    copy_log(FileEnd(path), ServerEnd(url), ignore, ignore)
    with postgres.connect(database) as owner:
        owner.execute("ALTER TABLE watchtower.wt_events DISABLE TRIGGER events_no_change")
        owner.execute("UPDATE watchtower.wt_events SET topic = 'pn01' WHERE notification_id = 7")

    with FileEnd(path).source() as source, ServerEnd(url).source() as copy, pytest.raises(CopyDiffers, match="differ"):
        prove_equal(source, copy, source.last_commit(), ignore)


def test_command_copies_and_tells(postgres: PostgresServer, database: str, tmp_path: Path) -> None:
    """`store migrate` and `store copy` on the command line, twice: the second copy is refused with exit code 3."""
    path, owner = filled_log(tmp_path, commits=3), postgres.url(database)
    migrated(postgres, database)

    nothing = shell("store", "migrate", "--url", owner, "--json")
    done = shell("store", "copy", "--from", f"sqlite:{path}", "--to", postgres.url(database, "tower"), "--json")
    refused = shell("store", "copy", "--from", str(path), "--to", postgres.url(database, "tower"))

    assert (0, []) == (nothing.returncode, json.loads(nothing.stdout)["applied"])
    assert (0, True, 13) == (done.returncode, json.loads(done.stdout)["equal"], json.loads(done.stdout)["events"])
    assert (3, True) == (refused.returncode, "holds a log already" in refused.stderr)


def test_migrating_a_file_only_looks(tmp_path: Path) -> None:
    """A log in a file has its schema from the beginning."""
    path = filled_log(tmp_path, commits=1)

    done = shell("store", "migrate", "--url", f"sqlite:{path}")

    assert (0, "nothing to do: the log has schema 1\n") == (done.returncode, done.stdout)


def test_copy_needs_a_migrated_database(postgres: PostgresServer, database: str, tmp_path: Path) -> None:
    """An empty database is answered with the command that is missing."""
    path = filled_log(tmp_path, commits=1)

    done = shell("store", "copy", "--from", str(path), "--to", postgres.url(database))

    assert 3 == done.returncode
    assert "watchtower store migrate" in done.stderr


def test_server_that_is_away_is_said_so(tmp_path: Path) -> None:
    """No server at the address: exit code 1 and a sentence, no traceback."""
    path = filled_log(tmp_path, commits=1)

    done = shell("store", "copy", "--from", str(path), "--to", "postgresql://tower:geheim@127.0.0.1:1/none")

    assert 1 == done.returncode
    assert done.stderr.startswith("store-away: the database server is not available")
    assert "geheim" not in done.stderr


def test_unreadable_address_shows_no_password(tmp_path: Path) -> None:
    """What libpq does not understand is not repeated."""
    done = shell("store", "migrate", "--url", "postgresql://tower:geheim@[host/x")

    assert 3 == done.returncode
    assert "geheim" not in done.stderr + done.stdout
