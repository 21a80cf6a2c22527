"""C02 where the mempool has really no room left: transactions that pay more fill it to the last byte."""

from __future__ import annotations

import pytest

from domain.chain import make_outpoint
from domain.contract.params import SEGWIT
from domain.transaction import Transaction, TxOut
from domain.units import Side
from tests.regtest.conftest import StartNode
from tests.regtest.contract_stage import open_channel
from watchtower.devnode.regtest import RegtestNode

SMALLEST = "-maxmempool=5"
"""MB; a node takes no smaller limit. Its memory, not its bytes, are counted."""

OUTPUTS, FILLER_FEERATE = 2_200, 10
ENOUGH = 80
"""Fillers of 95 kvB; about thirty fill 5 MB."""


def minimum_feerate(node: RegtestNode) -> float:
    """sat/vB below which the node takes nothing now."""
    return float(node.rpc("getmempoolinfo")["mempoolminfee"]) * 100_000


def fill(node: RegtestNode, wanted: float) -> None:
    """Send large transactions with rising feerates until the node asks for `wanted` sat/vB."""
    spk = b"\x00\x20" + bytes(32)
    outputs = [TxOut(1_000, spk)] * OUTPUTS
    for number in range(ENOUGH):
        node.fund_many(outputs, feerate=FILLER_FEERATE + number)
        if minimum_feerate(node) >= wanted:
            return
    raise AssertionError(f"after {ENOUGH} fillers the node asks for {minimum_feerate(node)} sat/vB")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("options", [{}, {"profile": SEGWIT}], ids=["taproot", "segwit"])
def test_scenario_C02_the_mempool_is_full(start_node: StartNode, options: dict[str, int]) -> None:
    """Alone the commitment is below what the full mempool asks for; with a child on its anchor it is next in line."""
    node = start_node(extra_args=[SMALLEST])
    pair = open_channel(node, **options)
    commitment = pair.commitment(Side.A, 0)
    txid = pair.commitment_txid(Side.A, 0)
    fill(node, wanted=FILLER_FEERATE)

    assert node.test_accept(commitment) == "mempool min fee not met"
    child = node.anchor_child(txid, fee=30_000)
    node.submit_package([commitment, child])
    assert {txid, Transaction.parse(child).txid} <= node.mempool()
    node.mine(1)

    place = node.confirmation(txid)
    assert place is not None
    assert node.height() == place.height
    assert node.is_unspent(make_outpoint(txid, 0))
