"""`watchtower channel` and `watchtower replay` on a log that holds a channel, without a running service."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from domain.units import Side
from tests.support.new_towers import create
from tests.support.parties import Pair, open_pair
from tests.support.towers import Bench
from watchtower.cli import _main
from watchtower.new_tower import NewTower
from watchtower.store.create import open_reader, open_store
from watchtower.store.rebuild import rebuild


class Home(msgspec.Struct, frozen=True):
    """A tower's files and the channel in its log."""

    tower: NewTower
    pair: Pair

    @property
    def views(self) -> Path:
        """Path of the live read models."""
        return self.tower.data_dir / "views.db"

    def cli(self, *arguments: str) -> Result:
        """Run a command on this tower."""
        config = ["--config", str(self.tower.config_path)]
        return CliRunner().invoke(_main, [*config, *arguments])

    def document(self, *arguments: str) -> dict[str, object]:
        """The JSON document of a command."""
        result = self.cli(*arguments, "--json")
        assert 0 == result.exit_code, result.output
        document: dict[str, object] = json.loads(result.stdout)
        return document


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A tower that watches one channel in state 2; the service does not run and left no read models."""
    tmp_path = tmp_path_factory.mktemp("cli")
    tower = create(tmp_path / "tower", tmp_path / "tower" / "config.toml", "regtest")
    pair = open_pair()
    store = open_store(tower.data_dir / "events.db")
    bench = Bench(tmp_path, store=store)  # type: ignore[arg-type]
    bench.registered(pair)
    for number in range(1, 3):
        pair.update((500_000 - 1_000 * number, 500_000 + 1_000 * number))
        bench.services.accept_state(pair.channel_id.hex(), pair.update_request(Side.B, number))
    bench.rows.close()
    store.close()
    return Home(tower, pair)


@pytest.fixture
def live_views(home: Home) -> Iterator[Path]:
    """Read models as the service leaves them."""
    with open_reader(home.tower.data_dir / "events.db") as log:
        rebuild(home.views, log)
    yield home.views
    for path in home.tower.data_dir.glob("views.db*"):
        path.unlink()


def test_the_list_shows_every_channel(home: Home) -> None:
    """Documented fields, ids as hexadecimal, amounts in satoshi."""
    channels = home.document("channel", "list")["channels"]
    assert isinstance(channels, list)
    found = {name: channels[0][name] for name in ("channel_id", "status", "current_sequence", "capacity", "balance_a")}
    assert 1 == len(channels)
    assert {
        "channel_id": home.pair.channel_id.hex(),
        "status": "ACTIVE",
        "current_sequence": 2,
        "capacity": 1_000_000,
        "balance_a": 498_000,
    } == found


def test_the_list_can_be_filtered(home: Home) -> None:
    """By status, in any case."""
    assert {"channels": []} == home.document("channel", "list", "--status", "punished")
    assert "ACTIVE" in home.cli("channel", "list", "--status", "active").stdout
    assert 2 == home.cli("channel", "list", "--status", "opne").exit_code


def test_a_channel_is_shown_by_a_unique_prefix(home: Home) -> None:
    """Eight characters are enough; the funding outpoint is in display order."""
    document = home.document("channel", "show", home.pair.channel_id.hex()[:8])
    txid, _, vout = str(document["funding_outpoint"]).partition(":")
    assert home.pair.channel_id.hex() == document["channel_id"]
    assert (home.pair.params.funding_txid[::-1].hex(), str(home.pair.params.funding_vout)) == (txid, vout)


def test_an_unknown_or_short_prefix_is_an_error(home: Home) -> None:
    """The message says where the ids are."""
    assert "channel list" in str(home.cli("channel", "show", "0123456789").exception)
    assert "at least 4" in str(home.cli("channel", "show", "01").exception)


def test_lines_of_the_log_name_the_channel(home: Home) -> None:
    """By the id that other commands take; streams that are no channel's have none."""
    lines = [json.loads(line) for line in home.cli("events", "tail", "--from", "1", "--no-follow").stdout.splitlines()]

    found = {(line["channel_id"], line["stream"][0]) for line in lines}

    assert (home.pair.channel_id.hex(), "c") in found
    assert {home.pair.channel_id.hex(), None} == {name for name, _ in found}


def test_history_tells_the_events_in_order(home: Home) -> None:
    """From the proposal to the last state, with a sentence each, and no secret."""
    events = home.document("channel", "history", home.pair.channel_id.hex()[:8])["events"]
    assert isinstance(events, list)
    kinds = [event["kind"] for event in events]
    secret = home.pair.secret(Side.A, 0).hex()
    assert ["ChannelProposed", "ChannelRegistered"] == kinds[:2]
    assert 3 == kinds.count("StateUpdated")
    assert [] == [event for event in events if not event["line"]]
    assert secret not in json.dumps(events)


def test_reading_makes_no_read_models(home: Home) -> None:
    """A command that reads does not make read models for the service."""
    home.document("channel", "list")
    assert [] == [path.name for path in home.tower.data_dir.iterdir() if path.name.startswith("views")]


def test_a_replay_finds_nothing_to_say_about_good_read_models(home: Home, live_views: Path) -> None:
    """Every table's digest equals that of the live copy."""
    document = home.document("replay")
    assert (True, True, []) == (document["identical"], document["compared"], document["differing"])


def test_a_replay_finds_a_changed_row(home: Home, live_views: Path) -> None:
    """A read model that does not follow from the log is exit code 70 and named."""
    connection = sqlite3.connect(live_views)
    with connection:
        connection.execute("UPDATE channel_info SET balance_a = balance_a + 1")
    connection.close()
    result = home.cli("replay", "--json")
    assert 70 == result.exit_code
    assert ["channel_info"] == json.loads(result.stdout)["differing"]


def test_a_replay_without_read_models_says_so(home: Home) -> None:
    """Nothing was compared, and the digests are told all the same."""
    document = home.document("replay")
    told = home.cli("replay")
    assert (True, False) == (document["identical"], document["compared"])
    assert document["digests"]
    assert ("no live read models to compare with", False) == (told.stderr.strip()[-35:], "same" in told.stdout)


def test_kinds_and_sides_are_words(home: Home) -> None:
    """`channel show` names the mode and the own side, and gives the time in seconds."""
    shown = home.document("channel", "show", home.pair.channel_id.hex())

    assert ("keyed", "B", False) == (shown["mode"], shown["own_side"], shown["soft_final"])
    assert isinstance(shown["recorded_at"], float)
