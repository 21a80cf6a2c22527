"""Two towers, one log on a PostgreSQL server, one node: takeover by real processes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from domain.chain import display, make_outpoint
from domain.events import PenaltyPrepared
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.test_metrics_node import exposed, values
from tests.regtest.test_service_faults import ask, protected
from tests.support.new_towers import create
from tests.support.postgres import PostgresNotFound, PostgresServer
from tests.support.postgres_logs import migrated
from tests.support.postgres_towers import terms
from tests.support.programs import missing
from tests.support.service import Run, ServiceProcess, settings_for
from watchtower.config import StoreSettings
from watchtower.devnode.launch import free_ports
from watchtower.devnode.regtest import RegtestNode
from watchtower.new_tower import NewTower
from watchtower.store.postgres.event_store import open_server_reader
from watchtower.telemetry.catalog import PROJECTIONS

STANDBY = {"STATE_CHANNEL_STORE__STANDBY": "true"}
TAKEOVER_SECONDS = 30.0
"""Far above what a takeover takes on a quiet machine: tests share theirs."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A server for the tests of this file."""
    try:
        server = PostgresServer.start()
    except PostgresNotFound as error:
        missing(error)
    yield server
    server.close()


@pytest.fixture
def log_url(postgres: PostgresServer) -> Iterator[str]:
    """Address of a migrated database without a log."""
    name = postgres.create_database()
    yield migrated(postgres, name)
    postgres.drop_database(name)


@pytest.fixture
def first(node: RegtestNode, tmp_path: Path, log_url: str) -> NewTower:
    """A new tower whose log is on the server."""
    place = tmp_path / "first"
    return create(place, place / "config.toml", "regtest", settings_for(node), store=StoreSettings(url=log_url))


def twin_of(made: NewTower, place: Path) -> tuple[NewTower, dict[str, str]]:
    """The files of another tower with the same keys, and the environment of its process: it stands by.

    To be made before the first one runs, which replaces files while they would be copied.
    """
    shutil.copytree(made.data_dir, place, ignore=shutil.ignore_patterns("*.db*", "reserve*", "*.lock"))
    api, admin = free_ports(2)
    environ = STANDBY | {
        "STATE_CHANNEL_DATA_DIR": str(place),
        "STATE_CHANNEL_API__LISTEN": f"127.0.0.1:{api}",
        "STATE_CHANNEL_ADMIN__LISTEN": f"127.0.0.1:{admin}",
    }
    twin = msgspec.structs.replace(
        made, data_dir=place, config_path=place / "config.toml", token_path=place / made.token_path.name
    )
    return twin, environ


def standing_by(run: Run, made: NewTower, environ: Mapping[str, str]) -> ServiceProcess:
    """A running standby that follows."""
    service = run(made.config_path, environ)
    service.wait_for("standby_began")
    return service


def soon(holds: Callable[[], bool]) -> bool:
    """Whether something comes true within some seconds."""
    for _ in range(600):
        if holds():
            return True
        time.sleep(0.05)
    return False


def shows_the_end(service: ServiceProcess) -> bool:
    """Whether its read models say that they are at the end of its log; else it would alarm as long as it stands by."""
    shown = exposed(service)
    (last,) = (sample.value for sample in shown["event_store_notification_id"].samples)
    return last > 0 and dict.fromkeys(PROJECTIONS, last) == values(shown["projection_position"], "projection")


def test_fault_takeover_with_a_breach_in_the_middle(
    node: RegtestNode, first: NewTower, run: Run, tmp_path: Path, log_url: str
) -> None:
    """The leader is killed as the breach appears: the standby takes over within seconds and its penalty confirms.

    The channel was registered while it stood by: events, read models and the key came by themselves.
    """
    twin, environ = twin_of(first, tmp_path / "twin")
    leader = run(first.config_path)
    leader.wait_watching()
    standby = standing_by(run, twin, environ)
    pair = protected(node, leader, first)
    before, follows = standby.ready(), soon(lambda: shows_the_end(standby))
    stale = pair.commitment(Side.A, 1)

    leader.kill()
    killed = time.monotonic()
    node.generate_block([stale])
    penalty = node.wait_spender(make_outpoint(Transaction.parse(stale).txid, 0), TAKEOVER_SECONDS)
    seconds = time.monotonic() - killed
    node.mine(1)
    confirmed = standby.wait_for("penalty_confirmed")["txid"]

    assert (False, False) == (before["ready"], before["watching"])
    assert any(reason.startswith("standby: ") for reason in before["reasons"])
    assert follows
    assert display(penalty) == confirmed
    assert seconds < TAKEOVER_SECONDS
    assert [1, 2] == terms(log_url)
    assert 0 == standby.terminate()


def test_fault_the_leader_dies_between_decision_and_broadcast(
    node: RegtestNode, first: NewTower, run: Run, tmp_path: Path, log_url: str
) -> None:
    """The penalty is in the log and nobody has sent it: the standby sends exactly that one."""
    twin, environ = twin_of(first, tmp_path / "twin")
    leader = ServiceProcess(
        first.config_path,
        command=("-m", "tests.support.failing_service", str(first.config_path), "broadcast:before", "kill"),
    )
    try:
        leader.wait_watching()
        standby = standing_by(run, twin, environ)
        pair = protected(node, leader, first)
        stale = pair.commitment(Side.A, 0)
        node.generate_block([stale])
        leader.exit_code()
        penalty = node.wait_spender(make_outpoint(Transaction.parse(stale).txid, 0), TAKEOVER_SECONDS)
        node.mine(1)
        standby.wait_for("penalty_confirmed")
    finally:
        leader.close()

    with open_server_reader(log_url) as reader:
        payloads = [recorded.envelope.payload for recorded in reader.read_log(0, 10_000)]
    assert [penalty] == [payload.txid for payload in payloads if isinstance(payload, PenaltyPrepared)]
    assert 0 == standby.terminate()


def test_fault_the_server_is_away_while_a_channel_is_cheated(
    node: RegtestNode, first: NewTower, run: Run, postgres: PostgresServer
) -> None:
    """A penalty of a channel that this process never loaded goes out without the database; its record comes later."""
    before = run(first.config_path)
    before.wait_watching()
    pair = protected(node, before, first)
    assert 0 == before.terminate()
    service = run(first.config_path)
    service.wait_watching()
    stale = pair.commitment(Side.A, 1)

    postgres.stop()
    try:
        node.generate_block([stale])
        penalty = node.wait_spender(make_outpoint(Transaction.parse(stale).txid, 0), TAKEOVER_SECONDS)
        service.wait_for("readiness_changed", reason="store_unreachable", holds=True)
        alive = service.process.poll()
        ready = service.ready()
    finally:
        postgres.launch()
    service.wait_for("readiness_changed", reason="store_unreachable", holds=False)
    node.mine(1)
    confirmed = service.wait_for("penalty_confirmed")["txid"]

    assert alive is None
    assert not ready["ready"]
    assert display(penalty) == confirmed
    assert soon(lambda: ask(service, first, f"/{pair.channel_id.hex()}")["channel_id"] == pair.channel_id.hex())
    assert 0 == service.terminate()


def test_two_towers_take_turns(node: RegtestNode, first: NewTower, run: Run, tmp_path: Path, log_url: str) -> None:
    """The standby is alive, not ready, refuses clients and follows; each leads when the other one ends or is killed."""
    twin, environ = twin_of(first, tmp_path / "twin")
    leader = run(first.config_path)
    leader.wait_watching()
    standby = standing_by(run, twin, environ)
    node.mine(2)
    answers = {path: standby.get("api", path) for path in ("/healthz", "/readyz", "/v1/channels")}

    assert [200, 503, 503] == [status for status, _ in answers.values()]
    assert b"urn:state-channel:standing-by" in answers["/v1/channels"][1]
    assert soon(lambda: _position(standby) == _position(leader) > 1)
    assert 0 == leader.terminate()
    standby.wait_watching()
    again = standing_by(run, first, STANDBY)
    standby.kill()
    again.wait_watching()
    assert [1, 2, 3] == terms(log_url)
    assert 0 == again.terminate()


def test_a_second_tower_without_standby_ends_with_3(first: NewTower, run: Run, tmp_path: Path) -> None:
    """It says who leads, the first goes on; a standby that is stopped before its turn ends with 0."""
    twin, environ = twin_of(first, tmp_path / "twin")
    leader = run(first.config_path)
    leader.wait_for("leadership_taken")
    second = run(twin.config_path, {**environ, "STATE_CHANNEL_STORE__STANDBY": "false"})

    assert 3 == second.exit_code(60.0)
    assert "another tower leads this log" in second.stderr()
    assert 0 == standing_by(run, twin, environ).terminate()
    leader.wait_watching()


def _position(service: ServiceProcess) -> float:
    text = service.get("admin", "/metrics")[1].decode()
    name = "watchtower_event_store_notification_id "
    return next(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))
