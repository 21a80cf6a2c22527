"""The `Node` port over a view of the model chain: what a tower's own node says, which need not be the truth.

    node = ModelNode(chain, before_call=…, after_call=…)
    node.trouble = NodeUnavailable("down")        # every call fails, without effect, until it is None again
    node.roll_back(5); node.rejoin()              # the node forgot 5 blocks and its mempool; the truth is unchanged
    node.isolate()                                # it stays where it is while the truth goes on (stale answers)
    node.prune(height)                            # blocks below are not readable; headers are
    node.missing.add(block_hash)                  # this block cannot be read (until the peers give it)
    node.damaged.add(block_hash)                  # its bytes are cut off
    node.ahead = 3                                # knows that many more headers than blocks
    node.estimates = {1: 50.0}                    # what estimatesmartfee says; {} nothing, None the market's rate
    node.refuse = lambda raw: Answer(…)           # answers a broadcast in place of the mempool; None: let it pass

`before_call(method)` runs before the effect of a call and may raise or move the chain; `after_call(method)` runs
after the effect and may raise: the answer is lost then. Method names are those of the port.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from domain.chain import BlockHash, OutPoint, Txid
from domain.errors import MalformedInput
from domain.fees import Market
from domain.transaction import Transaction
from tests.simulation.blocks import Block, parse, serialized
from tests.simulation.chain import ModelChain
from tests.simulation.ledger import MEMPOOL_HEIGHT
from tests.simulation.package import submit_package
from tests.simulation.policy import Refusal
from tests.simulation.view import View
from watchtower.node import answers
from watchtower.ports import (
    Answer,
    BlockNotAvailable,
    ChainInfo,
    DecodedBlock,
    DecodedTransaction,
    HeaderInfo,
    MempoolEntry,
    Node,
    NodeError,
    Utxo,
)

DECODE_FAILED = "TX decode failed. Make sure the tx has at least one input."


def nothing(method: str) -> None:
    """The hook that does nothing."""


class ModelNode(View):
    """One node on the model chain. It follows the chain's truth unless it is isolated."""

    def __init__(
        self,
        chain: ModelChain,
        *,
        before_call: Callable[[str], None] = nothing,
        after_call: Callable[[str], None] = nothing,
    ) -> None:
        """A healthy node; everything that may be wrong with it is an attribute."""
        super().__init__(chain)
        self.before_call = before_call
        self.after_call = after_call
        self.trouble: NodeError | None = None
        self.pruned_below = 0
        self.missing: set[BlockHash] = set()
        self.damaged: set[BlockHash] = set()
        self.peers_have_blocks = True
        self.ahead = 0
        self.syncing = False
        self.estimates: Mapping[int, float] | None = None
        self.refuse: Callable[[bytes], Answer | None] = lambda raw: None

    # ── what may be wrong ────────────────────────────────────────────────────────────────────────────────

    def prune(self, height: int) -> None:
        """Blocks below this height are deleted."""
        self.pruned_below = height

    def _begin(self, method: str) -> None:
        self.before_call(method)
        if self.trouble is not None:
            raise self.trouble

    # ── the port: the chain ──────────────────────────────────────────────────────────────────────────────

    def chain_info(self) -> ChainInfo:
        """See the port."""
        self._begin("chain_info")
        tip = self._ledger.tip
        info = ChainInfo(
            network="regtest",
            blocks=tip.height,
            headers=tip.height + self.ahead,
            best_hash=tip.hash,
            initial_block_download=self.syncing,
            pruned_height=self.pruned_below,
        )
        self.after_call("chain_info")
        return info

    def best_hash(self) -> BlockHash:
        """See the port."""
        self._begin("best_hash")
        found = self._ledger.tip.hash
        self.after_call("best_hash")
        return found

    def header(self, block_hash: bytes) -> HeaderInfo | None:
        """See the port."""
        self._begin("header")
        block = self._block(block_hash)
        found = None if block is None else self._header(block)
        self.after_call("header")
        return found

    def _header(self, block: Block) -> HeaderInfo:
        ledger = self._ledger
        confirmations = ledger.height - block.height + 1 if ledger.is_active(block) else -1
        return HeaderInfo(block.hash, block.prev, block.height, block.work, confirmations, block.header)

    def hash_at(self, height: int) -> BlockHash | None:
        """See the port."""
        self._begin("hash_at")
        found = self._ledger.hash_at(height)
        self.after_call("hash_at")
        return found

    def block(self, block_hash: bytes) -> bytes:
        """See the port."""
        self._begin("block")
        block = self._readable(block_hash)
        self.after_call("block")
        return block.raw[:-1] if block.hash in self.damaged else block.raw

    def _readable(self, block_hash: bytes) -> Block:
        block = self._block(block_hash)
        if block is None:
            raise NodeError("getblock: the node answered -5: Block not found")
        if block.height < self.pruned_below or block.hash in self.missing:
            raise BlockNotAvailable(f"{block}: Block not available (pruned data)")
        return block

    def decoded_block(self, block_hash: bytes) -> DecodedBlock:
        """See the port; the node's own reading works for damaged bytes, too."""
        self._begin("decoded_block")
        block = self._readable(block_hash)
        self.after_call("decoded_block")
        transactions = (parse(block.coinbase), *block.transactions)
        return DecodedBlock(block.header, tuple(map(_as_decoded, transactions)))

    def fetch_from_peers(self, block_hash: bytes) -> None:
        """See the port: a peer that has the block gives it."""
        self._begin("fetch_from_peers")
        if self.peers_have_blocks and self._own is None:
            self.missing.discard(BlockHash(block_hash))
        self.after_call("fetch_from_peers")

    # ── the port: outputs and the mempool ────────────────────────────────────────────────────────────────

    def utxos(self, outpoints: Sequence[OutPoint], include_mempool: bool) -> list[Utxo | None]:
        """See the port."""
        self._begin("utxos")
        found = [self._utxo(outpoint, include_mempool) for outpoint in outpoints]
        self.after_call("utxos")
        return found

    def _utxo(self, outpoint: OutPoint, include_mempool: bool) -> Utxo | None:
        ledger, mempool = self._ledger, self._mempool
        if include_mempool and mempool.spender(outpoint) is not None:
            return None
        coin = mempool.lookup(outpoint) if include_mempool else ledger.coin(outpoint)
        if coin is None:
            return None
        confirmations = 0 if coin.height == MEMPOOL_HEIGHT else ledger.height - coin.height + 1
        return Utxo(coin.value, coin.spk, confirmations, ledger.tip.hash)

    def mempool_spenders(self, outpoints: Sequence[OutPoint]) -> dict[OutPoint, Txid]:
        """See the port."""
        self._begin("mempool_spenders")
        spenders = self._mempool.spenders
        found = {outpoint: spenders[outpoint] for outpoint in outpoints if outpoint in spenders}
        self.after_call("mempool_spenders")
        return found

    def mempool_transaction(self, txid: bytes) -> bytes | None:
        """See the port."""
        self._begin("mempool_transaction")
        entry = self._mempool.entries.get(Txid(txid))
        self.after_call("mempool_transaction")
        return None if entry is None else entry.tx.serialize()

    def transaction(self, txid: bytes) -> bytes | None:
        """See the port; this node keeps no index of confirmed transactions."""
        self._begin("transaction")
        entry = self._mempool.entries.get(Txid(txid))
        self.after_call("transaction")
        return None if entry is None else entry.tx.serialize()

    def mempool_entry(self, txid: bytes) -> MempoolEntry | None:
        """See the port."""
        self._begin("mempool_entry")
        entry = self._mempool.entries.get(Txid(txid))
        self.after_call("mempool_entry")
        return None if entry is None else MempoolEntry(entry.fee, entry.vsize, tuple(entry.parents))

    # ── the port: fees and broadcasts ────────────────────────────────────────────────────────────────────

    def fee_market(self, targets: Sequence[int]) -> Market:
        """See the port. By default every target is estimated at the chain's `going_rate`."""
        self._begin("fee_market")
        rates = dict.fromkeys(targets, self.chain.going_rate) if self.estimates is None else self.estimates
        market = Market(
            minimum=self._mempool.minimum,
            relay=self.policy.relay,
            increment=self.policy.increment,
            estimates=tuple((target, rates[target]) for target in targets if target in rates),
        )
        self.after_call("fee_market")
        return market

    def test_accept(self, raw: bytes) -> Answer:
        """See the port."""
        self._begin("test_accept")
        tx = _decoded(raw)
        if tx is None:
            answer = answers.refused(answers.DECODE_ERROR, DECODE_FAILED)
        else:
            refusal = self._mempool.accept(tx, keep=False)
            answer = answers.accepted() if refusal is None else answers.rejected_by_test(refusal.text)
        self.after_call("test_accept")
        return answer

    def broadcast(self, raw: bytes) -> Answer:
        """See the port."""
        self._begin("broadcast")
        answer = self._broadcast(raw)
        self.after_call("broadcast")
        return answer

    def broadcast_many(self, raws: Sequence[bytes]) -> tuple[Answer, ...]:
        """See the port: one request, in order."""
        self._begin("broadcast_many")
        found = tuple(map(self._broadcast, raws))
        self.after_call("broadcast_many")
        return found

    def _broadcast(self, raw: bytes) -> Answer:
        if (instead := self.refuse(raw)) is not None:
            return instead
        tx = _decoded(raw)
        if tx is None:
            return answers.refused(answers.DECODE_ERROR, DECODE_FAILED)
        return answer_to(self._mempool.accept(tx))

    def submit_package(self, raws: Sequence[bytes]) -> tuple[Answer, ...]:
        """See the port."""
        self._begin("submit_package")
        found = self._submit_package(raws)
        self.after_call("submit_package")
        return found

    def _submit_package(self, raws: Sequence[bytes]) -> tuple[Answer, ...]:
        if (instead := self.refuse(raws[-1])) is not None:
            return (instead,) * len(raws)
        members = [_decoded(raw) for raw in raws]
        decoded = [tx for tx in members if tx is not None]
        if len(decoded) < len(raws):
            return answers.package_refused(answers.DECODE_ERROR, DECODE_FAILED, len(raws))
        return answers.package_answers(raws, submit_package(self._mempool, decoded))


def answer_to(refusal: Refusal | None) -> Answer:
    """What the service reads out of a refusal of `sendrawtransaction`."""
    return answers.accepted() if refusal is None else answers.refused(refusal.code, refusal.text)


def _decoded(raw: bytes) -> Transaction | None:
    try:
        return parse(raw)
    except MalformedInput:
        return None


def _as_decoded(tx: Transaction) -> DecodedTransaction:
    return DecodedTransaction(tx.txid, tuple(txin.outpoint for txin in tx.inputs), tx.outputs, serialized(tx))


def _is_a_node(node: ModelNode) -> Node:
    """The type checker's proof that the port is whole."""
    return node
