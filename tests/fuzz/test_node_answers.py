"""Answers of a node: whatever JSON comes, a question ends with an answer of the right form or one typed error."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from domain.chain import from_display, make_outpoint
from tests.fuzz.mutations import read_or_none
from watchtower.node.rpc import BitcoindNode
from watchtower.ports import NodeError

HASH = "00" * 31 + "ab"
TXID = from_display("11" * 32)
OUTPOINT = make_outpoint(TXID, 1)
GOOD: list[Any] = [
    {"chain": "main", "blocks": 9, "headers": 9, "bestblockhash": HASH, "initialblockdownload": False, "pruned": False},
    {"hash": HASH, "height": 7, "previousblockhash": HASH, "confirmations": 3, "time": 5, "nTx": 1},
    [{"value": Decimal("0.5"), "scriptPubKey": {"hex": "51"}, "confirmations": 2, "bestblock": HASH}],
    [{"txid": HASH, "vout": 1, "spendingtxid": HASH}],
    [{"allowed": True, "txid": HASH, "vsize": 100, "fees": {"base": Decimal("0.0001")}}],
    {
        "vsize": 100,
        "fees": {"base": Decimal("0.0001"), "descendant": Decimal(1)},
        "depends": [HASH],
        "ancestorcount": 1,
    },
    [
        {"mempoolminfee": Decimal("0.00001"), "minrelaytxfee": Decimal("0.00001")},
        {"feerate": Decimal("0.0002"), "blocks": 2},
    ],
    [{"type": "pubhashblock", "address": "tcp://127.0.0.1:28332", "hwm": 1000}],
    {
        "version": 290000,
        "subversion": "/Satoshi:29.0.0/",
        "package_msg": "success",
        "tx-results": {HASH: {"txid": HASH}},
    },
    {"hash": HASH, "height": 1, "tx": [{"txid": HASH, "vin": [], "vout": [], "hex": "00"}]},
]
QUESTIONS: dict[str, Callable[[BitcoindNode], object]] = {
    "chain_info": lambda node: node.chain_info(),
    "best_hash": lambda node: node.best_hash(),
    "header": lambda node: node.header(bytes(32)),
    "hash_at": lambda node: node.hash_at(5),
    "block": lambda node: node.block(bytes(32)),
    "decoded_block": lambda node: node.decoded_block(bytes(32)),
    "utxos": lambda node: node.utxos([OUTPOINT], include_mempool=True),
    "mempool_spenders": lambda node: node.mempool_spenders([OUTPOINT]),
    "mempool_transaction": lambda node: node.mempool_transaction(bytes(32)),
    "transaction": lambda node: node.transaction(bytes(32)),
    "test_accept": lambda node: node.test_accept(b"\x01"),
    "mempool_entry": lambda node: node.mempool_entry(bytes(32)),
    "fee_market": lambda node: node.fee_market([2, 6]),
    "broadcast": lambda node: node.broadcast(b"\x01"),
    "broadcast_many": lambda node: node.broadcast_many([b"\x01"]),
    "submit_package": lambda node: node.submit_package([b"\x01", b"\x02"]),
    "zmq_notifications": lambda node: node.zmq_notifications(),
    "version": lambda node: node.version(),
}

plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals()
    | st.text(max_size=70)
    | st.sampled_from([HASH, "ff", "zz"])
)
anything = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


@st.composite
def distorted(draw: st.DrawFn) -> Any:
    """A good answer of which some values are others, or missing."""

    def walk(value: Any) -> Any:
        if draw(st.integers(0, 9)) == 0:
            return draw(anything)
        if isinstance(value, dict):
            return {name: walk(each) for name, each in value.items() if draw(st.integers(0, 9))}
        return [walk(each) for each in value] if isinstance(value, list) else value

    return walk(draw(st.sampled_from(GOOD)))


def asked(name: str, reply: Any) -> object:
    """What the adapter makes of a reply to a question, or of one such reply to each call of a batch."""
    node = BitcoindNode("http://127.0.0.1:1", "u", "p")
    text = json.dumps(reply, default=str).encode()

    def batch(calls: Sequence[object], *_: object) -> list[Any]:
        # The transport matches the answers of a batch by their ids: there is one for each call.
        return reply if isinstance(reply, list) and len(reply) == len(calls) else [reply] * len(calls)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node._transport, "call", lambda *_, **__: reply)
        patch.setattr(node._transport, "batch", batch)
        patch.setattr(node._transport, "call_text", lambda *_, **__: text)
        return QUESTIONS[name](node)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(sorted(QUESTIONS)), reply=distorted() | anything)
@example(name="test_accept", reply=None)
@example(name="test_accept", reply=[])
def test_no_answer_of_the_node_breaks_the_adapter(name: str, reply: Any) -> None:
    """A value, or `NodeError` with a reason; a pass of the tower survives nothing else."""
    read_or_none(lambda each: asked(name, each), reply, (NodeError,))
