"""`watchtower breach` and `watchtower status` on a log that holds a breach: names that other commands take."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from domain.classifier import classify
from domain.events import Source, envelopes
from domain.spending import spend_seen
from domain.transaction import Transaction
from domain.units import Side
from tests.support.new_towers import create
from tests.support.parties import Pair, open_pair
from tests.support.towers import TIP, Bench
from watchtower.cli import _main, events, main
from watchtower.config import load
from watchtower.doctor.overview import open_now
from watchtower.new_tower import NewTower
from watchtower.store.create import open_reader, open_store
from watchtower.store.rebuild import rebuild


@pytest.fixture(scope="module")
def pair() -> Pair:
    """A channel in state 2."""
    pair = open_pair()
    pair.updates(2)
    return pair


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory, pair: Pair) -> NewTower:
    """A tower that does not run; its log ends with A's revoked state 0 in the mempool."""
    tmp_path = tmp_path_factory.mktemp("cli")
    tower = create(tmp_path / "tower", tmp_path / "tower" / "config.toml", "regtest")
    store = open_store(tower.data_dir / "events.db")
    bench = Bench(tmp_path, store=store)  # type: ignore[arg-type]
    bench.registered(pair)
    for number in (1, 2):
        bench.services.accept_state(pair.channel_id.hex(), pair.update_request(Side.B, number))
    raw, stream = pair.commitment(Side.A, 0), bench.context.channels.stream_of(pair.params.proposal_id)
    channel, tx = bench.context.channels.load(stream), Transaction.parse(pair.commitment(Side.A, 0))
    verdict = classify(channel, tx, None)
    events = spend_seen(channel, tx, raw, verdict, Source.MEMPOOL, TIP, bench.clock.wall_microseconds())
    store.append(envelopes(stream, channel.version, events))
    bench.rows.close()
    store.close()
    return tower


def cli(tower: NewTower, *words: str) -> Result:
    """A command on this tower."""
    return CliRunner().invoke(_main, ["--config", str(tower.config_path), *words])


def document(tower: NewTower, *words: str) -> Any:
    """Its document."""
    return json.loads(cli(tower, *words, "--json").stdout)


def test_a_listed_breach_leads_to_its_channel(tower: NewTower, pair: Pair) -> None:
    """The channel is named as in the list of channels; the document has the stream of the log, too."""
    (listed,) = document(tower, "breach", "list")["breaches"]
    (channel,) = document(tower, "channel", "list")["channels"]
    cells = cli(tower, "breach", "list").stdout.splitlines()[1].split()

    assert pair.channel_id.hex() == listed["channel_id"] == channel["channel_id"]
    assert channel["stream"] == listed["stream"]
    assert [pair.commitment_txid(Side.A, 0)[::-1].hex()[:16], pair.channel_id.hex()[:16]] == cells[:2]
    assert channel == document(tower, "channel", "show", cells[1])


@pytest.mark.parametrize("name", ["channel_id", "stream", "commit_txid"])
def test_a_breach_is_shown_by_any_of_its_names(tower: NewTower, pair: Pair, name: str) -> None:
    """The beginning of the channel's id, of its stream's name, or of the txid."""
    (listed,) = document(tower, "breach", "list")["breaches"]

    shown = document(tower, "breach", "show", listed[name][:10])

    assert listed == {field: value for field, value in shown.items() if field != "events"}
    assert pair.channel_id.hex() == shown["channel_id"]


def test_the_overview_names_the_channel(tower: NewTower, pair: Pair) -> None:
    """`status` and `top` show what the lists show."""
    views = tower.data_dir / "views.db"
    with open_reader(Path(tower.data_dir) / "events.db") as log:
        rebuild(views, log)

    (line,) = open_now(load({}, config_path=str(tower.config_path), flags={}).settings, TIP)

    assert pair.channel_id.hex() == line.channel_id


def program(monkeypatch: pytest.MonkeyPatch, tower: NewTower, *words: str) -> int | str | None:
    """Exit code of the console script."""
    monkeypatch.setattr(sys, "argv", ["watchtower", "--config", str(tower.config_path), *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_a_file_that_cannot_be_written_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tower: NewTower
) -> None:
    """On stderr, without a traceback."""
    code = program(monkeypatch, tower, "audit", "export", "--out", "/dev/null/x")

    assert (1, "") == (code, capsys.readouterr().out)


def test_what_is_wrong_with_a_file_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tower: NewTower
) -> None:
    """Its name and the system's words."""
    program(monkeypatch, tower, "audit", "replay", "--keep", "/dev/null/x")

    assert "file-error: /dev/null/x" in capsys.readouterr().err


def test_control_c_ends_with_the_code_of_a_signal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tower: NewTower
) -> None:
    """Without a word: a stream of events has no other end."""

    def interrupted(_log: object, _after: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(events, "_wait", interrupted)

    assert 130 == program(monkeypatch, tower, "events", "tail")
    assert ("", "") == capsys.readouterr()
