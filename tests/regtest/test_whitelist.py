"""The RPC user of the documentation is enough for the whole service; and an operator's commands on a living tower."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from domain.chain import make_outpoint
from tests.support.commands import ROOT
from tests.support.live_tower import LiveTower, live_tower
from watchtower.devnode.launch import free_ports
from watchtower.devnode.provision import Found
from watchtower.devnode.regtest import RegtestNode
from watchtower.new_tower import rpcauth_line
from watchtower.ports import ALLOWED_METHODS

USER, PASSWORD = "tower", "wl-canary-91"

UNUSED = {
    "getpeerinfo": "whom to ask for a block that a pruned node has removed",
    "getblockfrompeer": "brings such a block back",
    "getrawmempool": "only `watchtower doctor`: how often the mempool changed while nothing was heard",
    "getmempoolentry": "the fee of somebody else's transaction, in a contest of fees",
    "submitpackage": "a commitment that left the mempool, together with the penalty",
    "getrawtransaction": "a spend that nobody brought: after a restart or without notifications",
}
"""Methods that a short life may do without, and what they are for."""


def called(node: RegtestNode) -> set[str]:
    """Methods that the tower's user has called, as the node's own log says."""
    log = (node.datadir / "regtest" / "debug.log").read_text()
    return set(re.findall(rf"ThreadRPCServer method=(\w+) user={USER}\b", log))


def refused(node: RegtestNode) -> list[str]:
    """What the node refused to the tower's user."""
    log = (node.datadir / "regtest" / "debug.log").read_text()
    return re.findall(rf"RPC User {USER} not allowed to call method (\w+)", log)


def command(live: LiveTower, *arguments: str) -> subprocess.Popen[str]:
    """A command of the operator, beside the tower."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STATE_CHANNEL_")}
    words = [sys.executable, "-m", "watchtower", "--config", str(live.made.config_path), *arguments]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=clean, stdin=subprocess.DEVNULL
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and stdout."""
    told, _ = process.communicate(timeout=120)
    return process.returncode, told


def mine_during(live: LiveTower, process: subprocess.Popen[str]) -> None:
    """Blocks until it ends, a few each second: it listens for some time, and that may begin late."""
    while process.poll() is None:
        live.mine(1)
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.2)


def fixed_ports() -> dict[str, dict[str, Any]]:
    """Addresses that a command can find in the settings."""
    api, admin = free_ports(2)
    return {"api": {"listen": f"127.0.0.1:{api}"}, "admin": {"listen": f"127.0.0.1:{admin}"}}


@pytest.mark.slow
def test_the_whole_service_lives_under_the_documented_whitelist(
    tmp_path: Path, bitcoind_path: Found, prepared_chain: Path
) -> None:
    """Registration, breaches, penalties, a reorganization, a restart, the canary, the doctor: nothing is refused."""
    limits = [f"-rpcauth={rpcauth_line(USER, PASSWORD, '00' * 16).partition('=')[2]}", "-rpcwhitelistdefault=0"]
    limits += [f"-rpcwhitelist={USER}:{','.join(ALLOWED_METHODS)}", "-debug=rpc"]
    chosen = fixed_ports() | {"node": {"rpc_user": USER, "rpc_password": PASSWORD, "rest_url": ""}}
    with live_tower(
        tmp_path, binary=bitcoind_path, prepared=prepared_chain, node_options=limits, settings=chosen
    ) as live:
        first, second, third = live.open_channels(3, updates=2)
        live.breach(first)
        live.mine(1)
        live.wait_status(first, "PUNISHED")
        live.breach(second, in_block=True)
        live.mine(1)
        live.wait_status(second, "PUNISHED")
        live.node.reorg(2)
        live.wait_height()
        live.close_together(third)
        live.mine(1)
        live.restart()
        live.mine(1)
        live.process.wait_for("canary_passed", height=live.node.height())
        by_service = called(live.node)
        stages = [line for line in live.metrics().splitlines() if line.startswith("watchtower_canary_failures_total{")]
        examining = command(live, "doctor", "--json", "--seconds", "20")
        mine_during(live, examining)
        code, told = ended(examining)
        withheld = refused(live.node)

    findings = {each["check"]: each for each in json.loads(told)["findings"]}
    assert ["uptime"] == withheld  # the doctor's own trial of what is not on the list
    assert set() == by_service - set(ALLOWED_METHODS)
    assert set() == set(ALLOWED_METHODS) - by_service - set(UNUSED)
    assert set(UNUSED) <= set(ALLOWED_METHODS)
    assert [] == [line for line in stages if not line.endswith(" 0.0")]
    assert 0 == code
    assert [] == [each for each in findings.values() if each["level"] == "fail"]
    assert {"ok"} == {findings[f"rights.{name}"]["level"] for name in ("methods", "surplus")}
    assert "ok" == findings["zmq.delivered"]["level"]
    assert "messages come" in findings["zmq.delivered"]["what"]
    assert "a tower answers" in findings["listeners.api"]["what"]
    assert PASSWORD not in told


@pytest.mark.slow
def test_an_operator_sees_a_breach_in_every_command(tmp_path: Path, bitcoind_path: Found, prepared_chain: Path) -> None:
    """health, status, top, breach, events: beside a living tower with an open breach, and after its end."""
    with live_tower(tmp_path, binary=bitcoind_path, prepared=prepared_chain, settings=fixed_ports()) as live:
        (pair,) = live.open_channels(1, updates=2)
        txid = live.breach(pair, in_block=True)
        penalty = live.node.wait_spender(make_outpoint(txid, 0))[::-1].hex()
        live.until(lambda: live.value('watchtower_breaches_open{stage="broadcast"}') == 1)  # the node has it before
        asked = {
            name: command(live, *name.split(), "--json")
            for name in (
                "health",
                "health --ready",
                "status",
                "top",
                "breach list",
                f"breach show {txid[::-1].hex()[:8]}",
            )
        }
        answers = {name: ended(process) for name, process in asked.items()}
        tail = command(live, "events", "tail", "--from", "1", "--count", "10")
        lines = [json.loads(line) for line in ended(tail)[1].splitlines()]
        drawn = ended(command(live, "top", "--once"))[1]
        live.process.terminate()
        away = {name: ended(command(live, name))[0] for name in ("health", "status", "top")}
        live.node.stop()
        code, told = ended(command(live, "doctor", "--json", "--seconds", "1"))

    documents = {name: json.loads(told) for name, (_, told) in answers.items()}
    assert {0} == {code for code, _ in answers.values()}
    assert documents["health --ready"]["watching"]
    for name in ("status", "top"):
        assert ("watching", 1) == (documents[name]["phase"], len(documents[name]["breaches"]))
        assert 23 == documents[name]["breaches"][0]["left"]
    listed = documents["breach list"]["breaches"][0]
    assert (txid[::-1].hex(), penalty, "broadcast", 23) == tuple(
        listed[name] for name in ("commit_txid", "penalty_txid", "answer", "blocks_left")
    )
    shown = documents[next(name for name in documents if name.startswith("breach show"))]
    assert pair.channel_id.hex() == shown["channel_id"]
    assert "BreachDetected" in {event["kind"] for event in shown["events"]}
    assert list(range(1, 11)) == [line["id"] for line in lines]
    assert "PROTECTED" in drawn
    assert "open breaches" in drawn
    assert {"health": 4, "status": 4, "top": 4} == away
    assert (4, "fail") == (
        code,
        {each["check"]: each for each in json.loads(told)["findings"]}["node.reachable"]["level"],
    )
