"""`channel … --height`, `audit replay` and `audit state` on a log in a file, without a running service."""

from __future__ import annotations

import json
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from domain.chain import BlockRef, display
from domain.events import (
    CHAIN_STREAM,
    BlockConnected,
    CursorStarted,
    Envelope,
    PreimageLearned,
    Source,
    envelopes,
)
from domain.spending import funding_confirmed
from domain.units import Side
from tests.support.new_towers import create
from tests.support.parties import Pair, open_pair
from tests.support.scenes import block
from tests.support.towers import Bench
from watchtower.cli import _main
from watchtower.new_tower import NewTower
from watchtower.store.create import open_reader, open_store
from watchtower.store.event_store import SqliteEventStore
from watchtower.store.rebuild import rebuild

pytestmark = pytest.mark.slow
START = 190


class Home(msgspec.Struct, frozen=True):
    """A tower's files and the channel in its log."""

    tower: NewTower
    pair: Pair

    @property
    def name(self) -> str:
        """The channel's id."""
        return self.pair.channel_id.hex()

    @property
    def log(self) -> Path:
        """The event log."""
        return self.tower.data_dir / "events.db"

    @property
    def views(self) -> Path:
        """The live read models."""
        return self.tower.data_dir / "views.db"

    def cli(self, *arguments: str) -> Result:
        """Run a command on this tower."""
        return CliRunner().invoke(_main, ["--config", str(self.tower.config_path), *arguments])

    def document(self, *arguments: str, code: int = 0) -> dict[str, object]:
        """The JSON document of a command."""
        result = self.cli(*arguments, "--json")
        assert code == result.exit_code, result.output
        document: dict[str, object] = json.loads(result.stdout)
        return document


def connect(store: SqliteEventStore, tip: BlockRef, others: list[Envelope]) -> BlockRef:
    """The next block and what it causes, in one job."""
    made = block(tip.height + 1)
    connected = BlockConnected(
        recorded_at=0, block=made, prev=tip.hash, header=bytes(80), chainwork=b"\x01", source=Source.BLOCK
    )
    store.append([*envelopes(CHAIN_STREAM, store.version(CHAIN_STREAM), [connected]), *others], chain=True)
    return made


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Funded at 191, state 1, block 192, state 2 and a preimage; the service does not run and left no read models."""
    tmp_path = tmp_path_factory.mktemp("past")
    tower = create(tmp_path / "tower", tmp_path / "tower" / "config.toml", "regtest")
    pair = open_pair()
    store = open_store(tower.data_dir / "events.db")
    tip = block(START)
    start = CursorStarted(recorded_at=0, block=tip, chain_hash=bytes(32), chainwork=b"\x01")
    store.append(envelopes(CHAIN_STREAM, 0, [start]), chain=True)
    bench = Bench(tmp_path, store=store)  # type: ignore[arg-type]
    bench.fund(pair)
    bench.services.register(pair.registration(Side.B))
    channel = bench.context.channels.load(bench.context.channels.stream_of(pair.params.proposal_id))
    funded = block(START + 1)
    tip = connect(store, tip, envelopes(channel.stream, channel.version, funding_confirmed(channel, funded, 0)))
    for number in range(1, 3):
        pair.update((500_000 - 1_000 * number, 500_000 + 1_000 * number))
        bench.services.accept_state(pair.channel_id.hex(), pair.update_request(Side.B, number))
        tip = connect(store, tip, []) if number == 1 else tip
    learned = PreimageLearned(
        recorded_at=0, payment_hash=b"\x01" * 32, preimage=b"\x02" * 32, source=Source.CLIENT, txid=None
    )
    store.append(envelopes(channel.stream, store.version(channel.stream), [learned]))
    bench.rows.close()
    store.close()
    return Home(tower, pair)


@pytest.fixture
def live(home: Home) -> Iterator[Path]:
    """Read models as the service leaves them."""
    with open_reader(home.log) as log:
        rebuild(home.views, log)
    yield home.views
    for path in home.tower.data_dir.glob("views.db*"):
        path.unlink()


def sequence(document: dict[str, object]) -> object:
    """Of the only channel of a list, or of a channel."""
    channels = document.get("channels")
    return channels[0]["current_sequence"] if isinstance(channels, list) else document["current_sequence"]


# ── channels ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_channel_and_the_list_as_of_a_height(home: Home, live: Path) -> None:
    """`show` folds one stream, `list` the log; both say the state of then and the point that was meant."""
    for height, expected in ((START + 1, 0), (START + 2, 1)):
        shown = home.document("channel", "show", home.name, "--height", str(height))
        listed = home.document("channel", "list", "--height", str(height))
        assert expected == sequence(shown) == sequence(listed)
        assert shown["as_of"] == listed["as_of"]
    assert 2 == sequence(home.document("channel", "show", home.name))
    assert [] == home.document("channel", "list", "--position", "1")["channels"]


def test_the_same_without_read_models(home: Home) -> None:
    """A cold copy of a log answers too."""
    hash_of = display(block(START + 2).hash)

    assert 1 == sequence(home.document("channel", "show", home.name, "--block", hash_of))
    assert 1 == sequence(home.document("channel", "list", "--block", hash_of))


def test_the_history_ends_at_the_point(home: Home, live: Path) -> None:
    """As of a position, and as of an id."""
    whole = home.document("channel", "history", home.name)["events"]
    then = home.document("channel", "history", home.name, "--id", "6")["events"]

    assert isinstance(whole, list)
    assert isinstance(then, list)
    assert whole[: len(then)] == then
    assert [3, 4, 5] == [event["id"] for event in then]


def test_the_point_is_told_to_people(home: Home, live: Path) -> None:
    """On stderr, so that the table is only what it was."""
    result = home.cli("channel", "show", home.name, "--height", str(START + 1))

    assert f"as of position 7, recorded 1970-01-01T00:00:00Z, height {START + 1}" in result.stderr
    assert "as_of" not in result.stdout


WRONG = {
    "two points": (("--height", "3", "--at", "2026-01-31T12:00:00Z"), "both at and height"),
    "no time": (("--at", "yesterday"), "RFC 3339"),
    "no hash": (("--block", "00"), "64 lower-case"),
    "no number": (("--position", "-1"), "range"),
}


@pytest.mark.parametrize(("options", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_point_is_a_wrong_usage(home: Home, options: tuple[str, ...], said: str) -> None:
    """Exit 2, and what is wrong."""
    for command in (("channel", "list"), ("channel", "state", home.name), ("audit", "replay"), ("audit", "state")):
        result = home.cli(*command, *options)
        assert 2 == result.exit_code
        assert said in result.stderr


def test_a_point_that_is_not_there_ends_with_2(
    home: Home, live: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the real program ends: no such height, and beyond the end."""
    from watchtower.cli import main

    for options, said in ((("--height", "7"), "no block of height 7"), (("--position", "99"), "beyond the end")):
        words = ["watchtower", "--config", str(home.tower.config_path), "channel", "show", home.name, *options]
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        assert 2 == ended.value.code
        assert said in capsys.readouterr().err


# ── audit state ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_tower_as_of_a_point(home: Home) -> None:
    """Its tip and its channels; before the registration there was none."""
    before = home.document("audit", "state", "--position", "2")
    funded = home.document("audit", "state", "--height", str(START + 1))

    assert ({}, 0) == (before["channels"], before["clients"])
    assert ({"ACTIVE": 1}, {"ACTIVE": 1_000_000}, 1) == (funded["channels"], funded["capacity"], funded["clients"])
    assert {"position": 7, "recorded_at": 0.0, "height": START + 1, "tip_hash": display(block(START + 1).hash)} == (
        funded["as_of"]
    )


def test_kept_read_models_go_forward(home: Home, tmp_path: Path) -> None:
    """A later point begins where the file stands; an earlier one makes it anew; both answers are right."""
    kept = tmp_path / "then.db"
    answers = []
    for position in ("5", "9", "7"):
        answers.append(home.document("audit", "state", "--position", position, "--keep", str(kept))["channels"])
        tables = sqlite3.connect(kept)
        assert int(position) == tables.execute("SELECT max(notification_id) FROM tracking").fetchone()[0]
        tables.close()

    assert [{"PROPOSED": 1}, {"ACTIVE": 1}, {"ACTIVE": 1}] == answers
    assert 0o600 == stat.S_IMODE(kept.stat().st_mode)


@pytest.mark.parametrize("name", ["events.db", "views.db", "config.toml"])
def test_no_other_file_is_overwritten(home: Home, live: Path, name: str) -> None:
    """Neither the log nor the live read models nor anything else takes the kept ones."""
    path = home.tower.data_dir / name
    before = path.read_bytes()
    result = home.cli("audit", "state", "--keep", str(path))

    assert 2 == result.exit_code
    assert "name another file" in result.stderr
    assert before == path.read_bytes()


# ── audit replay ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_replay_counts_and_digests_every_table(home: Home) -> None:
    """The same point has the same digests, another has others."""
    first = home.document("audit", "replay", "--until", "9")["tables"]
    again = home.document("audit", "replay", "--position", "9")["tables"]
    other = home.document("audit", "replay", "--position", "8")["tables"]

    assert isinstance(first, dict)
    assert isinstance(other, dict)
    assert first == again
    assert 2 == first["landmarks"]["rows"]
    assert first["channel_info"]["digest"] != other["channel_info"]["digest"]


def test_rows_of_a_projection_and_of_a_channel(home: Home) -> None:
    """Named ones only; those of a channel come from its stream alone and are the same."""
    whole = home.document("audit", "replay", "--projection", "channel_info", "--height", str(START + 2))["tables"]
    alone = home.document("audit", "replay", "--channel", home.name[:8], "--height", str(START + 2))["tables"]

    assert isinstance(whole, dict)
    assert isinstance(alone, dict)
    assert ["channel_info"] == list(whole)
    assert whole["channel_info"] == alone["channel_info"]
    assert "landmarks" not in alone
    assert 2 == home.cli("audit", "replay", "--projection", "nothing").exit_code
    assert 2 == home.cli("audit", "replay", "--stream", "c" + "z" * 22).exit_code


def test_rows_are_written_without_what_is_not_public(home: Home, tmp_path: Path) -> None:
    """One document per line, for the owner only; a preimage that nobody has shown stays in the log."""
    out = tmp_path / "then.jsonl"
    result = home.cli("audit", "replay", "--out", str(out))
    rows = [json.loads(line) for line in out.read_text().splitlines()]

    assert 0 == result.exit_code
    assert {"landmarks", "channel_info", "preimages"} <= {row["table"] for row in rows}
    assert [None] == [row["preimage"] for row in rows if row["table"] == "preimages"]
    assert "02" * 32 not in out.read_text()
    assert 0o600 == stat.S_IMODE(out.stat().st_mode)
    assert 2 == home.cli("audit", "replay", "--out", str(out)).exit_code


def test_a_check_names_the_rows_that_do_not_follow(home: Home, live: Path) -> None:
    """70 for a value that was changed, a row that is gone and one too many; 0 for read models as they were left."""
    assert 0 == home.cli("audit", "replay", "--check").exit_code
    connection = sqlite3.connect(live)
    connection.execute("UPDATE channel_info SET balance_a = balance_a + 1")
    connection.execute("DELETE FROM landmarks WHERE height = ?", (START + 1,))
    connection.execute("INSERT INTO moments VALUES (77, 1)")
    connection.commit()
    connection.close()

    document = home.document("audit", "replay", "--check", code=70)
    findings = document["findings"]
    assert isinstance(findings, list)
    found = [finding["sentence"] for finding in findings]
    assert 3 == len(found)
    assert "channel_info" in found[0]
    assert "differs in balance_a" in found[0]
    assert f"landmarks: the live row {block(START + 1).hash.hex()} is missing" == found[1]
    assert "moments: the live row 77 does not follow from the log" == found[2]
    assert 70 == home.cli("audit", "replay", "--check", "--channel", home.name).exit_code
    assert 0 == home.cli("audit", "replay", "--check", "--channel", home.name, "--projection", "closings").exit_code


def test_a_check_without_read_models_is_incomplete(home: Home) -> None:
    """80: nothing was compared; and a point or a file has nothing to do there."""
    assert 80 == home.cli("audit", "replay", "--check").exit_code
    assert 2 == home.cli("audit", "replay", "--check", "--position", "3").exit_code


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE stored_events SET topic = 'zz99' WHERE rowid = 6", "cannot be replayed"),
        ("UPDATE stored_events SET topic = 'zz99' WHERE rowid = 7", "cannot be replayed"),
        (
            "UPDATE stored_events SET originator_id = 'c' || substr(originator_id, 3) || '-' WHERE rowid = 7",
            "cannot be folded",
        ),
    ],
)
def test_a_log_that_cannot_be_folded_ends_with_71(home: Home, tmp_path: Path, damage: str, said: str) -> None:
    """An unknown topic, and a stream that begins in the middle."""
    copy = tmp_path / "tower"
    shutil.copytree(home.tower.data_dir, copy)
    config = copy / "config.toml"
    config.write_text(home.tower.config_path.read_text().replace(str(home.tower.data_dir), str(copy)))
    connection = sqlite3.connect(copy / "events.db")
    for (guard,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {guard}")
    connection.execute(damage)
    connection.commit()
    connection.close()

    result = CliRunner().invoke(_main, ["--config", str(config), "audit", "replay", "--json"])
    assert 71 == result.exit_code, result.output
    assert said in json.loads(result.stdout)["findings"][0]["sentence"]
