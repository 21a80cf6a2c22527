"""The model chain: a tree of real blocks, an active tip, a mempool, and coins out of nothing.

    chain = ModelChain()                                # height 40, empty; `policy=KNOTS` for the other node
    pair = open_pair(fund=chain.mint)                   # a funding transaction with a spendable imaginary coin
    chain.give_coin(outpoint, value)                    # or: let the coin exist that a transaction spends
    chain.send(raw)                                     # into the mempool: None or the `Refusal`
    chain.send_package([parent, child])                 # the result of submitpackage; "success" in package_msg
    chain.mine()                                        # a block with the whole mempool
    chain.mine(minimum=20.0, select=lambda entry: …)    # only packages from 20 sat/vB on, without those not selected
    chain.mine([raw, raw])                              # exactly these, known to the mempool or not
    chain.mine(empty=True)
    chain.reorg(3, [[raw], [], [], []])                 # replace 3 blocks; `.left_out` tells what was not valid there
    chain.grow(parent_hash, [raw])                      # another miner's block; active once it has more work
    chain.prefer(block_hash)                            # make this branch active, as `preciousblock`
    chain.spender(outpoint), chain.confirmation(txid), chain.transaction(txid), chain.height, chain.tip
    chain.anchor_child(parent_txid, fee=5_000)          # a cheater's version-3 child of an anchor, wallet coin included

The truth is here; what a tower sees of it is `ModelNode` (tests/simulation/node.py). Scripts are not judged unless
`valid` does. Hashes are in internal byte order, amounts satoshi, feerates sat/vB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from domain.chain import BlockHash, OutPoint, Txid, make_outpoint
from domain.transaction import Transaction, TxIn, TxOut
from tests.simulation.blocks import Block, first_blocks, parse
from tests.simulation.ledger import ChainCoin, Ledger, fits
from tests.simulation.package import submit_package
from tests.simulation.policy import CORE, REENTRY_DEPTH, Entry, Mempool, Policy, Refusal, best_packages
from watchtower.devnode.moves import Confirmation
from watchtower.devnode.purse import ANCHOR_SAT, COIN_SAT, Coin, Funding

START_HEIGHT = 40
_RBF = 0xFFFFFFFD
_WITNESS = (bytes(72), bytes(33))  # the size of a P2WPKH witness; nobody checks it


class Invalid(ValueError):
    """A block that was asked for would break a rule of consensus; the text names the first reason."""


class Reorg(msgspec.Struct, frozen=True):
    """The new blocks, the blocks they replaced (from low to high), and what the new branch could not hold."""

    blocks: tuple[Block, ...]
    replaced: tuple[Block, ...]
    left_out: tuple[tuple[Transaction, str], ...]


def everything(entry: Entry) -> bool:
    """Select every transaction."""
    return True


def any_script(tx: Transaction) -> bool:
    """Every witness is good."""
    return True


class ModelChain:
    """One chain that everybody agrees on, with the mempool of a well-connected node."""

    def __init__(
        self,
        *,
        height: int = START_HEIGHT,
        policy: Policy = CORE,
        valid: Callable[[Transaction], bool] = any_script,
    ) -> None:
        """An empty chain of that height. `valid` judges what the model does not: scripts and witnesses."""
        base = first_blocks(height)
        self.minted: dict[OutPoint, ChainCoin] = {}
        self.ledger = Ledger(base, self.minted)
        self.policy = policy
        self.mempool = Mempool(self.ledger, policy, None if valid is any_script else valid)
        self.tree: dict[BlockHash, Block] = {block.hash: block for block in base}
        self.going_rate = 1.0
        self._valid = valid
        self._coins = 0
        self._arrivals = len(base)

    # ── where it stands ──────────────────────────────────────────────────────────────────────────────────

    @property
    def tip(self) -> Block:
        """The active tip."""
        return self.ledger.tip

    @property
    def height(self) -> int:
        """Height of the active tip."""
        return self.ledger.height

    @property
    def arrivals(self) -> int:
        """How many blocks were ever made; a block with a smaller `arrival` existed already."""
        return self._arrivals

    def hash_at(self, height: int) -> BlockHash | None:
        """Hash on the active chain, None above the tip."""
        return self.ledger.hash_at(height)

    def confirmation(self, txid: bytes) -> Confirmation | None:
        """Where a transaction stands on the active chain."""
        return self.ledger.confirmation(txid)

    def transaction(self, txid: bytes) -> Transaction | None:
        """A transaction of the mempool or the active chain."""
        entry = self.mempool.entries.get(Txid(txid))
        return self.ledger.transaction(txid) if entry is None else entry.tx

    def spender(self, outpoint: OutPoint) -> Txid | None:
        """Who spends an outpoint, on the active chain or in the mempool."""
        return self.ledger.spenders.get(outpoint) or self.mempool.spender(outpoint)

    def is_unspent(self, outpoint: OutPoint, include_mempool: bool = False) -> bool:
        """True if the output is confirmed (or waits in the mempool) and unspent."""
        if not include_mempool:
            return self.ledger.coin(outpoint) is not None
        return self.mempool.lookup(outpoint) is not None and self.mempool.spender(outpoint) is None

    # ── coins out of nothing ─────────────────────────────────────────────────────────────────────────────

    def give_coin(self, outpoint: bytes, value: int, spk: bytes = b"\x51\x20" + bytes(32)) -> Coin:
        """Let an outpoint exist from the first block on, on every branch; again with the same value is no change."""
        place = OutPoint(outpoint)
        self.minted[place] = ChainCoin(value, spk, 0)
        return Coin(place, value, spk)

    def new_coin(self, value: int = COIN_SAT) -> Coin:
        """A confirmed coin that nobody used before; the n-th is the same in every run."""
        self._coins += 1
        return self.give_coin(make_outpoint(sha256(b"model coin %d" % self._coins).digest(), 0), value)

    def mint(self, spk: bytes, amount: int) -> Funding:
        """A funding transaction that pays `amount` to `spk` in output 0 with 1,000 sat fee; not sent."""
        return self.spend(self.new_coin(amount + 1_000), [TxOut(amount, spk)])

    def spend(self, coin: Coin, outputs: Sequence[TxOut], version: int = 2, lock_time: int = 0) -> Funding:
        """A transaction that spends a coin to these outputs; not sent."""
        tx = Transaction(version, (TxIn(coin.outpoint, _RBF, witness=_WITNESS),), tuple(outputs), lock_time)
        return Funding(tx.txid, 0, tx.serialize())

    def anchor_child(
        self, parent_txid: bytes, vout: int = 1, fee: int = 5_000, value: int = ANCHOR_SAT, coin: Coin | None = None
    ) -> bytes:
        """A version-3 child of a P2A anchor that brings a coin and pays `fee` in total; see `Purse.anchor_child`."""
        paying = self.new_coin() if coin is None else coin
        inputs = (TxIn(make_outpoint(parent_txid, vout), _RBF), TxIn(paying.outpoint, _RBF, witness=_WITNESS))
        change = TxOut(paying.value + value - fee, b"\x00\x14" + sha256(parent_txid).digest()[:20])
        return Transaction(3, inputs, (change,), 0).serialize()

    # ── the mempool ──────────────────────────────────────────────────────────────────────────────────────

    def send(self, raw: bytes) -> Refusal | None:
        """Put a transaction into the mempool as anybody may; None if it is there now."""
        return self.mempool.accept(parse(raw))

    def send_package(self, raws: Sequence[bytes]) -> dict[str, Any]:
        """Parents and their child together, in the node's form: `package_msg` is `success`, or why not."""
        return submit_package(self.mempool, [parse(raw) for raw in raws])

    # ── blocks ───────────────────────────────────────────────────────────────────────────────────────────

    def mine(
        self,
        transactions: Sequence[bytes] | None = None,
        *,
        select: Callable[[Entry], bool] = everything,
        minimum: float = 0.0,
        empty: bool = False,
    ) -> Block:
        """One block on the tip: exactly `transactions`, or what the mempool offers from `minimum` sat/vB on.

        Raises `Invalid` if one of `transactions` cannot stand there.
        """
        if transactions is not None:
            chosen: Iterable[Transaction] = map(parse, transactions)
        else:
            chosen = () if empty else [entry.tx for entry in best_packages(self.mempool, minimum, select)]
        taken, left_out = fits(self.ledger, chosen, self._valid)
        if left_out and transactions is not None:
            raise Invalid(f"{left_out[0][1]}: {left_out[0][0].txid[::-1].hex()}")
        return self._extend(taken)

    def mine_many(self, count: int) -> None:
        """So many blocks with what the mempool holds."""
        for _ in range(count):
            self.mine()

    def reorg(
        self, depth: int, blocks: Sequence[Sequence[bytes]] | None = None, *, forget: bool | None = None
    ) -> Reorg:
        """Replace the last `depth` blocks; default is `depth + 1` empty ones.

        Transactions that are not valid on the branch are left out and told. What stood in the replaced blocks goes
        back to the mempool; `forget` empties the mempool instead, and is the default above `REENTRY_DEPTH` blocks.
        With `forget=False` a deep reorg does what `invalidateblock` does: only the upper blocks' transactions are
        kept. Fewer blocks than `depth` are possible, too: the old branch then counts as invalid until `prefer`.
        """
        replaced = self.roll_back(depth)
        if depth > REENTRY_DEPTH if forget is None else forget:
            self.mempool.clear()
        made: list[Block] = []
        left_out: list[tuple[Transaction, str]] = []
        for raws in [()] * (depth + 1) if blocks is None else blocks:
            taken, dropped = fits(self.ledger, map(parse, raws), self._valid)
            made.append(self._extend(taken))
            left_out += dropped
        return Reorg(tuple(made), tuple(replaced), tuple(left_out))

    def roll_back(self, depth: int) -> list[Block]:
        """Take the last `depth` blocks off, as `invalidateblock`; returns them from low to high. They stay known."""
        if not 0 <= depth <= self.height:
            raise ValueError(f"the chain has {self.height} blocks, {depth} cannot go")
        gone: list[Block] = []
        for number in range(depth):
            block = self.ledger.disconnect()
            self.mempool.block_disconnected(block, keep=number < REENTRY_DEPTH)
            gone.append(block)
        return gone[::-1]

    def grow(self, parent_hash: bytes, raws: Sequence[bytes] = ()) -> Block:
        """A block of another miner on any known block. The branch becomes active with more work than the tip's.

        At equal work the first seen stays. Raises `Invalid` if one of the transactions cannot stand there.
        """
        parent = self.tree[BlockHash(parent_hash)]
        there = self.ledger.copy()
        branch = self._branch(parent)
        for _ in range(self.height - (branch[0].height - 1 if branch else parent.height)):
            there.disconnect()
        for each in branch:
            there.connect(each)
        taken, left_out = fits(there, map(parse, raws), self._valid)
        if left_out:
            raise Invalid(f"{left_out[0][1]}: {left_out[0][0].txid[::-1].hex()}")
        block = self._made(parent, taken)
        if block.work > self.tip.work:
            self.prefer(block.hash)
        return block

    def prefer(self, block_hash: bytes) -> None:
        """Make the branch that ends at a known block active, whatever its work; the mempool follows."""
        block = self.tree[BlockHash(block_hash)]
        branch = self._branch(block)
        self.roll_back(self.height - (branch[0].height - 1 if branch else block.height))
        for each in branch:
            self.ledger.connect(each)
            self.mempool.block_connected(each)

    def _branch(self, block: Block) -> list[Block]:
        """The blocks from the active chain (not included) up to this one (included)."""
        branch: list[Block] = []
        while not self.ledger.is_active(block):
            branch.append(block)
            block = self.tree[block.prev]
        return branch[::-1]

    def _extend(self, transactions: Sequence[Transaction]) -> Block:
        block = self._made(self.tip, transactions)
        self.ledger.connect(block)
        self.mempool.block_connected(block)
        return block

    def _made(self, parent: Block, transactions: Sequence[Transaction]) -> Block:
        block = Block(parent, transactions, self._arrivals)
        self._arrivals += 1
        self.tree[block.hash] = block
        return block
