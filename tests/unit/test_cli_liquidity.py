"""`watchtower channel liquidity` on a log that holds a channel with pending conditions."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from domain.units import Side
from tests.support.new_towers import create
from tests.support.parties import Pair, htlc, open_pair
from tests.support.towers import Bench
from watchtower.cli import _main
from watchtower.new_tower import NewTower
from watchtower.store.create import open_store


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[NewTower, Pair]:
    """A tower whose log has a channel in state 1 with one HTLC of A; no service runs."""
    tmp_path = tmp_path_factory.mktemp("cli")
    tower = create(tmp_path / "tower", tmp_path / "tower" / "config.toml", "regtest")
    pair = open_pair()
    store = open_store(tower.data_dir / "events.db")
    bench = Bench(tmp_path, store=store)  # type: ignore[arg-type]
    name = bench.registered(pair)
    pair.update((480_000, 500_000), (htlc(Side.A, 1, 20_000, 900_000),))
    bench.services.accept_state(name, pair.update_request(Side.B, 1))
    bench.rows.close()
    store.close()
    return tower, pair


def cli(home: tuple[NewTower, Pair], *words: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(_main, ["--config", str(home[0].config_path), "channel", "liquidity", *words])


def test_one_channel_as_a_document(home: tuple[NewTower, Pair]) -> None:
    """The body of the API, with costs at the feerate that was asked for."""
    name = home[1].channel_id.hex()

    document = json.loads(cli(home, name[:8], "--feerate", "25", "--json").stdout)

    assert (name, True, 25.0) == (document["channel_id"], document["usable"], document["feerate"])
    assert (470_000, 490_000) == (document["A"]["spendable"], document["B"]["spendable"])
    assert {"unilateral", "penalty"} == {cost["way"] for cost in document["closing"]}


def test_all_channels_as_a_document(home: tuple[NewTower, Pair]) -> None:
    """Costs at the static feerate if none is given."""
    document = json.loads(cli(home, "--json").stdout)
    assert [2.0] == [channel["feerate"] for channel in document["channels"]]


def test_tables(home: tuple[NewTower, Pair]) -> None:
    """A line per side; one channel also tells its conditions, ways to close and claims."""
    everything, one = cli(home).stdout, cli(home, home[1].channel_id.hex()).stdout

    rows = [line.split() for line in one.splitlines()]

    assert ["A", "B"] == [line.split()[1] for line in everything.splitlines()[1:]]
    assert ["0", "1", "A", "20000", "900000", "no"] in rows
    assert [True, True] == [any(words[:2] == row[:2] for row in rows) for words in (["unilateral", "A"], ["0", "1"])]


def test_an_unknown_channel_is_told(home: tuple[NewTower, Pair]) -> None:
    """The same sentence as elsewhere."""
    assert "channel list" in str(cli(home, "0123456789").exception)
