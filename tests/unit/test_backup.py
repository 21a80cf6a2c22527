"""Backups: what comes back, what is refused, and that nothing readable leaves the host."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from domain.chain import chain_hash
from domain.errors import ChannelNotReady
from domain.events import LOG_STREAM, FreezeReason
from tests.support.parties import made_up_funding, make_party
from tests.support.stores import note
from watchtower.backup import BackupCorrupt, BackupError, Manifest, backup, restore, tower_sources, verify
from watchtower.backup.sealed_file import FRAME, SealedReader, SealedWriter
from watchtower.client import PartySettings, Terms
from watchtower.client.party import exchange
from watchtower.client.party.home import (
    LOG_NAME,
    backup_home,
    create_home,
    export_seed,
    open_home,
    restore_backup,
    restore_home,
)
from watchtower.keystore import FileKeystore, KeystoreMissing, WrongPassphrase
from watchtower.store.create import create_store, open_reader, open_store
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.segments.archive import archive_segment
from watchtower.store.segments.cut import close_segment
from watchtower.store.segments.names import segment_file

PASSPHRASE = b"for tests"
SECRET = bytes.fromhex("5ec7e7" * 10)
REGTEST = PartySettings(network="regtest")
TERMS = Terms(balances=(500_000, 500_000))


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    """A tower's directory with one secret."""
    directory = tmp_path / "tower"
    directory.mkdir(mode=0o700)
    create_store(
        directory / "events.db",
        origin="watchtower/regtest/test",
        chain_hash=chain_hash("regtest"),
        log_id=bytes(16),
        stream_key=b"\x05" * 32,
        recorded_at=1,
    )
    keystore = FileKeystore.create(directory / "keystore", PASSPHRASE, cost=2**4)
    keystore.put(b"\x01" * 32, SECRET)
    keystore.close()
    (directory / "tower.key").write_text("11" * 32)
    (directory / "access.json").write_text("{}")
    return directory


def saved(tower: Path, *, with_log: bool = True) -> Path:
    """A backup of the tower."""
    path = tower.parent / "saved"
    backup(tower_sources(tower, tower / "events.db" if with_log else None), path, PASSPHRASE, 7)
    return path


def test_a_tower_comes_back_whole(tower: Path) -> None:
    """Log, secrets and key are the same; the restored directory is the owner's alone."""
    path = saved(tower)

    manifest = restore(path, tower.parent / "again", PASSPHRASE)

    again = tower.parent / "again"
    assert ("tower", 7, 1, 1) == (
        manifest.kind,
        manifest.made_at,
        manifest.secrets,
        manifest.log and manifest.log.last_id,
    )
    assert ["access.json", "events.db", "keystore", "tower.key"] == sorted(file.name for file in again.iterdir())
    assert SECRET == FileKeystore.open_copy(again / "keystore", PASSPHRASE).get(b"\x01" * 32)
    with open_reader(again / "events.db") as log:
        assert [1] == [event.version for event in log.read_stream(LOG_STREAM)]
    assert {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in again.glob("[!e]*")}
    assert [0o700, 0o600] == [stat.S_IMODE(file.stat().st_mode) for file in (again, path)]


def test_a_running_tower_is_backed_up(tower: Path) -> None:
    """Log and keystore are open for writing elsewhere; nothing is left behind in the directory."""
    store = open_store(tower / "events.db")
    keystore = FileKeystore.open(tower / "keystore", PASSPHRASE)
    before = sorted(file.name for file in tower.iterdir())

    path = saved(tower)

    assert before == sorted(file.name for file in tower.iterdir())
    assert 1 == verify(path, PASSPHRASE).secrets
    keystore.close()
    store.close()


def test_closed_segments_are_in_the_backup(tower: Path) -> None:
    """As databases and packed; a log without them could not be read. A missing one fails the backup."""
    log = tower / "events.db"
    for number in range(2):
        with open_store(log) as store:
            store.append([note("k" + "1" * 22, number + 1)])
        close_segment(log, 2)
    archive_segment(log, 0, lambda _: None)
    restore(saved(tower), tower.parent / "again", PASSPHRASE)

    with open_store(log) as before, open_store(tower.parent / "again" / "events.db") as again:
        assert before.read_log(0, 100) == again.read_log(0, 100)
    (tower.parent / "saved").unlink()
    segment_file(log, 1).unlink()
    with pytest.raises(StoreCheckFailed, match="segment 1 of the log is missing"):
        saved(tower)


def test_nothing_readable_is_in_the_file(tower: Path) -> None:
    """Neither secrets nor the log nor names of files stand in a backup."""
    content = saved(tower).read_bytes()

    told = [SECRET, b"SQLite format", b"11" * 32, b"watchtower/regtest", b"tower.key", b"\x05" * 32]
    assert [] == [each for each in told if each in content]


def test_keys_alone(tower: Path) -> None:
    """A backup without the log is small and has the secrets."""
    manifest = verify(saved(tower, with_log=False), PASSPHRASE)

    assert (None, 1) == (manifest.log, manifest.secrets)


def test_nothing_is_overwritten(tower: Path) -> None:
    """An existing backup stays, and a restore needs an empty place."""
    path = saved(tower)
    content = path.read_bytes()

    with pytest.raises(BackupError, match="exists already"):
        saved(tower)
    with pytest.raises(BackupError, match="not empty"):
        restore(path, tower, PASSPHRASE)

    assert content == path.read_bytes()
    assert SECRET == FileKeystore.open_copy(tower / "keystore", PASSPHRASE).get(b"\x01" * 32)


def test_the_passphrase_is_asked_for(tower: Path) -> None:
    """A wrong passphrase makes no backup, opens none, and leaves nothing behind."""
    with pytest.raises(WrongPassphrase):
        backup(tower_sources(tower, None), tower.parent / "wrong", b"no", 7)
    assert ["tower"] == [file.name for file in tower.parent.iterdir()]

    path = saved(tower)
    with pytest.raises(WrongPassphrase, match="when it was made"):
        restore(path, tower.parent / "again", b"no")
    assert ["saved", "tower"] == sorted(file.name for file in tower.parent.iterdir())


@pytest.mark.parametrize("place", [0.0, 0.001, 0.3, 0.6, 0.9999])
def test_damage_anywhere_is_noticed(tower: Path, place: float) -> None:
    """A flipped bit is a typed error, and nothing is restored."""
    path = saved(tower)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)

    with pytest.raises((BackupCorrupt, WrongPassphrase)):
        restore(path, tower.parent / "again", PASSPHRASE)

    assert not (tower.parent / "again").exists()


def test_a_backup_without_keystore_is_refused(tower: Path) -> None:
    """A directory that is none of a tower is told, and no file is left."""
    (tower / "keystore").unlink()

    with pytest.raises(KeystoreMissing):
        saved(tower)

    assert not (tower.parent / "saved").exists()


def sealed(tmp_path: Path, plain: bytes) -> Path:
    """A sealed file with one line and this content."""
    path = tmp_path / "sealed"
    with path.open("wb") as file:
        writer = SealedWriter(file, PASSPHRASE, 2**4)
        writer.write(b"line\n" + plain)
        writer.finish()
    return path


def frames_of(content: bytes) -> tuple[bytes, list[bytes]]:
    """First line and frames of a sealed file."""
    line, _, rest = content.partition(b"\n")
    frames = []
    while rest:
        size = 4 + int.from_bytes(rest[:4], "little")
        frames.append(rest[:size])
        rest = rest[size:]
    return line + b"\n", frames


def unsealed(path: Path, size: int) -> bytes:
    """The content behind the line."""
    with path.open("rb") as file:
        reader = SealedReader.open(file, PASSPHRASE)
        assert b"line" == reader.line()
        found = b"".join(reader.pieces(size))
        reader.require_end()
        return found


@pytest.mark.parametrize("size", [0, 1, FRAME - 5, FRAME - 4, 3 * FRAME - 5, 3 * FRAME + 1])
def test_frames_of_every_length_come_back(tmp_path: Path, size: int) -> None:
    """Also when the content ends at the border of a frame."""
    plain = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert plain == unsealed(sealed(tmp_path, plain), size)


@pytest.mark.parametrize(
    "change",
    [
        lambda frames: frames[:-1],
        lambda frames: [frames[1], frames[0], *frames[2:]],
        lambda frames: [frames[0], *frames[2:]],
        lambda frames: [*frames, frames[-1]],
        lambda frames: [],
    ],
    ids=["cut", "exchanged", "left out", "doubled", "empty"],
)
def test_frames_keep_their_order_and_number(tmp_path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Whole frames can be neither cut off, exchanged, left out nor doubled."""
    path = sealed(tmp_path, bytes(3 * FRAME))
    line, frames = frames_of(path.read_bytes())
    path.write_bytes(line + b"".join(change(frames)))

    with pytest.raises(BackupCorrupt):
        unsealed(path, 3 * FRAME)


# ── a party ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A party's home with a channel in state 1."""
    create_home(tmp_path / "home", "regtest", PASSPHRASE, cost=2**4)
    with open_home(tmp_path / "home", PASSPHRASE, REGTEST) as opened:
        peer = make_party("bob")

        def fund(spk: bytes, amount: int) -> tuple[bytes, int]:
            return made_up_funding(spk, amount).txid, 0

        channel_id = exchange.open_channel(opened.party, peer, TERMS, fund)
        exchange.update(opened.party, peer, channel_id, (490_000, 510_000))
    return tmp_path / "home"


def restored(home: Path) -> tuple[Path, Manifest]:
    """The home after a backup and its restore."""
    backup_home(home, home.parent / "saved", PASSPHRASE)
    return home.parent / "again", restore_backup(home.parent / "saved", home.parent / "again", PASSPHRASE)


def test_a_restored_party_is_frozen(home: Path) -> None:
    """Every channel is there with its newest known state, and frozen: newer ones may exist."""
    again, manifest = restored(home)

    with open_home(again, PASSPHRASE, REGTEST) as opened:
        channel = opened.party.channels()[0]
        assert ("party", 1, FreezeReason.RESTORED) == (manifest.kind, channel.sequence, channel.frozen)
    with open_home(home, PASSPHRASE, REGTEST) as first:
        assert None is first.party.channels()[0].frozen


def test_a_restored_party_uses_no_index_twice(home: Path) -> None:
    """Channels opened after the backup are not in it: new ones get indexes that no earlier life used."""
    again, _ = restored(home)
    with open_home(home, PASSPHRASE, REGTEST) as first:
        later = first.party.open(TERMS)

    with open_home(again, PASSPHRASE, REGTEST) as opened:
        fresh = opened.party.open(TERMS)

    assert later.key_block != fresh.key_block


def test_a_seed_gives_the_same_keys_and_new_indexes(home: Path) -> None:
    """From the seed alone the keys of known indexes are the same, the log is empty, new indexes are unused."""
    seed = export_seed(home, PASSPHRASE)
    restore_home(home.parent / "seeded", "regtest", b"another", seed, cost=2**4)

    with open_home(home, PASSPHRASE, REGTEST) as first, open_home(home.parent / "seeded", b"another", REGTEST) as again:
        assert () == again.party.channels()
        assert first.party.open(TERMS).key_block != again.party.open(TERMS).key_block
    assert seed == export_seed(home.parent / "seeded", b"another")


def test_a_restore_after_a_restore_goes_on(home: Path) -> None:
    """The floor of indexes never falls."""
    again, _ = restored(home)
    backup_home(again, home.parent / "second", PASSPHRASE)

    restore_backup(home.parent / "second", home.parent / "third", PASSPHRASE)

    with open_home(home.parent / "third", PASSPHRASE, REGTEST) as opened:
        assert 1 == len(opened.party.channels())


def test_a_tower_backup_is_no_party(tower: Path) -> None:
    """A tower's backup cannot become a party's home."""
    with pytest.raises(BackupError, match="not one of a party"):
        restore_backup(saved(tower), tower.parent / "again", PASSPHRASE)

    assert not (tower.parent / "again").exists()


def test_a_home_that_others_can_open_is_refused(home: Path) -> None:
    """The error says which command mends it."""
    (home / LOG_NAME).chmod(0o640)

    with pytest.raises(Exception, match=f"chmod 600 {home / LOG_NAME}"):
        open_home(home, PASSPHRASE, REGTEST)


def test_a_restored_party_thaws_or_learns_that_it_is_old(home: Path) -> None:
    """A fresh backup goes on after the peer confirmed it; an old one stays frozen for good and signs nothing."""
    peer = make_party("carol")
    with open_home(home, PASSPHRASE, REGTEST) as first:

        def fund(spk: bytes, amount: int) -> tuple[bytes, int]:
            return made_up_funding(spk, amount).txid, 0

        channel_id = exchange.open_channel(first.party, peer, TERMS, fund)
    backup_home(home, home.parent / "saved", PASSPHRASE)
    restore_backup(home.parent / "saved", home.parent / "fresh", PASSPHRASE)
    with open_home(home.parent / "fresh", PASSPHRASE, REGTEST) as fresh:
        exchange.reconnect(fresh.party, peer, channel_id)
        assert 1 == exchange.update(fresh.party, peer, channel_id, (490_000, 510_000))

    restore_backup(home.parent / "saved", home.parent / "old", PASSPHRASE)
    with open_home(home.parent / "old", PASSPHRASE, REGTEST) as old:
        with pytest.raises(ChannelNotReady, match="old copy"):
            exchange.reconnect(peer, old.party, channel_id)
        with pytest.raises(ChannelNotReady):
            old.party.sign_commitment(channel_id, 0)
        assert FreezeReason.DATA_LOSS is old.party.channel(channel_id).frozen
    frozen_for_good(home, channel_id)


def frozen_for_good(home: Path, channel_id: bytes) -> None:
    """A restore does not turn proven loss of data into something that thaws."""
    backup_home(home.parent / "old", home.parent / "second", PASSPHRASE)
    restore_backup(home.parent / "second", home.parent / "again", PASSPHRASE)
    with open_home(home.parent / "again", PASSPHRASE, REGTEST) as again:
        assert FreezeReason.DATA_LOSS is again.party.channel(channel_id).frozen
