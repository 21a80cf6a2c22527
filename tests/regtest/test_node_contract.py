"""The adapter with a real bitcoind keeps the contract of the `Node` port, as the model's node does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.support.anybody import coins_of_anybody
from tests.support.node_contract import NodeContract, Stage
from tests.support.parties import Pair, open_pair
from watchtower.devnode.provision import Found
from watchtower.devnode.purse import Coin
from watchtower.devnode.regtest import RegtestNode
from watchtower.node.rpc import BitcoindNode


class RealStage:
    """One node for all tests: each takes new coins and channels."""

    def __init__(self, node: RegtestNode) -> None:
        self.node = node
        self.port = BitcoindNode(node.rpc_url, cookie_path=node.cookie_path)
        self._coins = coins_of_anybody(node, 40)
        node.mine(12)

    def coin(self) -> Coin:
        """See the contract."""
        return self._coins.pop()

    def mine(self, raws: Sequence[bytes] | None = None) -> bytes:
        """See the contract."""
        return self.node.mine(1)[0] if raws is None else self.node.generate_block(raws)

    def roll_back(self, depth: int) -> None:
        """See the contract."""
        self.node.invalidate(self.node.hash_at(self.node.height() - depth + 1))

    def open_channel(self) -> Pair:
        """See the contract."""
        pair = open_pair(partial(self.node.fund, broadcast=False), challenge_period=2)
        pair.updates(2)
        self.mine([pair.funding.raw])
        return pair


@pytest.fixture(scope="module")
def shared(bitcoind_path: Found, prepared_chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealStage]:
    """A node for the whole module."""
    node = RegtestNode.start(
        tmp_path_factory.mktemp("contract") / "node", prepared=prepared_chain, binary=bitcoind_path
    )
    yield RealStage(node)
    node.close()


@pytest.fixture
def stage(shared: RealStage) -> Iterator[Stage]:
    """The shared stage; what a test leaves in the mempool is mined."""
    yield shared
    shared.mine()


class TestBitcoindNode(NodeContract):
    """All of the contract."""
