"""The service as a real process against a real node: start, readiness, refusals, end."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.regtest.conftest import StartNode
from tests.support.new_towers import create
from tests.support.service import ROOT, Run, settings_for
from watchtower.cli.init import bitcoind_lines
from watchtower.devnode.regtest import RegtestNode
from watchtower.new_tower import NewTower

SIX = {
    "STATE_CHANNEL_NETWORK": "mainnet",
    "STATE_CHANNEL_TIMEOUT_MS": "30000",
    "STATE_CHANNEL_CHALLENGE_PERIOD": "144",
    "STATE_CHANNEL_FUNDING_THRESHOLD": "10000",
    "STATE_CHANNEL_MAX_VALUE": "100000000",
    "STATE_CHANNEL_TAPROOT_ENABLED": "true",
}


def test_it_watches_follows_and_ends_with_0(node: RegtestNode, tower: NewTower, run: Run) -> None:
    """From start to the tip, one block further, and an orderly end on SIGTERM."""
    service = run(tower.config_path, {"STATE_CHANNEL_LOG__LEVEL": "debug"})
    service.wait_watching()
    status, body = service.get("api", "/readyz")
    node.mine(1)
    service.wait_for("block_connected", height=node.height())
    metrics = service.get("admin", "/metrics")[1].decode()
    assert (200, True) == (status, json.loads(body)["watching"])
    assert 'watchtower_phase{phase="watching"} 1.0' in metrics
    assert 'network="regtest"' in metrics
    assert 0 == service.terminate()


def test_a_stop_ends_event_streams(tower: NewTower, run: Run) -> None:
    """Somebody who follows events does not keep the service from an orderly end."""
    service = run(tower.config_path)
    service.wait_watching()
    headers = {"Authorization": f"Bearer {tower.token_path.read_text().strip()}"}
    with (
        httpx.Client(base_url=f"http://{service.address('api')}", headers=headers, timeout=60) as http,
        http.stream("GET", "/v1/events?after=0") as stream,
    ):
        lines = stream.iter_lines()
        first = next(lines)
        code = service.terminate()

    assert ": still here" == first
    assert 0 == code


def test_a_second_instance_ends_with_3(tower: NewTower, run: Run) -> None:
    """One tower per store: the second says who holds it, the first goes on."""
    first = run(tower.config_path)
    first.wait_watching()
    second = run(tower.config_path)
    assert 3 == second.exit_code()
    assert str(first.process.pid) in second.stderr()
    assert first.ready()["watching"]


def test_a_killed_tower_catches_up_after_its_restart(node: RegtestNode, tower: NewTower, run: Run) -> None:
    """SIGKILL loses nothing: the blocks of its absence are processed before it watches again."""
    first = run(tower.config_path)
    first.wait_watching()
    first.kill()
    node.mine(5)
    second = run(tower.config_path)
    second.wait_watching()
    assert f"watchtower_chain_processed_height {node.height()}.0" in second.get("admin", "/metrics")[1].decode()


def test_the_six_documented_variables_and_a_node_on_another_chain(node: RegtestNode, tmp_path: Path, run: Run) -> None:
    """Exactly the documented lines are taken; a mainnet tower never trusts a regtest node."""
    made = create(tmp_path / "main", tmp_path / "main" / "config.toml", "mainnet", settings_for(node))
    service = run(made.config_path, SIX)
    service.wait_for("readiness_changed", reason="wrong_chain", holds=True)
    ready = service.ready()
    command = [sys.executable, "-m", "watchtower", "--config", str(made.config_path), "config", "show", "--json"]
    shown = json.loads(subprocess.run(command, env=SIX, cwd=ROOT, capture_output=True, check=True).stdout)
    values = {entry["source"]: entry["value"] for entry in shown.values() if entry["source"] in SIX}
    assert not ready["watching"]
    assert "wrong_chain: The node follows another chain" in ready["reasons"][0]
    assert ["mainnet", 30_000, 144, 10_000, 100_000_000, True] == [values[name] for name in SIX]
    assert 0 == service.terminate()


def test_wrong_credentials_are_said_in_words(node: RegtestNode, tmp_path: Path, run: Run) -> None:
    """The reason names the refusal and where credentials are set; the password is not in it."""
    changes = {"rpc_user": "tower", "rpc_password": "canary51", "rpc_cookie_path": ""}
    made = create(tmp_path / "t", tmp_path / "t" / "config.toml", "regtest", settings_for(node, **changes))
    service = run(made.config_path)
    line = service.wait_for("readiness_changed", reason="node_unreachable", holds=True)
    assert "401" in line["detail"]
    assert "canary51" not in json.dumps(service.lines)
    assert 0 == service.terminate()


def test_it_waits_for_a_node_that_is_away(node: RegtestNode, tower: NewTower, run: Run) -> None:
    """Without a node it neither ends nor claims to watch; the node's return is noticed."""
    node.stop()
    service = run(tower.config_path)
    service.wait_for("readiness_changed", reason="node_unreachable", holds=True)
    away = service.ready()
    node.launch()
    service.wait_watching()
    assert (True, False) == (away["ready"], away["watching"])
    node.stop()
    service.wait_for("phase_changed", phase="degraded")
    assert 0 == service.terminate()


def test_a_missing_topic_is_said_in_words(start_node: StartNode, tmp_path: Path, run: Run) -> None:
    """The tower polls and watches, and says which line bitcoin.conf needs."""
    node = start_node(zmq_topics=("sequence",))
    made = create(tmp_path / "t", tmp_path / "t" / "config.toml", "regtest", settings_for(node))
    service = run(made.config_path)
    line = service.wait_for("zmq_topic_missing")
    service.wait_for("readiness_changed", reason="zmq_silent", holds=True)
    assert "zmqpubrawtx=" in line["reason"]
    assert node.wait_until(lambda: service.ready()["watching"])  # the silence may be told before the first pass


def test_it_needs_no_more_rights_than_init_asks_for(start_node: StartNode, tmp_path: Path, run: Run) -> None:
    """With the user and the whitelist that `init` prints, everything works."""
    home = tmp_path / "t"
    made = create(home, home / "config.toml", "regtest", {"api": {"listen": "127.0.0.1:0"}})
    lines = [line for line in bitcoind_lines(made.rpcauth, made.rpc_user) if not line.startswith(("zmq", "server"))]
    node = start_node(extra_args=[f"-{line}" for line in lines])
    environ = {
        "STATE_CHANNEL_NODE__RPC_URL": node.rpc_url,
        "STATE_CHANNEL_NODE__ZMQ_SEQUENCE": node.zmq_endpoint,
        "STATE_CHANNEL_NODE__ZMQ_RAWTX": node.zmq_endpoint,
        "STATE_CHANNEL_ADMIN__LISTEN": "127.0.0.1:0",
    }
    service = run(made.config_path, environ)
    service.wait_watching()
    metrics = service.get("admin", "/metrics")[1].decode()
    refused = [line for line in metrics.splitlines() if 'outcome="auth_error"' in line and not line.endswith(" 0.0")]
    assert [] == refused


def test_a_taken_port_is_an_error_before_anything_starts(node: RegtestNode, tmp_path: Path, run: Run) -> None:
    """The message names the setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = settings_for(node) | {"api": {"listen": f"127.0.0.1:{port}"}}
        made = create(tmp_path / "t", tmp_path / "t" / "config.toml", "regtest", settings)
        service = run(made.config_path)
        assert 1 == service.exit_code()
        assert f"api.listen = 127.0.0.1:{port}" in service.stderr()


def test_the_service_manager_is_told(tower: NewTower, tmp_path: Path, run: Run) -> None:
    """READY only when it watches, STOPPING at the end, and signs of life between."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(60)
        service = run(tower.config_path, {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"})
        heard = hear(manager, "READY=1")
        service.wait_watching()
        with ThreadPoolExecutor(1) as pool, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            # The queue has room for ten messages, and whoever sends one more waits: somebody has to read to the end.
            rest = pool.submit(hear, manager, "over")
            code = service.terminate()
            own.sendto(b"over", path)
            ending = rest.result(60)
    assert 0 == code
    assert "WATCHDOG=1" in heard
    assert any(message.startswith("STATUS=watching at height") for message in heard)
    assert "STOPPING=1" in ending


def hear(manager: socket.socket, last: str) -> list[str]:
    """What a service manager is told, up to this message."""
    heard = [manager.recv(200).decode()]
    while heard[-1] != last:
        heard.append(manager.recv(200).decode())
    return heard
