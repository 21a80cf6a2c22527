"""Keys of channels on their way to a tower that stands by: sealed beside the log, used from the own file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest

from watchtower.keystore import FileKeystore, KeystoreConflict, KeystoreError, TransportSeal
from watchtower.keystore.shared import SharedKeystore
from watchtower.ports import StoreAway
from watchtower.receipts.tower_key import TowerKey

NAME, OTHER, SECRET = b"n" * 32, b"o" * 32, b"secret of a channel"
KEY = TowerKey(b"\x01" * 32).derive(b"sealed-secrets/1/log")


class Table:
    """A server's table in memory; `away` makes every call fail."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.away = False

    def _reach(self) -> None:
        if self.away:
            raise StoreAway("gone")

    def put(self, secrets: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep what is there."""
        self._reach()
        self.rows = dict(secrets) | self.rows

    def remove(self, names: Collection[bytes]) -> None:
        """Forget."""
        self._reach()
        self.rows = {name: sealed for name, sealed in self.rows.items() if name not in names}

    def names(self) -> frozenset[bytes]:
        """All."""
        self._reach()
        return frozenset(self.rows)

    def look(self) -> None:
        """It always answers."""

    def fresh(self) -> list[tuple[bytes, bytes]]:
        """All: some may come twice."""
        self._reach()
        return list(self.rows.items())

    def close(self) -> None:
        """Nothing is open."""


class Towers:
    """A tower that leads and one that stands by, on one table."""

    def __init__(self, directory: Path) -> None:
        self.table = Table()
        self.files = [FileKeystore.create(directory / name, b"p", cost=2) for name in ("leader", "standby")]
        self.leader, self.standby = (SharedKeystore(file, self.table, TransportSeal(KEY)) for file in self.files)


@pytest.fixture
def towers(tmp_path: Path) -> Iterator[Towers]:
    """Both without secrets."""
    made = Towers(tmp_path)
    yield made
    for file in made.files:
        file.close()


def test_a_standby_gets_what_the_leader_stored(towers: Towers) -> None:
    """After `follow` the secret is in its own file; it is there once, however often it follows."""
    towers.leader.put(NAME, SECRET)

    assert [1, 0] == [towers.standby.follow(), towers.standby.follow()]
    assert SECRET == towers.standby.get(NAME) == towers.files[1].get(NAME)


def test_the_table_does_not_know_the_secret(towers: Towers) -> None:
    """It is sealed for its name under the key of the towers, differently each time."""
    towers.leader.put(NAME, SECRET)
    towers.leader.put(OTHER, SECRET)
    sealed = towers.table.rows

    assert SECRET not in b"".join(sealed.values())
    assert sealed[NAME] != sealed[OTHER]
    with pytest.raises(KeystoreError, match=r"same tower\.key"):
        TransportSeal(KEY).open(NAME, sealed[OTHER])


def test_towers_with_different_keys_say_so(towers: Towers) -> None:
    """A standby with another tower.key learns it when it follows, not when it is needed."""
    towers.leader.put(NAME, SECRET)
    stranger = SharedKeystore(
        towers.files[1], towers.table, TransportSeal(TowerKey(b"\x02" * 32).derive(b"sealed-secrets/1/log"))
    )

    with pytest.raises(KeystoreError, match=r"same tower\.key") as caught:
        stranger.follow()
    assert SECRET.decode() not in str(caught.value)


def test_a_secret_that_the_server_has_not_is_refused(towers: Towers) -> None:
    """The event that needs it must not be stored: a standby could not answer its breach. A repeat goes through."""
    towers.table.away = True
    with pytest.raises(StoreAway):
        towers.leader.put(NAME, SECRET)
    towers.table.away = False
    towers.leader.put(NAME, SECRET)

    assert [NAME] == list(towers.table.rows)


def test_reading_never_asks_the_server(towers: Towers) -> None:
    """A penalty needs the own file only."""
    towers.leader.put(NAME, SECRET)
    towers.table.away = True

    assert SECRET == towers.leader.get(NAME)
    assert towers.leader.get(OTHER) is None


def test_a_leader_brings_both_places_together(towers: Towers) -> None:
    """The server gets what only the file has, as after a move from a log in a file; and the other way round."""
    towers.files[0].put(NAME, SECRET)
    towers.standby.put(OTHER, b"another")

    assert 1 == towers.leader.lead()
    assert frozenset({NAME, OTHER}) == frozenset(towers.table.rows) == towers.files[0].names()
    assert 0 == towers.leader.lead()


def test_two_secrets_of_one_name_are_a_conflict(towers: Towers) -> None:
    """What is stored is never replaced, and the server keeps what it has."""
    towers.leader.put(NAME, SECRET)
    before = dict(towers.table.rows)

    with pytest.raises(KeystoreConflict):
        towers.leader.put(NAME, b"another")
    assert before == towers.table.rows


def test_erased_secrets_leave_both_places(towers: Towers) -> None:
    """A server that is away does not keep the own file from forgetting."""
    towers.leader.put(NAME, SECRET)
    towers.leader.put(OTHER, SECRET)

    towers.leader.erase([NAME])
    towers.table.away = True
    towers.leader.erase([OTHER])

    assert [OTHER] == list(towers.table.rows)
    assert frozenset() == towers.files[0].names()
