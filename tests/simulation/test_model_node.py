"""What can be wrong with the model's node: outages, views, missing blocks, lost answers, odd estimates."""

from __future__ import annotations

import pytest

from domain.events import BroadcastOutcome
from domain.transaction import Transaction
from tests.simulation.chain import ModelChain
from tests.simulation.node import ModelNode
from tests.support.anybody import ANYBODY, COIN_SAT, pay
from watchtower.node.blocks import BlockUnparseable, scan_block
from watchtower.ports import Answer, BlockNotAvailable, NodeError, NodeUnavailable


def payment(chain: ModelChain) -> bytes:
    """A transaction that everybody would take."""
    return pay(chain.give_coin(chain.new_coin(COIN_SAT).outpoint, COIN_SAT, ANYBODY), 1_000)


def test_trouble_stops_every_call_without_effect() -> None:
    """A node that is down takes no broadcast; afterwards it does."""
    chain = ModelChain()
    node, raw = ModelNode(chain), payment(chain)
    node.trouble = NodeUnavailable("down")

    with pytest.raises(NodeUnavailable):
        node.broadcast(raw)
    assert {} == chain.mempool.entries

    node.trouble = None
    assert BroadcastOutcome.ACCEPTED is node.broadcast(raw).outcome


def test_a_node_rolled_back_has_forgotten_blocks_and_mempool() -> None:
    """Three blocks are unknown and their spends undone, while the truth is unchanged; afterwards all is there."""
    chain = ModelChain()
    node, raw = ModelNode(chain), payment(chain)
    outpoint = Transaction.parse(raw).inputs[0].outpoint
    chain.mine([raw])
    chain.mine_many(2)
    tip, height = chain.tip.hash, chain.height

    node.roll_back(3)

    assert (height - 3, None, None) == (node.chain_info().blocks, node.header(tip), node.hash_at(height))
    assert node.utxos([outpoint], False)[0] is not None
    assert (height, False) == (chain.height, chain.is_unspent(outpoint))
    node.rejoin()
    assert (tip, [None]) == (node.best_hash(), node.utxos([outpoint], False))


def test_what_an_isolated_node_is_told_reaches_the_others_later() -> None:
    """It sees neither new blocks nor the others' transactions; its own are offered when it is back."""
    chain = ModelChain()
    node, raw = ModelNode(chain), payment(chain)
    txid = Transaction.parse(raw).txid
    node.isolate()
    block = chain.mine()

    node.broadcast(raw)

    assert node.mempool_entry(txid) is not None
    assert {} == chain.mempool.entries
    assert node.header(block.hash) is None
    assert block.prev == node.best_hash()
    node.rejoin()
    assert txid in chain.mempool.entries
    assert block.hash == node.best_hash()


def test_a_lost_answer_had_its_effect() -> None:
    """An error after the call leaves the transaction in the mempool."""
    chain = ModelChain()

    def lose(method: str) -> None:
        raise NodeError(f"{method}: the answer was lost")

    node = ModelNode(chain, after_call=lose)

    with pytest.raises(NodeError, match="lost"):
        node.broadcast(payment(chain))
    assert 1 == len(chain.mempool.entries)


def test_the_chain_may_move_before_a_call() -> None:
    """The hook runs first, so the answer is about the new tip."""
    chain = ModelChain()
    node = ModelNode(chain, before_call=lambda method: chain.mine_many(1))

    assert chain.height + 1 == node.chain_info().blocks


def test_pruned_missing_and_damaged_blocks() -> None:
    """Headers stay; bytes are gone or cut off; peers help with what is missing, and the node reads what we cannot."""
    chain = ModelChain()
    node = ModelNode(chain)
    missing, damaged, old = chain.mine(), chain.mine([payment(chain)]), chain.ledger.blocks[1]
    node.missing.add(missing.hash)
    node.damaged.add(damaged.hash)
    node.prune(10)

    for block in (missing, old):
        assert node.header(block.hash) is not None
        with pytest.raises(BlockNotAvailable):
            node.block(block.hash)
    with pytest.raises(BlockUnparseable):
        scan_block(node.block(damaged.hash), set())

    node.fetch_from_peers(missing.hash)
    assert missing.raw == node.block(missing.hash)
    assert damaged.txids == tuple(tx.txid for tx in node.decoded_block(damaged.hash).transactions[1:])


def test_a_refusal_can_be_put_in_place_of_the_mempools_answer() -> None:
    """An unknown code is answered and the transaction is not taken."""
    chain = ModelChain()
    node, raw = ModelNode(chain), payment(chain)
    odd = Answer(BroadcastOutcome.UNKNOWN, -1, "odd")
    node.refuse = lambda sent: odd if sent == raw else None

    assert [odd, odd] == [node.broadcast(raw), node.submit_package([payment(chain), raw])[1]]
    assert {} == chain.mempool.entries


@pytest.mark.parametrize(
    ("estimates", "expected"),
    [(None, ((1, 7.0), (6, 7.0))), ({}, ()), ({6: 10_000_000.0}, ((6, 10_000_000.0),))],
    ids=["the market's rate", "none", "absurd"],
)
def test_estimates(estimates: dict[int, float] | None, expected: tuple[tuple[int, float], ...]) -> None:
    """By default the going rate; else what the test says."""
    chain = ModelChain()
    node = ModelNode(chain)
    chain.going_rate, node.estimates = 7.0, estimates

    assert expected == node.fee_market((1, 6)).estimates


def test_headers_ahead_and_initial_download_are_told() -> None:
    """A node may know of more headers than it has blocks."""
    chain = ModelChain()
    node = ModelNode(chain)
    node.ahead, node.syncing = 3, True

    info = node.chain_info()

    assert (chain.height, chain.height + 3, True) == (info.blocks, info.headers, info.initial_block_download)
