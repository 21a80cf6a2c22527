"""A tower's files for backups, and their settings."""

from __future__ import annotations

from pathlib import Path

from domain.chain import chain_hash
from domain.contract import keys
from tests.support.stores import note
from watchtower.backup.job import Work
from watchtower.keystore import FileKeystore
from watchtower.store.create import create_store, open_store
from watchtower.store.rebuild import open_views

PASSPHRASE = b"for tests"


LOG_ID = bytes(range(16))


KEY = b"\x07" * 32


def make_tower(directory: Path, log_id: bytes = LOG_ID) -> Path:
    """A tower's directory with an empty keystore and a log with two events; its views are there."""
    directory.mkdir(mode=0o700)
    log = directory / "events.db"
    create_store(
        log, origin="t", chain_hash=chain_hash("regtest"), log_id=log_id, stream_key=b"\x05" * 32, recorded_at=1
    )
    FileKeystore.create(directory / "keystore", PASSPHRASE, cost=2**4).close()
    (directory / "keystore.passphrase").write_bytes(PASSPHRASE)
    (directory / "tower.key").write_text(KEY.hex())
    with open_store(log) as store:
        store.append([note("log", 2)])
        open_views(directory / "views.db", store).close()
    return directory


def work(tower: Path, out: Path | None = None) -> Work:
    """What the service would ask for."""
    return Work(
        data_dir=str(tower),
        log=str(tower / "events.db"),
        server="",
        views=str(tower / "views.db"),
        out=str(out or tower.parent / "saved"),
        made_at=7,
        passphrase=PASSPHRASE,
    )


def sign(message: bytes) -> bytes:
    """With the tower key."""
    return keys.sign_schnorr(KEY, message, KEY)
