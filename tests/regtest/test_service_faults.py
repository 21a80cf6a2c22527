"""The service as a real process while its surroundings fail: node, notifications, disk, signals."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from domain.chain import display, make_outpoint
from domain.events import BreachDetected, PenaltyPrepared, Source
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.world import World
from tests.support.parties import Pair, open_pair
from tests.support.service import Run, ServiceProcess
from watchtower.devnode.launch import free_ports
from watchtower.devnode.regtest import RegtestNode
from watchtower.new_tower import NewTower
from watchtower.wire.hexes import to_json


def ask(service: ServiceProcess, made: NewTower, path: str, body: object = None) -> dict[str, Any]:
    """Answer to an authorized request: a POST if there is a body."""
    headers = {"Authorization": f"Bearer {made.token_path.read_text().strip()}", "Content-Type": "application/json"}
    content = None if body is None else to_json(body)
    request = urllib.request.Request(f"http://{service.address('api')}/v1/channels{path}", content, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        document: dict[str, Any] = json.loads(answer.read())
        return document


def protected(
    node: RegtestNode, service: ServiceProcess, made: NewTower, names: tuple[str, str] = ("alice", "bob")
) -> Pair:
    """A funded channel of B with two updates, watched by the service; state 0 and 1 are revoked."""
    pair = open_pair(lambda spk, amount: node.fund(spk, amount, broadcast=False), names=names)
    name = pair.channel_id.hex()
    ask(service, made, "", pair.registration(Side.B))
    node.send_raw(pair.funding.raw)
    node.mine(1)
    service.wait_for("funding_confirmed")
    node.wait_until(lambda: ask(service, made, f"/{name}/funding")["confirmed"])  # the log line may be faster
    pair.updates(2)
    for sequence in (1, 2):
        ask(service, made, f"/{name}/states", pair.update_request(Side.B, sequence))
    return pair


def test_scenario_N02_node_restart_mid_breach(node: RegtestNode, tower: NewTower, run: Run) -> None:
    """The node comes back without its mempool: the tower sends the same penalty again, and it confirms."""
    service = run(tower.config_path)
    service.wait_watching()
    pair = protected(node, service, tower)
    stale = pair.commitment(Side.A, 1)
    contest = make_outpoint(Transaction.parse(stale).txid, 0)
    node.generate_block([stale])
    first = service.wait_for("penalty_broadcast")["txid"]
    node.stop()
    service.wait_for("phase_changed", phase="degraded")
    node.launch(["-persistmempool=0"])
    again = node.wait_spender(contest)
    node.mine(1)
    confirmed = service.wait_for("penalty_confirmed")["txid"]
    assert first == display(again) == confirmed
    assert 0 == service.terminate()


def test_breach_is_answered_without_any_notification(node: RegtestNode, tower: NewTower, run: Run) -> None:
    """With dead ZMQ addresses the timer finds block and breach."""
    nobody = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    environ = {f"STATE_CHANNEL_NODE__ZMQ_{topic}": nobody for topic in ("SEQUENCE", "RAWTX", "HASHBLOCK")}
    service = run(tower.config_path, environ | {"STATE_CHANNEL_NODE__POLL_SECONDS": "0.5"})
    service.wait_watching()
    pair = protected(node, service, tower)
    stale = pair.commitment(Side.A, 0)
    node.generate_block([stale])
    penalty = node.wait_spender(make_outpoint(Transaction.parse(stale).txid, 0))
    assert display(penalty) == service.wait_for("penalty_broadcast")["txid"]
    assert 0 == service.terminate()


def test_fault_mute_zmq_hides_no_breach_in_the_mempool(node: RegtestNode, tower: NewTower, run: Run) -> None:
    """With dead ZMQ addresses the timer's sweep finds a stale transaction before it is mined."""
    nobody = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    environ = {f"STATE_CHANNEL_NODE__ZMQ_{topic}": nobody for topic in ("SEQUENCE", "RAWTX", "HASHBLOCK")}
    service = run(tower.config_path, environ | {"STATE_CHANNEL_NODE__POLL_SECONDS": "0.5"})
    service.wait_watching()
    pair = protected(node, service, tower)
    stale = pair.commitment(Side.A, 0)
    node.send_raw(stale)
    penalty = node.wait_spender(make_outpoint(Transaction.parse(stale).txid, 0))
    assert penalty in node.mempool()
    assert 0 == service.terminate()


def test_a_stop_during_a_long_catch_up_is_orderly(node: RegtestNode, tower: NewTower, run: Run) -> None:
    """SIGTERM in the middle of 600 missed blocks: code 0 within the promised 20 s, and the next start goes on there."""
    first = run(tower.config_path)
    first.wait_watching()
    first.kill()
    node.mine(600)
    second = run(tower.config_path, {"STATE_CHANNEL_LOG__LEVEL": "debug"})
    seen = second.wait_for("block_connected")["height"]
    assert 0 == second.terminate(20.0)
    third = run(tower.config_path)
    third.wait_watching()
    metrics = third.get("admin", "/metrics")[1].decode()
    assert seen < node.height()
    assert f"watchtower_chain_processed_height {node.height()}.0" in metrics


def test_a_stop_while_the_node_is_away_is_orderly(node: RegtestNode, tower: NewTower, run: Run) -> None:
    """No wait for the node delays the end."""
    node.stop()
    service = run(tower.config_path)
    service.wait_for("readiness_changed", reason="node_unreachable", holds=True)
    assert 0 == service.terminate(20.0)


def test_an_early_breach_is_answered_before_a_long_absence_is_read_to_its_end(world: World) -> None:
    """A pass connects so many blocks and then answers what it has found; the rest follows in the next passes."""
    pair = world.open(updates=2)
    world.stop()
    world.node.generate_block([pair.commitment(Side.A, 0)])
    world.node.mine(12)
    world.blocks_per_pass = 5
    first = world.wake()
    answered, height = len(world.events(pair, PenaltyPrepared)), first.height
    second = world.look()
    third = world.look()
    (breach,) = world.events(pair, BreachDetected)
    assert (1, world.node.height() - 8) == (answered, height)
    assert [True, True, False] == [report.again for report in (first, second, third)]
    assert isinstance(breach, BreachDetected)
    assert breach.source is Source.CATCH_UP
