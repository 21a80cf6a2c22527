"""A party's directory: its event log and its encrypted keystore, made once and opened again.

    create_home(path, "regtest", passphrase)
    with open_home(path, passphrase, PartySettings(network="regtest")) as home:
        home.party.open(Terms(balances=(500_000, 500_000)))

Two ways back after a loss: `restore_backup` brings log and keystore of a backup, every channel frozen until the peer
or a tower reports the highest state; `restore_home` makes the keys again from the seed, with an empty log.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from domain.application import Application
from domain.chain import chain_hash
from domain.errors import UnknownChannel
from watchtower.backup import LOG_NAMES, Manifest, backup, party_sources, restore
from watchtower.backup.archive import KEYSTORE_NAME
from watchtower.backup.errors import BackupError
from watchtower.client.party.home_place import is_copy, write_place
from watchtower.client.party.key_ring import SEED_NAME, raise_floor, restored_floor
from watchtower.client.party.party import ChannelParty, PartySettings
from watchtower.client.party.peer_book import PeerBook
from watchtower.client.protocol.consent import Consent, never_lose
from watchtower.client.protocol.news import Listener, silence
from watchtower.client.protocol.rules import Resolve, no_descriptors
from watchtower.client.transport.curve_key import TransportKey
from watchtower.host.hygiene import require_private
from watchtower.host.system import SystemClock
from watchtower.keystore import SCRYPT_COST, FileKeystore
from watchtower.ports import StoreError
from watchtower.store.create import create_store, open_store
from watchtower.store.event_store import SqliteEventStore

LOG_NAME = LOG_NAMES["party"]


class PartyHome:
    """An open directory; `party` and `book` (which peer a channel belongs to) may be used until `close`."""

    def __init__(self, log: Path, party: ChannelParty, store: SqliteEventStore, keystore: FileKeystore) -> None:
        self.party = party
        self.book = PeerBook(keystore)
        self._log = log
        self._store = store
        self._keystore = keystore

    @property
    def transport_key(self) -> TransportKey:
        """The identity that peers know this party by; it follows from the seed."""
        seed = self._keystore.get(SEED_NAME)
        if seed is None:
            raise UnknownChannel("the keystore holds no seed; it is not that of a party")
        return TransportKey.from_seed(seed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release log and keystore; a second call does nothing more."""
        try:
            # On a full disk, or closed before: what was noted at the start is true as well, only less.
            with suppress(OSError, StoreError):
                write_place(self._log, self._store.last_id())
            self._store.close()
        finally:
            self._keystore.close()


def create_home(
    directory: Path, network: str, passphrase: bytes, *, seed: bytes | None = None, cost: int = SCRYPT_COST
) -> None:
    """Make log and keystore with a fresh seed (or the given one); nothing that exists is overwritten.

    Raises `KeystoreError` or `StoreError`. The seed is stored last: a directory without one is not in use. A seed that
    was in use before belongs into `restore_home`, for which channel indexes it used is not known here.
    """
    _create(directory, network, passphrase, seed, cost, lambda _keystore: None)


def _create(
    directory: Path,
    network: str,
    passphrase: bytes,
    seed: bytes | None,
    cost: int,
    prepare: Callable[[FileKeystore], object],
) -> None:
    """`prepare` stores what has to be known before the seed can be used."""
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
        prepare(keystore)
        write_place(directory / LOG_NAME, 0)
        ChannelParty.create_seed(keystore, seed)
    finally:
        keystore.close()


def open_home(
    directory: Path,
    passphrase: bytes,
    settings: PartySettings,
    *,
    consent: Consent = never_lose,
    applications: Sequence[Application] = (),
    resolve: Resolve = no_descriptors,
    listener: Listener = silence,
    restored: bool | None = None,
) -> PartyHome:
    """Open both; raises `WrongPassphrase`, `KeystoreError` or `StoreError` for another network or a damaged file.

    `Exposed` if the directory or a file in it can be opened by others. `consent`, `applications`, `resolve` and
    `listener` are those of `ChannelParty`. A directory that was copied, one whose log was longer before, or
    `restored=True`, has every channel frozen first, for its log may be an old one, and new channels get indexes that
    its keystore cannot have missed (`ClockBehind` if the clock is wrong); False says that this is the only and newest
    copy.
    """
    require_private(directory, (LOG_NAME,))
    keystore = FileKeystore.open(directory / KEYSTORE_NAME, passphrase)
    try:
        store = open_store(directory / LOG_NAME, chain_hash=chain_hash(settings.network))
        try:
            is_old = is_copy(directory / LOG_NAME, store.last_id()) if restored is None else restored
            if is_old:
                raise_floor(keystore, SystemClock().wall_microseconds())
            party = ChannelParty(
                store,
                keystore,
                SystemClock(),
                settings,
                consent=consent,
                applications=applications,
                resolve=resolve,
                listener=listener,
            )
            if is_old:
                party.note_restored()
            write_place(directory / LOG_NAME, store.last_id())
        except BaseException:
            store.close()
            raise
    except BaseException:
        keystore.close()
        raise
    return PartyHome(directory / LOG_NAME, party, store, keystore)


def export_seed(directory: Path, passphrase: bytes) -> bytes:
    """The seed that all keys of this party follow from (16 … 64 bytes). Write it down; never log it."""
    seed = FileKeystore.open_copy(directory / KEYSTORE_NAME, passphrase).get(SEED_NAME)
    if seed is None:
        raise UnknownChannel("the keystore holds no seed; it is not that of a party")
    return seed


def restore_home(directory: Path, network: str, passphrase: bytes, seed: bytes, *, cost: int = SCRYPT_COST) -> None:
    """Make a home from a seed alone: the same keys, no channels yet; new channels use indexes never used before.

    What the party signed and revoked is not known here: a channel that is brought back from a tower or peer must stay
    frozen until its highest state is known. Raises as `create_home`, and `ClockBehind` before anything is made.
    """
    now = SystemClock().wall_microseconds()
    restored_floor(now)  # raises before anything is made
    _create(directory, network, passphrase, seed, cost, lambda keystore: raise_floor(keystore, now))


def backup_home(directory: Path, path: Path, passphrase: bytes) -> Manifest:
    """Log and keystore in one encrypted file, verified; also while the party runs. See `watchtower.backup`."""
    return backup(party_sources(directory), path, passphrase, SystemClock().wall_microseconds())


def restore_backup(path: Path, directory: Path, passphrase: bytes) -> Manifest:
    """Bring a party back from `backup_home`, to a new directory; it appears with every channel frozen.

    States may have been signed or revoked since the backup was made: publishing what the log calls newest could cost
    the whole channel (self-breach). Raises `BackupError` for a backup that is not a party's.
    """

    def freeze(staged: Path, manifest: Manifest) -> None:
        if manifest.kind != "party" or manifest.log is None:
            raise BackupError("this backup is not one of a party with its log")
        network = manifest.log.origin.removeprefix("party/")
        open_home(staged, passphrase, PartySettings(network=network), restored=True).close()

    return restore(path, directory, passphrase, freeze)
