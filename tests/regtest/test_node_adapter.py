"""The adapter against a real bitcoind: every question, every kind of failure, under the documented whitelist."""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from domain.chain import BlockHeader, double_sha256, make_outpoint
from domain.events import BroadcastOutcome
from domain.transaction import Transaction, TxIn, TxOut
from tests.regtest.conftest import StartNode
from tests.support.full_block import ANYONE, mine_full_block
from watchtower.devnode.regtest import RegtestNode
from watchtower.node.blocks import scan_block
from watchtower.node.checks import ZmqTopicMissing, require_network, require_topics
from watchtower.node.rpc import BitcoindNode
from watchtower.node.transport import RpcRefused, RpcTransport
from watchtower.ports import (
    ALLOWED_METHODS,
    BlockNotAvailable,
    NodeAuthError,
    NodeUnavailable,
    NodeWarmingUp,
    WrongChain,
)

SPK = b"\x51\x20" + b"\x22" * 32
UNKNOWN = b"\x77" * 32


def adapter(node: RegtestNode, **options: Any) -> BitcoindNode:
    """The adapter with the node's cookie."""
    return BitcoindNode(node.rpc_url, **{"cookie_path": node.cookie_path, **options})


def rpcauth(user: str, password: str) -> str:
    """The value of `-rpcauth`, as Bitcoin Core's share/rpcauth computes it."""
    salt = "00112233445566778899aabbccddeeff"
    return f"{user}:{salt}${hmac.new(salt.encode(), password.encode(), hashlib.sha256).hexdigest()}"


def test_chain_facts_equal_the_nodes_own(node: RegtestNode) -> None:
    """Tip, heights, headers and blocks come back in internal byte order, over REST and over RPC."""
    ours, over_rest = adapter(node), adapter(node, rest_url=node.rest_url)
    tip, height = node.tip(), node.height()

    info = ours.chain_info()
    assert ("regtest", height, height, tip, False, 0) == (
        info.network,
        info.blocks,
        info.headers,
        info.best_hash,
        info.initial_block_download,
        info.pruned_height,
    )
    assert tip == ours.best_hash() == ours.hash_at(height)
    assert ours.hash_at(height + 1) is None
    assert node.block(tip) == ours.block(tip) == over_rest.block(tip)
    header = ours.header(tip)
    assert header is not None
    assert (tip, height, 1) == (header.hash, header.height, header.confirmations)
    assert BlockHeader.parse(header.raw).prev == header.prev == ours.hash_at(height - 1)


def test_genesis_header_has_no_parent(node: RegtestNode) -> None:
    """Block 0 has 32 zero bytes as its parent."""
    genesis = node.hash_at(0)

    header = adapter(node).header(genesis)

    assert header is not None
    assert (bytes(32), 0, 2) == (header.prev, header.height, header.chainwork)


def test_stale_unknown_and_active_blocks_are_three_cases(node: RegtestNode) -> None:
    """A stale block has -1 confirmations and stays readable, an unknown one has no header and no bytes."""
    ours, stale = adapter(node), node.tip()
    raw = node.block(stale)

    node.reorg(1)

    header = ours.header(stale)
    assert header is not None
    assert -1 == header.confirmations
    assert raw == ours.block(stale)
    assert ours.header(UNKNOWN) is None
    with pytest.raises(RpcRefused, match="-5"):
        ours.block(UNKNOWN)


def test_more_work_has_more_chainwork(node: RegtestNode) -> None:
    """Chainwork is a number that grows with each block."""
    ours = adapter(node)
    before = ours.header(node.tip())

    after = ours.header(node.mine(1)[0])

    assert before is not None
    assert after is not None
    assert 2 == after.chainwork - before.chainwork


def test_pruned_block_is_not_available(start_node: StartNode) -> None:
    """A pruned node knows the header and says that the block is gone; the floor is reported."""
    node = start_node(extra_args=["-prune=1", "-fastprune"])
    node.mine(900)
    node.rpc("pruneblockchain", 600)
    old = node.hash_at(1)

    assert adapter(node).chain_info().pruned_height > 1
    assert adapter(node).header(old) is not None
    for ours in (adapter(node), adapter(node, rest_url=node.rest_url)):
        with pytest.raises(BlockNotAvailable, match="pruned"):
            ours.block(old)


def test_rest_switched_off_falls_back_to_rpc(start_node: StartNode) -> None:
    """A configured REST address that does not answer blocks costs nothing but time."""
    node = start_node(rest=False)

    assert node.block(node.tip()) == adapter(node, rest_url=node.rest_url).block(node.tip())


def test_outputs_in_chain_and_mempool(node: RegtestNode) -> None:
    """Unspent, spent and unknown outputs, with and without the mempool, one answer each."""
    ours = adapter(node)
    coin = node.wallet_coin()
    spend = node.sign(Transaction(2, (TxIn(coin.outpoint, 0xFFFFFFFD),), (TxOut(coin.value - 1_000, SPK),), 0))
    created = make_outpoint(node.send_raw(spend), 0)
    asked = [created, coin.outpoint, make_outpoint(UNKNOWN, 0)]

    with_mempool, chain_only = ours.utxos(asked, include_mempool=True), ours.utxos(asked, include_mempool=False)

    assert with_mempool[0] is not None
    assert (coin.value - 1_000, SPK, 0) == (with_mempool[0].value, with_mempool[0].spk, with_mempool[0].confirmations)
    assert [None, None] == with_mempool[1:]
    assert chain_only[1] is not None
    assert (coin.value, 1, node.tip()) == (chain_only[1].value, chain_only[1].confirmations, chain_only[1].best_block)
    assert (None, None) == (chain_only[0], chain_only[2])


def test_mempool_questions(node: RegtestNode) -> None:
    """Spender, bytes, fee and parents of a mempool transaction; after its block it is gone from there."""
    ours = adapter(node)
    coin = node.wallet_coin()
    first = node.sign(
        Transaction(2, (TxIn(coin.outpoint, 0xFFFFFFFD),), (TxOut(coin.value - 700, node.wallet_spk()),), 0)
    )
    parent = node.send_raw(first)
    second = node.sign(
        Transaction(2, (TxIn(make_outpoint(parent, 0), 0xFFFFFFFD),), (TxOut(coin.value - 1_500, SPK),), 0)
    )
    child = node.send_raw(second)
    many = [coin.outpoint, *(make_outpoint(n.to_bytes(32, "big"), n) for n in range(2_500)), make_outpoint(parent, 0)]

    assert {coin.outpoint: parent, make_outpoint(parent, 0): child} == ours.mempool_spenders(many)
    assert first == ours.mempool_transaction(parent)
    entry = ours.mempool_entry(child)
    assert entry is not None
    assert (800, Transaction.parse(second).vsize, (parent,)) == (entry.fee, entry.vsize, entry.depends)

    node.mine()
    assert {} == ours.mempool_spenders(many)
    assert (None, None) == (ours.mempool_transaction(parent), ours.mempool_entry(child))


def test_what_the_node_would_take(node: RegtestNode) -> None:
    """`test_accept` says what a broadcast would answer and changes nothing; bytes are found in the mempool only."""
    ours = adapter(node)
    coming, spent = node.fund(SPK, 100_000, broadcast=False), node.fund(SPK, 50_000, broadcast=False)
    before = ours.test_accept(coming.raw)
    unsent = ours.transaction(coming.txid)
    node.send_raw(coming.raw)
    tx = Transaction.parse(spent.raw)
    orphan = Transaction(tx.version, (TxIn(make_outpoint(UNKNOWN, 0), 0),), tx.outputs, 0).serialize()

    assert (BroadcastOutcome.ACCEPTED, None) == (before.outcome, unsent)
    assert coming.raw == ours.transaction(coming.txid)
    assert BroadcastOutcome.ALREADY_KNOWN is ours.test_accept(coming.raw).outcome
    assert BroadcastOutcome.MISSING_INPUTS is ours.test_accept(orphan).outcome
    assert BroadcastOutcome.REJECTED is ours.test_accept(b"").outcome
    assert ours.transaction(UNKNOWN) is None


def test_fees(node: RegtestNode) -> None:
    """Without data there is no estimate; the policy is in sat/vB."""
    ours = adapter(node)

    market = ours.fee_market([1, 6])

    assert () == market.estimates
    assert 0 < market.relay <= market.minimum <= 1
    assert 0 < market.increment <= 1


def test_restart_is_survived_by_the_same_adapter(node: RegtestNode) -> None:
    """N2, N7: down means unavailable; back with a new cookie works without a new adapter."""
    ours = adapter(node, rest_url=node.rest_url)
    tip = ours.best_hash()
    old_cookie = node.cookie_path.read_text()

    node.stop()
    with pytest.raises(NodeUnavailable):
        ours.best_hash()
    node.launch()

    assert old_cookie != node.cookie_path.read_text()
    assert tip == ours.best_hash()
    assert ours.block(tip)


def test_killed_node_with_an_open_connection_is_survived(node: RegtestNode) -> None:
    """N1: the kept connection of a killed node is dead; the next calls are unavailable, then good again."""
    ours = adapter(node)
    ours.best_hash()

    node.kill()
    with pytest.raises(NodeUnavailable):
        ours.best_hash()
    node.launch()

    assert node.tip() == ours.best_hash()


def test_starting_node_is_unavailable_until_it_answers(node: RegtestNode) -> None:
    """N3: refused connections and -28 during the start are the same kind of *later*."""
    ours = adapter(node, seconds=5.0)
    seen: list[type[Exception]] = []
    ready = threading.Event()

    def ask() -> None:
        while not ready.is_set():
            try:
                ours.best_hash()
            except NodeUnavailable as error:
                seen.append(type(error))
        ours.close()

    node.stop()
    thread = threading.Thread(target=ask)
    thread.start()
    node.launch()
    ready.set()
    thread.join(60)

    assert seen
    assert {NodeUnavailable, NodeWarmingUp} >= set(seen)
    assert node.tip() == ours.best_hash()


def test_wrong_password_is_an_auth_error(node: RegtestNode) -> None:
    """Wrong credentials are named, and nothing is said about the password."""
    ours = BitcoindNode(node.rpc_url, "somebody", "hunter2")

    with pytest.raises(NodeAuthError, match="401") as caught:
        ours.best_hash()

    assert "hunter2" not in str(caught.value)


def test_every_question_works_under_the_documented_whitelist(start_node: StartNode) -> None:
    """The restricted RPC user of the documentation is enough for everything, and for nothing else."""
    whitelist = f"-rpcwhitelist=tower:{','.join(ALLOWED_METHODS)}"
    node = start_node(extra_args=[f"-rpcauth={rpcauth('tower', 'se%cr et')}", whitelist, "-rpcwhitelistdefault=0"])
    ours = BitcoindNode(node.rpc_url, "tower", "se%cr et")
    tip, funding = node.tip(), node.fund(SPK, 100_000)
    questions: list[Callable[[], object]] = [
        ours.chain_info,
        ours.best_hash,
        lambda: ours.header(tip),
        lambda: ours.hash_at(1),
        lambda: ours.block(tip),
        lambda: ours.utxos([funding.outpoint], include_mempool=True),
        lambda: ours.mempool_spenders([Transaction.parse(funding.raw).inputs[0].outpoint]),
        lambda: ours.mempool_transaction(funding.txid),
        lambda: ours.transaction(funding.txid),
        lambda: ours.mempool_entry(funding.txid),
        lambda: ours.fee_market([2]),
        lambda: ours.broadcast(funding.raw),
        lambda: ours.submit_package([funding.raw]),
        lambda: ours.test_accept(funding.raw),
        ours.zmq_notifications,
        ours.version,
    ]

    assert all(question() for question in questions)
    with pytest.raises(NodeAuthError, match=r"stop.*rpcwhitelist"):
        RpcTransport(node.rpc_url, "tower", "se%cr et").call("stop")
    assert tip == ours.best_hash()


def test_node_on_another_network_is_refused(node: RegtestNode) -> None:
    """N11: the right network passes, another one is an error that names both."""
    assert node.height() == require_network(adapter(node), "regtest").blocks
    with pytest.raises(WrongChain, match=r"regtest.*signet"):
        require_network(adapter(node), "signet")


def test_required_topics_are_checked(node: RegtestNode, start_node: StartNode) -> None:
    """A node that publishes enough passes; one without `rawtx` does not."""
    addresses = {"sequence": "tcp://127.0.0.1:1", "rawtx": "tcp://127.0.0.1:2"}
    require_topics(adapter(node).zmq_notifications(), addresses)
    silent = start_node(zmq_topics=("sequence",))

    with pytest.raises(ZmqTopicMissing, match="zmqpubrawtx"):
        require_topics(adapter(silent).zmq_notifications(), addresses)


def test_calls_from_many_threads(node: RegtestNode) -> None:
    """Eight threads share one adapter without disturbing each other."""
    ours, tip = adapter(node), node.tip()
    results: list[bytes] = []

    def work() -> None:
        results.extend(ours.best_hash() for _ in range(50))
        ours.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [tip] * 400 == results


def test_megabytes_of_witness_do_not_blind_the_scanner(node: RegtestNode) -> None:
    """N14: a valid block with a witness of 3 MB is fetched and scanned."""
    funding = node.fund(ANYONE, 100_000)
    node.mine()
    witness = (os.urandom(2_000_000), *((b"",) * 70_000), os.urandom(900_000))
    spend = Transaction(2, (TxIn(funding.outpoint, 0, b"", witness),), (TxOut(1_000, SPK),), 0)

    block_hash = node.generate_block([spend.serialize()])

    for ours in (adapter(node), adapter(node, rest_url=node.rest_url)):
        scan = scan_block(ours.block(block_hash), {funding.outpoint})
        assert [spend.txid] == [hit.txid for hit in scan.hits]
        assert block_hash == scan.header.hash


def test_full_block_is_scanned(node: RegtestNode) -> None:
    """Every input of a full block is seen, and the bytes of a hit are the transaction's."""
    full = mine_full_block(node)
    watched = {full.spent[0], full.spent[5_000], full.spent[-1]}

    scan = scan_block(adapter(node, rest_url=node.rest_url).block(full.hash), watched)

    assert (4_193, 9_684) == (scan.tx_count, scan.input_count)
    assert watched == {outpoint for hit in scan.hits for outpoint in hit.outpoints}
    assert [hit.txid for hit in scan.hits] == [Transaction.parse(hit.raw).txid for hit in scan.hits]
    assert all(node.confirmation(hit.txid).position == hit.index for hit in scan.hits)  # type: ignore[union-attr]


def test_scanner_agrees_with_the_nodes_decoder(node: RegtestNode) -> None:
    """Txids, inputs and created outputs of wallet transactions equal `getblock` 2."""
    funding = node.fund_many([TxOut(50_000, SPK), TxOut(60_000, SPK)])
    block_hash = node.mine()[0]

    scan = scan_block(node.block(block_hash), (), [SPK])

    assert [(1, 0, 50_000, funding.txid), (1, 1, 60_000, funding.txid)] == [
        (created.index, created.vout, created.value, created.txid) for created in scan.created
    ]
    decoded = node.rpc("getblock", double_sha256(node.block(block_hash)[:80])[::-1].hex(), 2)
    assert (len(decoded["tx"]), sum(len(tx["vin"]) for tx in decoded["tx"])) == (scan.tx_count, scan.input_count)
