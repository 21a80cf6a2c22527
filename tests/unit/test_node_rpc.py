"""The adapter's decoding, with replies given directly: exact amounts, byte order, and typed refusal of the rest."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from decimal import Decimal
from threading import Semaphore
from typing import Any

import pytest

from domain.chain import display, double_sha256, from_display, make_outpoint, outpoint_txid, outpoint_vout
from domain.fees import Market
from watchtower.node import rpc
from watchtower.node.checks import ZmqTopicMissing, require_network, require_topics
from watchtower.node.replies import satoshi
from watchtower.node.rpc import BitcoindNode, ZmqNotification
from watchtower.node.transport import RpcRefused
from watchtower.ports import ALLOWED_METHODS, BlockNotAvailable, NodeError, WrongChain

HASH = "00" * 31 + "ab"
OUTPOINT = make_outpoint(from_display(HASH), 1)
Replies = Callable[..., BitcoindNode]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Replies:
    """A node whose calls, batches and texts all give the same reply (an exception is raised)."""

    def make(reply: Any) -> BitcoindNode:
        def give(*_: object, **__: object) -> Any:
            if isinstance(reply, Exception):
                raise reply
            return reply

        node = BitcoindNode("http://127.0.0.1:1", "u", "p")
        for name in ("call", "batch", "call_text"):
            monkeypatch.setattr(node._transport, name, give)
        return node

    return make


@pytest.mark.parametrize(
    ("amount", "expected"),
    [(Decimal("0.00000001"), 1), (Decimal(21000000), 2_100_000_000_000_000), (3, 300_000_000), (0, 0)],
)
def test_amounts_become_exact_satoshi(amount: Decimal | int, expected: int) -> None:
    """No float is on the way."""
    assert expected == satoshi(amount)


@pytest.mark.parametrize(
    "amount", [Decimal("0.000000001"), Decimal(-1), Decimal("1e999"), Decimal("NaN"), 0.5, "1", None, True]
)
def test_other_amounts_are_refused(amount: object) -> None:
    """Parts of a satoshi, negative and absurd amounts, and other types are no amounts."""
    with pytest.raises((ValueError, TypeError, ArithmeticError)):
        satoshi(amount)


@pytest.mark.parametrize(
    ("core", "ours"), [("main", "mainnet"), ("test", "testnet"), ("signet", "signet"), ("testnet4", "testnet4")]
)
def test_networks_have_our_names(answering: Replies, core: str, ours: str) -> None:
    """bitcoind's short names are translated."""
    reply = {
        "chain": core,
        "blocks": 1,
        "headers": 2,
        "bestblockhash": HASH,
        "initialblockdownload": True,
        "pruned": False,
    }

    assert ours == answering(reply).chain_info().network


def test_pruned_height_is_told(answering: Replies) -> None:
    """A pruned node says from where on it has blocks."""
    reply = {"chain": "main", "blocks": 9, "headers": 9, "bestblockhash": HASH, "initialblockdownload": False}

    assert 5 == answering({**reply, "pruned": True, "pruneheight": 5}).chain_info().pruned_height
    assert 0 == answering({**reply, "pruned": False}).chain_info().pruned_height


@pytest.mark.parametrize(
    "reply", [None, [], {}, "x", 7, {"chain": "main"}, {"chain": "main", "blocks": "1", "headers": 1}]
)
def test_chain_info_of_another_shape_is_an_error(answering: Replies, reply: object) -> None:
    """A damaged reply is a typed error that names the method."""
    with pytest.raises(NodeError, match="getblockchaininfo"):
        answering(reply).chain_info()


def test_damaged_hash_is_an_error(answering: Replies) -> None:
    """Hashes have 64 hexadecimal digits."""
    with pytest.raises(NodeError, match="getbestblockhash"):
        answering("abc").best_hash()


def test_unknown_header_is_none_and_other_refusals_raise(answering: Replies) -> None:
    """-5 means unknown; anything else is no answer."""
    unknown, other = RpcRefused("getblockheader", -5, "Block not found"), RpcRefused("getblockheader", -1, "x")

    assert answering([unknown, unknown]).header(b"\0" * 32) is None
    with pytest.raises(RpcRefused):
        answering([other, other]).header(b"\0" * 32)


def test_fault_N8_a_header_of_another_hash_is_a_node_error(answering: Replies) -> None:
    """Bytes that were changed on the way are not taken for the block; nothing behind has to look again."""
    raw = bytes(range(80))
    name = double_sha256(raw)
    known = {"hash": display(name), "height": 5, "chainwork": "0a", "confirmations": 1}

    found = answering([known, raw.hex()]).header(name)
    assert found is not None
    assert raw == found.raw
    for damaged in (raw[:79], bytes(80)):
        with pytest.raises(NodeError, match="another block"):
            answering([known, damaged.hex()]).header(name)


def test_height_above_the_tip_is_none(answering: Replies) -> None:
    """-8 means that the chain is shorter."""
    assert answering(RpcRefused("getblockhash", -8, "Block height out of range")).hash_at(10) is None


def test_pruned_block_is_its_own_error(answering: Replies) -> None:
    """The node knows the block but has no data; an unknown block is another error."""
    with pytest.raises(BlockNotAvailable, match="pruned"):
        answering(RpcRefused("getblock", -1, "Block not available (pruned data)")).block(b"\0" * 32)
    with pytest.raises(RpcRefused):
        answering(RpcRefused("getblock", -5, "Block not found")).block(b"\0" * 32)


@pytest.mark.parametrize("text", [b"0", b"zz", b"\xff"])
def test_damaged_block_text_is_an_error(answering: Replies, text: bytes) -> None:
    """Text that is not hexadecimal gives no bytes."""
    with pytest.raises(NodeError, match="getblock"):
        answering(text).block(b"\0" * 32)


def test_confirmed_transaction_is_not_in_the_mempool(answering: Replies) -> None:
    """A node with -txindex knows confirmed ones too."""
    assert b"\x01" == answering({"hex": "01"}).mempool_transaction(b"\0" * 32)
    assert answering({"hex": "01", "blockhash": HASH}).mempool_transaction(b"\0" * 32) is None


def test_confirmed_spender_is_not_in_the_mempool(answering: Replies) -> None:
    """A node with -txospenderindex names confirmed spenders too."""
    pending = {"txid": display(outpoint_txid(OUTPOINT)), "vout": outpoint_vout(OUTPOINT), "spendingtxid": HASH}
    confirmed = pending | {"blockhash": HASH}

    assert {OUTPOINT: from_display(HASH)} == answering([pending]).mempool_spenders([OUTPOINT])
    assert {} == answering([confirmed]).mempool_spenders([OUTPOINT])


def test_too_few_answers_are_an_error(answering: Replies) -> None:
    """An answer for each question, or none counts."""
    with pytest.raises(NodeError):
        answering([]).mempool_spenders([OUTPOINT])


@pytest.mark.parametrize("replies", ["x", [{"spendingtxid": HASH}], [{"txid": HASH, "vout": 9}], {"a": 1}, [None], 5])
def test_answers_about_other_outpoints_are_an_error(answering: Replies, replies: object) -> None:
    """What does not name the outpoint asked for says nothing about it, not even that nobody spends it."""
    with pytest.raises(NodeError):
        answering(replies).mempool_spenders([OUTPOINT])


@pytest.mark.parametrize("result", [None, "", 5, [HASH], "00" * 31])
def test_only_a_txid_means_accepted(answering: Replies, result: object) -> None:
    """Another answer to a broadcast tells nothing; the responder tries again."""
    with pytest.raises(NodeError):
        answering(result).broadcast(b"\x00")


def test_absent_and_refused_estimates_are_left_out(answering: Replies) -> None:
    """Without data the node gives only errors; with -blocksonly it refuses."""
    policy = {name: Decimal("0.00001") for name in ("mempoolminfee", "minrelaytxfee", "incrementalrelayfee")}
    absent = {"errors": ["Insufficient data"], "blocks": 2}
    refused = RpcRefused("estimatesmartfee", -32603, "Fee estimation disabled")

    market = answering([policy, absent, {"feerate": Decimal("0.000125"), "blocks": 2}, refused]).fee_market([1, 2, 6])

    assert Market(1.0, 1.0, 1.0, ((2, 12.5),)) == market


def test_refused_policy_is_an_error(answering: Replies) -> None:
    """Without the mempool's minimum no fee can be named."""
    with pytest.raises(RpcRefused):
        answering([RpcRefused("getmempoolinfo", -1, "x"), {"feerate": Decimal("0.000125")}]).fee_market([2])


def confirmed_as(number: int) -> dict[str, Any]:
    """What the node says about an output with so many confirmations."""
    return {"value": Decimal(1), "scriptPubKey": {"hex": "51"}, "confirmations": number, "bestblock": HASH}


def test_answers_of_many_requests_come_in_the_order_of_the_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several requests are under way at once; each closes the connection that it opened in its thread."""
    outpoints = [make_outpoint(bytes(32), vout) for vout in range(5)]
    node, closed = BitcoindNode("http://127.0.0.1:1", "u", "p"), Semaphore(0)
    monkeypatch.setattr(rpc, "BATCH", 2)
    monkeypatch.setattr(node._transport, "batch", lambda calls, _: [confirmed_as(call[1][1]) for call in calls])
    monkeypatch.setattr(node._transport, "close", closed.release)

    found = node.utxos(outpoints, include_mempool=False)

    assert [0, 1, 2, 3, 4] == [utxo.confirmations for utxo in found if utxo is not None]
    assert [True, True, True, False] == [closed.acquire(blocking=False) for _ in range(4)]


def test_one_failed_request_of_many_fails_them_all(monkeypatch: pytest.MonkeyPatch, answering: Replies) -> None:
    """No answer is made of the others."""
    monkeypatch.setattr(rpc, "BATCH", 1)

    with pytest.raises(NodeError, match="gone"):
        answering(NodeError("gone")).utxos([OUTPOINT] * 3, include_mempool=False)


def test_utxo_batch_with_a_refusal_is_an_error(answering: Replies) -> None:
    """One refused question makes the whole answer unusable."""
    with pytest.raises(RpcRefused):
        answering([RpcRefused("gettxout", -1, "x")]).utxos([OUTPOINT], include_mempool=False)


def test_allowed_methods_are_the_documented_whitelist() -> None:
    """The list that operators put into `rpcwhitelist`."""
    documented = (
        "getbestblockhash,getblockchaininfo,getnetworkinfo,getpeerinfo,getzmqnotifications,getblockhash,getblockheader,"
        "getblock,getblockfrompeer,getrawmempool,getmempoolinfo,getmempoolentry,gettxspendingprevout,getrawtransaction,"
        "gettxout,testmempoolaccept,sendrawtransaction,submitpackage,estimatesmartfee"
    )

    assert documented == ",".join(ALLOWED_METHODS)


def test_adapter_calls_only_allowed_methods() -> None:
    """Every RPC name in the adapter's source is on the list."""
    named = re.findall(r'(?:_call|call_text)\(\s*"(\w+)"|\("(get\w+)", \(', inspect.getsource(rpc))

    used = {first or second for first, second in named}
    assert 13 <= len(used)
    assert used <= set(ALLOWED_METHODS)


def test_wrong_network_and_wrong_genesis_are_refused(answering: Replies, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a node on another network nor another chain of the same name is followed."""
    reply = {
        "chain": "main",
        "blocks": 9,
        "headers": 9,
        "bestblockhash": HASH,
        "initialblockdownload": False,
        "pruned": False,
    }
    node = answering(reply)

    with pytest.raises(WrongChain, match=r"follows mainnet.*set to testnet"):
        require_network(node, "testnet")
    monkeypatch.setattr(node, "hash_at", lambda _height: from_display(HASH))
    with pytest.raises(WrongChain, match="block 0"):
        require_network(node, "mainnet")


def test_missing_topic_is_named_with_its_line() -> None:
    """The error is what has to be written into bitcoin.conf, with the address where the tower listens."""
    published = [ZmqNotification("pubsequence", "tcp://127.0.0.1:1", 1000)]
    addresses = {"sequence": "tcp://127.0.0.1:1", "rawtx": "tcp://127.0.0.1:2"}

    with pytest.raises(ZmqTopicMissing, match=r"zmqpubrawtx=tcp://127\.0\.0\.1:2$"):
        require_topics(published, addresses)
    require_topics([*published, ZmqNotification("pubrawtx", "tcp://127.0.0.1:1", 1000)], addresses)


def test_swapped_addresses_are_named() -> None:
    """Both ports are alive, so both connections would stand and say nothing: the error names them and where to go."""
    published = [
        ZmqNotification("pubsequence", "tcp://0.0.0.0:1", 1000),
        ZmqNotification("pubrawtx", "tcp://0.0.0.0:2", 1000),
    ]
    swapped = {"sequence": "tcp://127.0.0.1:2", "rawtx": "tcp://127.0.0.1:1"}

    with pytest.raises(ZmqTopicMissing, match=r"node\.zmq_sequence is .*:2, where the node publishes rawtx; .*:1; "):
        require_topics(published, swapped)
    with pytest.raises(ZmqTopicMissing, match=r"node\.zmq_hashblock is .*:1, .* publishes sequence, and .* nowhere"):
        require_topics(published, {"hashblock": "tcp://127.0.0.1:1"})
