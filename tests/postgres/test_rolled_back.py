"""Backups of a log on a server, and what its tower makes of an older state of it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from domain.events import CoveredBy, ReceiptsCovered, StoreRestored
from tests.fakes.store import STREAM_KEY
from tests.support.postgres import PostgresServer
from tests.support.postgres_logs import migrated
from watchtower.backup import verify
from watchtower.backup.job import Work, make_backup
from watchtower.config.sections import StoreSettings
from watchtower.config.settings import Settings
from watchtower.continuity import rollback
from watchtower.keystore import FileKeystore
from watchtower.store.high_water import Comparison, HighWater, compare, read_high_water, write_high_water
from watchtower.store.log_stream import append_to_log_stream
from watchtower.store.places import create_log, open_log, open_source

PASSPHRASE = b"for tests"


@pytest.fixture
def tower(postgres: PostgresServer, database: str, tmp_path: Path) -> Settings:
    """A tower whose log, on the server, has four events."""
    settings = Settings(
        network="regtest", data_dir=str(tmp_path), store=StoreSettings(url=migrated(postgres, database))
    )
    create_log(settings, origin="t", log_id=bytes(16), stream_key=STREAM_KEY, recorded_at=0)
    FileKeystore.create(tmp_path / "keystore", PASSPHRASE, cost=2**4).close()
    with open_log(settings) as store:
        for number in range(3):
            append_to_log_stream(store, ReceiptsCovered(recorded_at=number, epoch=0, by=CoveredBy.CLIENTS, missing=0))
    return settings


def test_fault_P8_a_server_that_lost_commits_is_accepted(tower: Settings) -> None:
    """The mark is ahead, as after the promotion of a replica: the next epoch begins on the server."""
    path = Path(tower.high_water_path)
    write_high_water(path, HighWater("t", bytes(16), 3, 9, bytes(32)))
    with closing(open_source(tower)) as source:
        mark = read_high_water(path)
        assert mark is not None
        found = compare(mark, source)

    done = rollback.accept_rollback(tower, "replica")

    with closing(open_source(tower)) as source:
        renewed = read_high_water(path)
        assert renewed is not None
        fits, topic = compare(renewed, source), source.rows(5, 5)[0][3]
    assert (Comparison.SHORTER, Comparison.FITS) == (found, fits)
    assert (4, 4, 9, StoreRestored.TOPIC) == (done.epoch, done.position, done.high_water, topic)


def test_a_log_on_a_server_is_backed_up_with_equal_heads(tower: Settings, tmp_path: Path) -> None:
    """The copy in the backup is a file; ids, commits and heads are those of the server."""
    work = Work(
        data_dir=str(tmp_path),
        log=tower.event_log_path,
        server=tower.store.url,
        views=tower.views_path,
        out=str(tmp_path.parent / f"{tmp_path.name}-saved"),
        made_at=7,
        passphrase=PASSPHRASE,
    )

    log = make_backup(work, None).log

    with closing(open_source(tower)) as source:
        head = source.last_commit().head
    assert log is not None
    assert (4, head.hex()) == (log.last_id, log.head)
    assert log == verify(Path(work.out), PASSPHRASE).log
