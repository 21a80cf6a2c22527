"""A party on disk: log and keystore survive, wrong passphrases and foreign files are refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from domain.errors import UnknownChannel
from domain.events import FreezeReason
from domain.units import Side
from tests.support.parties import Pair, made_up_funding, make_party
from watchtower.client import PartySettings, Terms
from watchtower.client.party import exchange
from watchtower.client.party.home import create_home, open_home, restore_home
from watchtower.client.party.key_ring import EPOCH, SEED_NAME, SKIP, ClockBehind, raise_floor
from watchtower.client.party.party import ChannelParty
from watchtower.client.protocol.consent import agree
from watchtower.keystore import FileKeystore, KeystoreError, KeystoreLocked, WrongPassphrase
from watchtower.ports import StoreError

PASSPHRASE = b"for tests"
REGTEST = PartySettings(network="regtest")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An empty home."""
    create_home(tmp_path / "home", "regtest", PASSPHRASE, cost=2**4)
    return tmp_path / "home"


def test_a_channel_survives_closing_and_opening(directory: Path) -> None:
    """Channel, states and keys are the same after the process ended; the next update works."""
    peer = make_party("bob")
    with open_home(directory, PASSPHRASE, REGTEST) as home:
        made = []

        def fund(spk: bytes, amount: int) -> tuple[bytes, int]:
            made.append(made_up_funding(spk, amount))
            return made[0].txid, 0

        channel_id = exchange.open_channel(home.party, peer, Terms(balances=(500_000, 500_000)), fund)
        exchange.update(home.party, peer, channel_id, (490_000, 510_000))
        before = home.party.channel(channel_id)
        spk = home.party.funding_spk(channel_id)

    with open_home(directory, PASSPHRASE, REGTEST) as again:
        assert again.party.channel(channel_id) == before
        assert again.party.funding_spk(channel_id) == spk
        assert exchange.update(again.party, peer, channel_id, (480_000, 520_000)) == 2
        assert Pair((again.party, peer), ("", "bob"), channel_id, made[0]).balances == (480_000, 520_000)


def test_a_channel_index_is_used_once(directory: Path) -> None:
    """Keys of an opening that was given up are never used again, also after a restart."""
    with open_home(directory, PASSPHRASE, REGTEST) as home:
        first = home.party.open(Terms(balances=(500_000, 500_000)))
    with open_home(directory, PASSPHRASE, REGTEST) as again:
        second = again.party.open(Terms(balances=(500_000, 500_000)))

    assert first.key_block != second.key_block
    assert first.points != second.points


def test_wrong_passphrase_second_process_and_wrong_network(directory: Path) -> None:
    """Each has its own typed error, and the home can be opened afterwards."""
    with pytest.raises(WrongPassphrase):
        open_home(directory, b"wrong", REGTEST)
    with pytest.raises(StoreError):
        open_home(directory, PASSPHRASE, PartySettings(network="mainnet"))
    with open_home(directory, PASSPHRASE, REGTEST), pytest.raises(KeystoreLocked):
        open_home(directory, PASSPHRASE, REGTEST)
    with pytest.raises((KeystoreError, StoreError)):
        create_home(directory, "regtest", PASSPHRASE)

    open_home(directory, PASSPHRASE, REGTEST).close()


UPDATER = """
import sys
from pathlib import Path
from tests.support.parties import make_party
from watchtower.client import PartySettings, Terms
from watchtower.client.party import exchange
from watchtower.client.party.home import open_home

a, b = (open_home(Path(sys.argv[1]) / n, b"for tests", PartySettings(network="regtest")).party for n in ("a", "b"))
channel = exchange.open_channel(a, b, Terms(balances=(500_000, 500_000)), lambda spk, sat: (b"\\x11" * 32, 0))
number = 0
while True:
    number = exchange.update(a, b, channel, (500_000 - number, 500_000 + number))
    print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [1, 7, 20])
def test_kill_in_the_middle_of_updates(tmp_path: Path, wanted: int) -> None:
    """After SIGKILL every announced update is there, both parties reconnect, and the next update works."""
    for name in ("a", "b"):
        create_home(tmp_path / name, "regtest", PASSPHRASE, cost=2**4)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", UPDATER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as process:
        assert process.stdout is not None
        announced = [int(process.stdout.readline()) for _ in range(wanted)]
        process.send_signal(signal.SIGKILL)

    homes = [open_home(tmp_path / name, PASSPHRASE, REGTEST, consent=agree) for name in ("a", "b")]
    a, b = (home.party for home in homes)
    channel_id = a.channels()[0].channel_id
    exchange.reconnect(a, b, channel_id)
    newest = a.channel(channel_id)

    assert announced == list(range(1, wanted + 1))
    assert newest.sequence >= wanted
    assert newest.state == b.channel(channel_id).state
    balances = newest.balances if newest.pending is None else newest.pending.content.read_header().balances
    assert exchange.update(a, b, channel_id, balances) == newest.sequence + 1
    for home in homes:
        home.close()


def test_the_seed_is_in_no_file_in_the_clear(tmp_path: Path) -> None:
    """Neither log nor keystore hold the seed or a per-commitment secret of the own side."""
    seed = bytes(range(1, 33))
    create_home(tmp_path / "home", "regtest", PASSPHRASE, seed=seed, cost=2**4)
    peer = make_party("bob")
    with open_home(tmp_path / "home", PASSPHRASE, REGTEST) as home:
        channel_id = exchange.open_channel(
            home.party, peer, Terms(balances=(500_000, 500_000)), lambda spk, sat: (b"\x11" * 32, 0)
        )
        for _ in range(3):
            exchange.update(home.party, peer, channel_id, (500_000, 500_000))
        seat = home.party._seat(home.party.channel(channel_id))
        secrets = [seed, *(seat.own_secret(n) for n in range(4)), *vars_of(seat.secrets)]
        assert home.party.channel(channel_id).own_side is Side.A

    content = b"".join(path.read_bytes() for path in (tmp_path / "home").iterdir())
    for secret in secrets:
        assert secret not in content
        assert secret.hex().encode() not in content


def vars_of(secrets: object) -> list[bytes]:
    """All secrets of a channel."""
    return [getattr(secrets, name) for name in ("fund", "rev", "settle", "htlc", "auth", "seed", "payout", "sweep")]


def with_channel(directory: Path) -> bytes:
    """A home with one channel at state 0."""
    create_home(directory, "regtest", PASSPHRASE, cost=2**4)
    with open_home(directory, PASSPHRASE, REGTEST) as home:
        return exchange.open_channel(
            home.party, make_party("bob"), Terms(balances=(500_000, 500_000)), lambda spk, sat: (b"\x11" * 32, 0)
        )


def frozen(directory: Path, channel_id: bytes, restored: bool | None = None) -> FreezeReason | None:
    """Whether the channel is frozen after the home was opened."""
    with open_home(directory, PASSPHRASE, REGTEST, restored=restored) as home:
        return home.party.channel(channel_id).frozen


def test_a_copied_home_is_frozen(tmp_path: Path) -> None:
    """A copy by any tool has another inode: its log may be old. The original and a home that was moved go on."""
    channel_id = with_channel(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    moved = (tmp_path / "a").rename(tmp_path / "moved")

    assert frozen(moved, channel_id) is None
    assert frozen(tmp_path / "copy", channel_id) is FreezeReason.RESTORED


def test_a_thawed_copy_stays_thawed(tmp_path: Path) -> None:
    """The place is remembered: the copy is the home from now on."""
    channel_id = with_channel(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    with open_home(tmp_path / "copy", PASSPHRASE, REGTEST) as home:
        home.party.unfreeze(channel_id, 0)

    assert frozen(tmp_path / "copy", channel_id) is None


@pytest.mark.parametrize(("restored", "expected"), [(True, FreezeReason.RESTORED), (False, None)])
def test_the_owner_knows_better(tmp_path: Path, restored: bool, expected: FreezeReason | None) -> None:
    """`restored` overrules what the place says."""
    channel_id = with_channel(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")

    assert frozen(tmp_path / "copy", channel_id, restored) is expected


def opened_index(directory: Path) -> bytes:
    """The keys of the next channel of a home."""
    with open_home(directory, PASSPHRASE, REGTEST) as home:
        return home.party.open(Terms(balances=(500_000, 500_000))).key_block


def test_a_copy_without_its_place_is_a_copy(tmp_path: Path) -> None:
    """Log and keystore alone, as somebody copies them who thinks that the rest is not needed."""
    channel_id = with_channel(tmp_path / "a")
    (tmp_path / "copy").mkdir(mode=0o700)
    for name in ("party.db", "keystore"):
        shutil.copy2(tmp_path / "a" / name, tmp_path / "copy" / name)

    assert frozen(tmp_path / "copy", channel_id) is FreezeReason.RESTORED


def test_a_copy_uses_no_index_that_the_original_used_later(tmp_path: Path) -> None:
    """With equal keys the secrets that one channel revealed would punish the other one's valid states."""
    with_channel(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")

    later = [opened_index(tmp_path / "a") for _ in range(3)]
    fresh = [opened_index(tmp_path / "copy") for _ in range(3)]

    assert 6 == len({*later, *fresh})


def test_a_copy_of_a_copy_goes_on_above(tmp_path: Path) -> None:
    """Also when the clock was set back in between: it is not believed."""
    with_channel(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    first = opened_index(tmp_path / "b")
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    later = opened_index(tmp_path / "b")

    with open_home(tmp_path / "c", PASSPHRASE, REGTEST, restored=False) as home:
        floors = [raise_floor(home._keystore, (EPOCH + seconds) * 1_000_000) for seconds in (5, 1)]

    assert SKIP == floors[1] - floors[0]
    assert opened_index(tmp_path / "c") not in {first, later}


@pytest.mark.parametrize("seconds", [0, EPOCH - 1, EPOCH])
def test_a_clock_that_stands_still_restores_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """A machine without a battery begins in 1970: index 0 would be used again. Nothing is made, the next try works."""
    with monkeypatch.context() as patch:
        patch.setattr("watchtower.host.system.SystemClock.wall_microseconds", lambda _: seconds * 1_000_000)
        with pytest.raises(ClockBehind, match="set it, then restore again"):
            restore_home(tmp_path / "home", "regtest", PASSPHRASE, bytes(range(32)), cost=2**4)
    assert not (tmp_path / "home").exists()

    restore_home(tmp_path / "home", "regtest", PASSPHRASE, bytes(range(32)), cost=2**4)


def test_a_restore_that_was_cut_short_is_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seed comes last: without the floor of indexes it must not be used."""

    def die(_party: object, _seed: bytes | None = None) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ChannelParty, "create_seed", die)
        with pytest.raises(KeyboardInterrupt):
            restore_home(tmp_path / "home", "regtest", PASSPHRASE, bytes(range(32)), cost=2**4)

    keystore = FileKeystore.open(tmp_path / "home" / "keystore", PASSPHRASE)
    assert (None, 1) == (keystore.get(SEED_NAME), len(keystore.names()))
    keystore.close()
    with pytest.raises(UnknownChannel, match="no seed"):
        open_home(tmp_path / "home", PASSPHRASE, REGTEST)


def test_an_old_log_over_the_newer_one_is_frozen(tmp_path: Path) -> None:
    """`cp` over a file keeps its inode; but the log is shorter than it was when the home was closed."""
    channel_id = with_channel(tmp_path / "a")
    old = (tmp_path / "a" / "party.db").read_bytes()
    with open_home(tmp_path / "a", PASSPHRASE, REGTEST) as home:
        home.party.offer(channel_id, (490_000, 510_000))
    before = frozen(tmp_path / "a", channel_id)

    (tmp_path / "a" / "party.db").write_bytes(old)

    assert before is None
    assert frozen(tmp_path / "a", channel_id) is FreezeReason.RESTORED


def test_an_old_log_is_noticed_without_an_orderly_end(tmp_path: Path) -> None:
    """Where the process died, the place of its last start is known."""
    channel_id = with_channel(tmp_path / "a")
    old = (tmp_path / "a" / "party.db").read_bytes()
    with open_home(tmp_path / "a", PASSPHRASE, REGTEST) as home:
        home.party.offer(channel_id, (490_000, 510_000))
    home = open_home(tmp_path / "a", PASSPHRASE, REGTEST)
    home._store.close()
    home._keystore.close()

    (tmp_path / "a" / "party.db").write_bytes(old)

    assert frozen(tmp_path / "a", channel_id) is FreezeReason.RESTORED


@pytest.mark.parametrize("text", ["", "12", "a b c", "1 x"])
def test_a_place_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    """Freezing is undone by the peer's word; publishing an old state is not."""
    channel_id = with_channel(tmp_path / "a")
    (tmp_path / "a" / "place").write_text(text)

    assert frozen(tmp_path / "a", channel_id) is FreezeReason.RESTORED
