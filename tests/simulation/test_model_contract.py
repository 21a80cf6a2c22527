"""The model's node keeps the contract of the `Node` port (the real one: tests/regtest/test_node_contract.py)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.simulation.chain import ModelChain
from tests.simulation.node import ModelNode
from tests.support.anybody import ANYBODY, COIN_SAT
from tests.support.node_contract import NodeContract, Stage
from tests.support.parties import Pair, open_pair
from watchtower.devnode.purse import Coin


class ModelStage:
    """The model chain under a healthy node without estimates."""

    def __init__(self) -> None:
        self.chain = ModelChain()
        self.port = ModelNode(self.chain)
        self.port.estimates = {}

    def coin(self) -> Coin:
        """See the contract."""
        fresh = self.chain.new_coin(COIN_SAT)
        return self.chain.give_coin(fresh.outpoint, COIN_SAT, ANYBODY)

    def mine(self, raws: Sequence[bytes] | None = None) -> bytes:
        """See the contract."""
        return self.chain.mine(raws).hash

    def roll_back(self, depth: int) -> None:
        """See the contract."""
        self.chain.roll_back(depth)

    def open_channel(self) -> Pair:
        """See the contract."""
        pair = open_pair(self.chain.mint, challenge_period=2)
        pair.updates(2)
        self.chain.mine([pair.funding.raw])
        return pair


@pytest.fixture
def stage() -> Stage:
    """A new chain."""
    return ModelStage()


class TestModelNode(NodeContract):
    """All of the contract."""
