"""The doctor's questions to the node: each defect is named and goes away when it is mended."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from domain.chain import BlockRef
from tests.support.doctoring import ENDPOINT, NOW, SoundNode, doctored, findings, heard, levels
from watchtower.doctor import clock, node, rights, second_node, zmq
from watchtower.doctor.case import Case
from watchtower.doctor.finding import Finding
from watchtower.doctor.needs import Needs
from watchtower.node.hearing import Heard
from watchtower.ports import ALLOWED_METHODS, NodeAuthError, NodeUnavailable, NodeWarmingUp

MAINNET = {"STATE_CHANNEL_NETWORK": "mainnet"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with a configuration and nothing else: these groups read no file of the tower."""
    (tmp_path / "config.toml").write_text(f'network = "regtest"\ndata_dir = "{tmp_path}"\n')
    return tmp_path


def examined(case: Case) -> dict[str, Finding]:
    """Findings of the group `node`."""
    return findings(node.look(case))


def test_a_sound_node_has_no_finding(home: Path) -> None:
    """All groups that ask the node are content."""
    case = doctored(home)

    found = [*node.look(case), *rights.look(case), *clock.look(case), *second_node.look(case)]

    assert {"ok"} == {finding.level for finding in found}
    assert len(found) > 10


DEFECTS: dict[str, tuple[Mapping[str, Mapping[str, Any]], str, str, str]] = {
    "old version": ({"getnetworkinfo": {"version": 279_900}}, "node.version", "fail", "Bitcoin Core 28 or later"),
    "other network": ({"getblockchaininfo": {"chain": "signet"}}, "node.network", "fail", "set network"),
    "downloading": ({"getblockchaininfo": {"initialblockdownload": True}}, "node.synced", "fail", "mine a block"),
    "behind its headers": ({"getblockchaininfo": {"headers": 220}}, "node.synced", "fail", "its peers"),
    "network off": ({"getnetworkinfo": {"networkactive": False}}, "node.peers", "fail", "setnetworkactive true"),
    "blocks only": ({"getnetworkinfo": {"localrelay": False}}, "node.relay", "warn", "blocksonly"),
    "a warning": ({"getnetworkinfo": {"warnings": ["unknown rules"]}}, "node.warnings", "warn", "log"),
    "a warning of old": ({"getnetworkinfo": {"warnings": "unknown rules"}}, "node.warnings", "warn", "log"),
    "policy of Knots": ({"getmempoolinfo": {"truc_policy": "accept"}}, "node.policy", "warn", "corepolicy=1"),
    "high relay fee": ({"getmempoolinfo": {"minrelaytxfee": Decimal("0.0001")}}, "node.relay_fee", "warn", "0.00001"),
    "mempool loading": ({"getmempoolinfo": {"loaded": False}}, "node.mempool", "warn", "wait"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_of_the_node_is_named(home: Path, defect: str) -> None:
    """Its check, how bad it is, and what helps."""
    changes, check, level, words = DEFECTS[defect]

    found = examined(doctored(home, node=SoundNode(changes)))[check]

    assert level == found.level
    assert words in found.mend


@pytest.mark.parametrize(
    ("error", "check", "words"),
    [
        (NodeUnavailable("no answer from 127.0.0.1:18443"), "node.reachable", "start bitcoind"),
        (NodeAuthError("401"), "node.credentials", "rpc_cookie_path"),
        (NodeWarmingUp("Loading block index"), "node.ready", "wait"),
    ],
)
def test_a_node_that_cannot_be_asked_is_one_finding(home: Path, error: Any, check: str, words: str) -> None:
    """Nothing else is said about it, and the other groups that ask it are silent."""
    case = doctored(home, node=SoundNode(down=error))

    found = list(node.look(case))

    assert [(check, "fail")] == [(each.check, each.level) for each in found]
    assert words in found[0].mend
    assert [] == [*rights.look(case), *clock.look(case)]


def test_a_refused_password_is_mended_at_the_password(home: Path) -> None:
    """The advice fits the way in; the password is not in it."""
    environ = {"STATE_CHANNEL_NODE__RPC_USER": "tower", "STATE_CHANNEL_NODE__RPC_PASSWORD": "canary77"}

    found = list(node.look(doctored(home, node=SoundNode(down=NodeAuthError("401")), environ=environ)))

    assert "rpcauth" in found[0].mend
    assert "canary77" not in repr(found)


def test_a_foreign_genesis_block_is_another_network(home: Path) -> None:
    """The name alone does not tell private chains apart."""
    sound = SoundNode()

    def asked(method: str, *params: object) -> Any:
        return "00" * 32 if method == "getblockhash" else sound(method, *params)

    assert "fail" == examined(doctored(home, node=asked))["node.network"].level


@pytest.mark.parametrize(("peers", "level"), [((0, 0), "fail"), ((9, 2), "warn"), ((9, 8), "ok")])
def test_peers_matter_where_there_is_a_network(home: Path, peers: tuple[int, int], level: str) -> None:
    """An isolated mainnet node looks healthy otherwise."""
    changes = {
        "getblockchaininfo": {"chain": "main"},
        "getnetworkinfo": {"connections": peers[0], "connections_out": peers[1]},
    }

    assert level == examined(doctored(home, node=SoundNode(changes), environ=MAINNET))["node.peers"].level


@pytest.mark.parametrize(
    ("lowest", "level"), [(201, "fail"), (150, "warn"), (100, "ok")], ids=["the next block", "a rescan", "enough"]
)
def test_pruning_is_compared_with_what_is_needed(
    home: Path, monkeypatch: pytest.MonkeyPatch, lowest: int, level: str
) -> None:
    """The next block must be there; those since the oldest open funding should be."""
    pruned = {"getblockchaininfo": {"pruned": True, "pruneheight": lowest}}
    needs = Needs(BlockRef(199, bytes(32)), oldest_funding=120, channels=3)
    monkeypatch.setattr("watchtower.doctor.case.needs_of", lambda _settings: needs)

    assert level == examined(doctored(home, node=SoundNode(pruned)))["node.pruning"].level


def test_a_node_behind_the_tower_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node with an old data directory."""
    needs = Needs(BlockRef(260, bytes(32)))
    monkeypatch.setattr("watchtower.doctor.case.needs_of", lambda _settings: needs)

    assert "fail" == examined(doctored(home))["node.synced"].level


# ── rights ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ALLOWED_METHODS)
def test_every_method_that_is_refused_is_named(home: Path, method: str) -> None:
    """The line for bitcoin.conf too; the method is really tried."""
    asked = SoundNode(forbidden={method, "uptime"})

    found = findings(rights.look(doctored(home, node=asked)))["rights.methods"]

    assert "fail" == found.level
    assert f" {method} " in found.what
    assert found.mend.endswith(f": {method}")
    assert method in asked.asked


def test_no_method_is_tried_with_arguments_that_do_something() -> None:
    """Whoever adds a method to the whitelist says how it is tried."""
    assert set(ALLOWED_METHODS) == set(rights.HARMLESS)


def test_a_method_that_the_node_does_not_have_is_named(home: Path) -> None:
    """A node without ZMQ, or an old one."""
    found = findings(rights.look(doctored(home, node=SoundNode(unknown={"getzmqnotifications"}))))["rights.methods"]

    assert ("fail", True) == (found.level, "built with ZMQ" in found.mend)


def test_more_rights_than_needed_are_told_where_money_is(home: Path) -> None:
    """A cookie may empty the node's wallets."""
    free = SoundNode(forbidden=())

    assert "ok" == levels(rights.look(doctored(home, node=free)))["rights.surplus"]
    assert "warn" == levels(rights.look(doctored(home, node=free, environ=MAINNET)))["rights.surplus"]


# ── clock ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("seconds", "level"), [(-86_400, "warn"), (-600, "warn"), (0, "ok")])
def test_a_clock_behind_the_chain_is_told(home: Path, seconds: int, level: str) -> None:
    """Before the median of eleven blocks, or well before the newest."""
    assert level == levels(clock.look(doctored(home, now=NOW + seconds)))["clock.tip"]


@pytest.mark.parametrize(("offset", "words"), [(90, "90 s behind"), (-90, "90 s ahead")])
def test_a_node_whose_peers_have_another_time_is_told(home: Path, offset: int, words: str) -> None:
    """The median of all peers, so that one liar counts for nothing."""
    asked = SoundNode()
    asked.peers = [{"timeoffset": offset}, {"timeoffset": offset}, {"timeoffset": 0}]

    found = findings(clock.look(doctored(home, node=asked)))["clock.peers"]

    assert ("warn", True) == (found.level, words in found.what)


# ── the second node ──────────────────────────────────────────────────────────────────────────────────────

SECOND = {"STATE_CHANNEL_SECOND_NODE__RPC_URL": "http://other:8332", "STATE_CHANNEL_SECOND_NODE__RPC_COOKIE_PATH": "c"}


@pytest.mark.parametrize(
    ("second", "environ", "check", "level"),
    [
        (SoundNode(), {}, "second_node.tip", "ok"),
        (SoundNode({"getblockchaininfo": {"blocks": 205}}), {}, "second_node.tip", "warn"),
        (SoundNode({"getblockchaininfo": {"blocks": 150}}), {}, "second_node.tip", "warn"),
        (SoundNode({"getblockchaininfo": {"chain": "main"}}), {}, "second_node.network", "warn"),
        (SoundNode(down=NodeUnavailable("away")), {}, "second_node.reachable", "warn"),
        (
            SoundNode(),
            {"STATE_CHANNEL_SECOND_NODE__RPC_URL": "http://127.0.0.1:18443"},
            "second_node.reachable",
            "warn",
        ),
    ],
    ids=["well", "ahead", "behind", "other network", "away", "the same"],
)
def test_the_second_node_is_another_one_and_sees(
    home: Path, second: SoundNode, environ: dict[str, str], check: str, level: str
) -> None:
    """It is never a failure: the tower goes on without it."""
    assert level == levels(second_node.look(doctored(home, second=second, environ=SECOND | environ)))[check]


# ── notifications of the node ────────────────────────────────────────────────────────────────────────────


def listened(case: Case, sound: Heard, before: int | None = 100) -> dict[str, Finding]:
    """Findings of the group `zmq` after this was heard."""
    future: Future[Heard] = Future()
    future.set_result(sound)
    return findings(zmq.look(case, future, before))


def test_messages_that_come_are_counted(home: Path) -> None:
    """Published where the tower listens, and delivered."""
    found = listened(doctored(home), heard(sequence=3, rawtx=2))

    assert {"ok"} == {each.level for each in found.values()}
    assert "3 sequence, 2 rawtx" in found["zmq.delivered"].what


def test_a_topic_that_is_not_published_is_told_with_its_line(home: Path) -> None:
    """The line for bitcoin.conf."""
    asked = SoundNode()
    asked.published = asked.published[:1]

    found = listened(doctored(home, node=asked), heard(sequence=1, rawtx=0))

    assert "warn" == found["zmq.published"].level
    assert f"each on a line of its own, `zmqpubrawtx={ENDPOINT}`; restart" in found["zmq.published"].mend


def test_a_port_with_other_topics_is_told(home: Path) -> None:
    """The connection stands there and stays silent."""
    asked = SoundNode()
    asked.published[1] |= {"address": "tcp://127.0.0.1:29999"}

    found = listened(doctored(home, node=asked), heard(sequence=1, rawtx=0))

    assert "rawtx is at tcp://127.0.0.1:29999" in found["zmq.published"].what


def test_a_small_high_water_mark_is_told(home: Path) -> None:
    """Fewer messages than the default are held."""
    asked = SoundNode()
    asked.published[0] |= {"hwm": 10}

    found = listened(doctored(home, node=asked), heard(sequence=1, rawtx=1))["zmq.hwm"]

    assert ("warn", True) == (found.level, "zmqpubsequencehwm=1000" in found.mend)


def test_no_connection_is_told(home: Path) -> None:
    """Nobody listens there, or a firewall is between."""
    found = listened(doctored(home), Heard({"sequence": 0, "rawtx": 0}, frozenset(), 1.0))

    assert ("warn", True) == (found["zmq.connected"].level, ENDPOINT in found["zmq.connected"].what)


def test_silence_of_a_node_with_nothing_to_tell_is_no_defect(home: Path) -> None:
    """The mempool did not change meanwhile, so silence proves nothing; that is said."""
    found = listened(doctored(home), heard(sequence=0, rawtx=0))["zmq.delivered"]

    assert "ok" == found.level
    assert "not seen in 10.0 s; the node had nothing to tell" in found.what


def test_silence_of_a_node_whose_mempool_changes_is_a_defect(home: Path) -> None:
    """Connected, published, and nothing comes: what no other tool finds."""
    asked = SoundNode()
    asked.mempool_sequence = [107]

    found = listened(doctored(home, node=asked), heard(sequence=0, rawtx=0))["zmq.delivered"]

    assert "warn" == found.level
    assert "changed 7 times" in found.what
