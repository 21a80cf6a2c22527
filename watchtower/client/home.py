"""A party's directory: its event log and its encrypted keystore, made once and opened again.

create_home(path, "regtest", passphrase)
with open_home(path, passphrase, PartySettings(network="regtest")) as home:
home.party.open(Terms(balances=(500_000, 500_000)))
"""

from __future__ import annotations

import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from domain.chain import chain_hash
from watchtower.client.party import ChannelParty, PartySettings
from watchtower.keystore import SCRYPT_COST, FileKeystore
from watchtower.store.create import create_store, open_store
from watchtower.store.event_store import SqliteEventStore
from watchtower.system import SystemClock

LOG_NAME, KEYSTORE_NAME = "party.db", "keystore"


class PartyHome:
    """An open directory; `party` may be used until `close`."""

    def __init__(self, party: ChannelParty, store: SqliteEventStore, keystore: FileKeystore) -> None:
        self.party = party
        self._store = store
        self._keystore = keystore

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release log and keystore."""
        try:
            self._store.close()
        finally:
            self._keystore.close()


def create_home(
    directory: Path, network: str, passphrase: bytes, *, seed: bytes | None = None, cost: int = SCRYPT_COST
) -> None:
    """Make log and keystore with a fresh seed (or the given one); nothing that exists is overwritten.

    Raises `KeystoreError` or `StoreError`. The keystore is made last: a directory without one is not in use.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    create_store(
        directory / LOG_NAME,
        origin=f"party/{network}",
        chain_hash=chain_hash(network),
        log_id=secrets.token_bytes(16),
        stream_key=secrets.token_bytes(32),
        recorded_at=SystemClock().wall_microseconds(),
    )
    keystore = FileKeystore.create(directory / KEYSTORE_NAME, passphrase, cost=cost)
    try:
        ChannelParty.create_seed(keystore, seed)
    finally:
        keystore.close()


def open_home(directory: Path, passphrase: bytes, settings: PartySettings) -> PartyHome:
    """Open both; raises `WrongPassphrase`, `KeystoreError` or `StoreError` for another network or a damaged file."""
    keystore = FileKeystore.open(directory / KEYSTORE_NAME, passphrase)
    try:
        store = open_store(directory / LOG_NAME, chain_hash=chain_hash(settings.network))
        try:
            party = ChannelParty(store, keystore, SystemClock(), settings)
        except BaseException:
            store.close()
            raise
    except BaseException:
        keystore.close()
        raise
    return PartyHome(party, store, keystore)
