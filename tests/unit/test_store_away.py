"""A database server that is away: facts of the chain wait, read models are marked, and settings name the place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from domain.events import Envelope
from tests.fakes.store import MemoryEventStore
from tests.support.stores import note
from watchtower.config import ConfigError, Settings, load
from watchtower.ports import StoreAway, StoreBroken
from watchtower.store.ahead import AheadMark
from watchtower.store.overflow import OverflowStore
from watchtower.store.places import engine, open_secrets, server_url, shown_place


class Server(MemoryEventStore):
    """A store whose server can go away."""

    away = False

    def append(self, job: Sequence[Envelope], *, chain: bool = False) -> int:
        """As the port says."""
        if self.away:
            raise StoreAway("gone")
        return super().append(job, chain=chain)


@pytest.fixture
def server() -> Server:
    """There."""
    return Server()


@pytest.fixture
def mark(tmp_path: Path) -> AheadMark:
    """Beside read models that are there."""
    (tmp_path / "views.db").write_text("rows")
    return AheadMark(tmp_path / "views.db")


def test_facts_wait_and_clients_are_told_that_the_server_is_away(server: Server) -> None:
    """No space is not the reason: clients get 503 and nobody frees a disk."""
    store = OverflowStore(server)
    server.away = True

    assert 2 == store.append([note("chain", 1)], chain=True)
    assert (1, 0) == (store.held, store.held_for_space)
    with pytest.raises(StoreAway, match="cannot be reached"):
        store.append([note("c1", 1)])
    server.away = False
    assert store.flush()
    assert (3, 0) == (store.append([note("c1", 1)]), store.held)


def test_a_client_job_that_got_the_id_of_a_fact_ends_the_process(server: Server) -> None:
    """The read models were made with another id: a start from the log mends that."""
    store = OverflowStore(server)
    server.away = True
    store.append([note("chain", 1)], chain=True)
    server.away = False
    server.append([note("c1", 1)])

    with pytest.raises(StoreBroken, match="start again"):
        store.flush()


def test_read_models_are_marked_as_long_as_facts_wait(server: Server, mark: AheadMark, tmp_path: Path) -> None:
    """From before the first fact is readable until the last one is written."""
    store = OverflowStore(server, mark=mark)
    server.away = True
    store.append([note("chain", 1)], chain=True)
    store.append([note("chain", 2)], chain=True)
    waiting = (tmp_path / "views.db.ahead").exists()
    server.away = False
    store.flush()

    assert waiting
    assert not (tmp_path / "views.db.ahead").exists()


def test_marked_read_models_are_thrown_away(mark: AheadMark, tmp_path: Path) -> None:
    """At the next start: another tower may have written other events under the same ids."""
    (tmp_path / "views.db-wal").write_text("more rows")
    mark.set()
    mark.discard_views()

    assert [] == list(tmp_path.iterdir())


def test_read_models_without_a_mark_stay(mark: AheadMark, tmp_path: Path) -> None:
    """Nothing happens to them."""
    mark.set()
    mark.clear()
    mark.discard_views()

    assert ["views.db"] == [path.name for path in tmp_path.iterdir()]


def settings(**environ: str) -> Settings:
    """Settings from variables of the section store."""
    return load({f"STATE_CHANNEL_STORE__{name}": text for name, text in environ.items()}, read_file=False).settings


def test_a_log_on_a_server_has_its_password_apart() -> None:
    """The driver gets it, with whatever characters it has; what is shown has it not."""
    chosen = settings(URL="postgresql://tower@db.example/watchtower?sslmode=verify-full", PASSWORD="a b&c/ü")

    assert "postgresql" == engine(chosen)
    assert server_url(chosen) == f"{chosen.store.url}&password=a%20b%26c%2F%C3%BC"
    assert "postgresql://tower@db.example/watchtower?sslmode=verify-full" == shown_place(chosen)
    assert "a b&c" not in repr(chosen)


def test_a_log_in_a_file_needs_no_server(tmp_path: Path) -> None:
    """No address, no table of secrets."""
    chosen = settings(URL=f"sqlite:{tmp_path}/log.db")

    assert ("sqlite", "", f"{tmp_path}/log.db") == (engine(chosen), server_url(chosen), shown_place(chosen))
    assert open_secrets(chosen) is None


@pytest.mark.parametrize(
    ("variable", "text", "told"),
    [
        ("URL", "postgresql://tower:canary@db/watchtower", "holds a password"),
        ("URL", "postgresql://tower@db/watchtower?password=canary", "holds a password"),
        ("URL", "postgresql://tower@db", "names no database"),
        ("URL", "postgresql://[tower@db/x", "no address"),
        ("URL", "mysql://tower@db/watchtower", "does not fit"),
        ("STANDBY", "true", "belongs to a log on a server"),
        ("PASSWORD", "canary", "belongs to a log on a server"),
    ],
)
def test_what_cannot_be_is_said_without_a_password(variable: str, text: str, told: str) -> None:
    """Each mistake in one sentence."""
    with pytest.raises(ConfigError, match=told) as caught:
        settings(**{variable: text})

    assert "canary" not in str(caught.value)
