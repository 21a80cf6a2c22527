"""The proxies themselves: they pass everything on, and break exactly what they are told to."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import zmq

from domain.events import BroadcastOutcome
from tests.support.rpc_proxy import Break, RpcProxy
from tests.support.zmq_proxy import Message, ZmqProxy
from watchtower.devnode.regtest import RegtestNode
from watchtower.node import transport
from watchtower.node.rpc import BitcoindNode
from watchtower.ports import NodeError, NodeUnavailable, NodeWarmingUp

SPK = b"\x51\x20" + b"\x22" * 32


@pytest.fixture
def proxy(node: RegtestNode) -> Iterator[RpcProxy]:
    """In front of the node."""
    with RpcProxy(node.rpc_url) as between:
        yield between


def adapter(node: RegtestNode, proxy: RpcProxy, *, rest: bool = False, seconds: float = 10.0) -> BitcoindNode:
    """The tower's adapter behind the proxy."""
    rest_url = proxy.rest_url if rest else None
    return BitcoindNode(proxy.url, cookie_path=node.cookie_path, rest_url=rest_url, seconds=seconds)


def test_everything_passes(node: RegtestNode, proxy: RpcProxy) -> None:
    """Single calls, batches and REST come back as from the node, over one connection."""
    ours = adapter(node, proxy, rest=True)
    tip = node.tip()
    header = ours.header(tip)
    assert header is not None
    assert (tip, node.block(tip), node.height()) == (ours.best_hash(), ours.block(tip), header.height)
    assert ["getblockheader", "getblockheader", "getbestblockhash", "getblock"] == [
        line.method for line in proxy.transcript
    ]


def test_a_lost_answer_leaves_its_effect(node: RegtestNode, proxy: RpcProxy) -> None:
    """`fail_after`: the transaction is in the mempool and the caller knows nothing; `fail_before`: it is not."""
    ours = adapter(node, proxy)
    lost, kept_back = node.fund(SPK, 50_000, broadcast=False), node.fund(SPK, 60_000, broadcast=False)
    after = proxy.fail_after("sendrawtransaction", times=1)
    with pytest.raises(NodeUnavailable):
        ours.broadcast(lost.raw)
    before = proxy.fail_before("sendrawtransaction", times=1)
    with pytest.raises(NodeUnavailable):
        ours.broadcast(kept_back.raw)
    assert {lost.txid} == node.mempool()
    assert (1, 1) == (after.hits, before.hits)
    assert BroadcastOutcome.ACCEPTED is ours.broadcast(kept_back.raw).outcome


def test_one_entry_of_a_batch_is_changed(node: RegtestNode, proxy: RpcProxy) -> None:
    """`error` and `replace` leave the other entries of a batch alone."""
    ours = adapter(node, proxy)
    proxy.error(-8, "no such thing", "estimatesmartfee", times=1)
    proxy.replace(lambda _params, _result: {"feerate": 0.00002}, "estimatesmartfee")
    proxy.replace(lambda _params, result: result | {"mempoolminfee": 0.00003}, "getmempoolinfo")
    market = ours.fee_market([2, 6])
    assert (3.0, ((6, 2.0),)) == (market.minimum, market.estimates)


def test_hang_truncate_status_and_errors(node: RegtestNode, proxy: RpcProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each broken exchange is a typed error, the next one is whole."""
    monkeypatch.setattr(transport, "FIRST_SHARE", 0.1)  # the rest of the time is for a machine that stands still
    ours, hasty = adapter(node, proxy), adapter(node, proxy, seconds=7.0)
    proxy.hang("getbestblockhash", times=2)
    with pytest.raises(NodeUnavailable, match=r"within \d+\.\d s"):
        hasty.best_hash()
    proxy.truncate("getbestblockhash", times=2)  # the first is asked again at once
    with pytest.raises(NodeError):
        ours.best_hash()
    proxy.error(-28, "Loading block index…", "getbestblockhash", times=1)
    with pytest.raises(NodeWarmingUp):
        ours.best_hash()
    proxy.garble(b"{}", "getbestblockhash", times=2)
    with pytest.raises(NodeError):
        ours.best_hash()
    proxy.status(503, times=4)
    with pytest.raises(NodeUnavailable, match="503"):
        ours.best_hash()
    assert node.tip() == ours.best_hash()
    assert [*[Break.HANG] * 2, *[Break.TRUNCATE] * 2, Break.ERROR, *[Break.GARBLE] * 2, *[Break.STATUS] * 4, None] == [
        line.fault for line in proxy.transcript
    ]


def test_something_happens_between_two_calls(node: RegtestNode, proxy: RpcProxy) -> None:
    """`before_call` runs before a call reaches the node."""
    ours = adapter(node, proxy)
    before = ours.best_hash()
    proxy.before_call = lambda method, _params: (node.mine(1), None)[1] if method == "getblockhash" else None
    found = ours.hash_at(node.height() + 1)
    assert found == node.tip()
    assert before != found


def test_a_node_that_is_away_is_away_behind_the_proxy(node: RegtestNode, proxy: RpcProxy) -> None:
    """The proxy drops the connection while there is no node."""
    ours = adapter(node, proxy)
    node.stop()
    with pytest.raises(NodeUnavailable):
        ours.best_hash()
    node.launch()
    assert node.tip() == ours.best_hash()


QUIET_MS = 150
"""So long nothing more has to come behind what was waited for."""


def heard(socket: zmq.Socket[bytes], count: int) -> list[Message]:
    """So many messages, and what comes right behind them."""
    messages: list[Message] = []
    while socket.poll(30_000 if len(messages) < count else QUIET_MS):
        topic, body, number = socket.recv_multipart()
        messages.append(Message(topic, body, int.from_bytes(number, "little")))
    return messages


def heard_of(socket: zmq.Socket[bytes], block_hash: bytes) -> Message:
    """The message about this block; those before it are dropped."""
    messages = heard(socket, 1)
    while messages[-1].body != block_hash[::-1]:
        messages = heard(socket, 1)
    return messages[-1]


MESSAGES_OF_A_BLOCK = 3
"""The block in two topics, its coinbase transaction in one."""

SHUFFLED = 16
"""Blocks; how often the proxy threw its dice before depends on the node, and few blocks would often stay in order."""


def mined_past(node: RegtestNode, between: ZmqProxy) -> None:
    """A block of which the proxy has seen all that the node says."""
    seen = between.seen
    node.mine(1)
    between.wait_seen(seen + MESSAGES_OF_A_BLOCK)


def test_notifications_pass_and_break(node: RegtestNode) -> None:
    """Through, dropped, doubled, shuffled, forged, with a jump, and frozen: each as told."""
    with ZmqProxy(node.zmq_endpoint) as between, zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.SUBSCRIBE, b"hashblock")
        socket.connect(between.endpoint)
        between.wait_subscribed("hashblock")
        node.wait_until(lambda: node.mine(1) and socket.poll(100))  # the node's own subscription takes a moment
        last = heard_of(socket, node.tip()).number
        through = node.mine(1)[0]
        assert [Message(b"hashblock", through[::-1], last + 1)] == heard(socket, 1)
        between.drop(1.0)
        mined_past(node, between)
        assert [] == heard(socket, 0)
        between.drop(0.0)
        between.duplicate(1.0)
        node.mine(1)
        assert [last + 3] * 2 == [message.number for message in heard(socket, 2)]
        between.duplicate(0.0)
        between.shuffle(SHUFFLED * MESSAGES_OF_A_BLOCK)
        node.mine(SHUFFLED)
        shuffled = [message.number - last for message in heard(socket, SHUFFLED)]
        between.shuffle(0)
        in_order = list(range(4, 4 + SHUFFLED))
        assert in_order == sorted(shuffled)
        assert in_order != shuffled
        between.forge("hashblock", bytes(32))
        between.jump("hashblock", 5)
        node.mine(1)
        assert [last + 20, last + 26] == [message.number for message in heard(socket, 2)]
        between.freeze()
        mined_past(node, between)
        assert [] == heard(socket, 0)
        between.thaw()
        between.delay(0.2)
        began = time.monotonic()
        node.mine(1)
        assert [last + 28] == [message.number for message in heard(socket, 1)]
        assert 0.2 <= time.monotonic() - began
