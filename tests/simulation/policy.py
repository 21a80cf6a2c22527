"""The mempool of the model: what Bitcoin Core 28 to 30, and Knots with either policy, do with our transactions.

    pool = Mempool(ledger, CORE)             # CORE: Knots 29 with -corepolicy=1, as the tests' node; KNOTS: its own
    pool.accept(tx)                          # as sendrawtransaction: None, or a `Refusal` with the node's code and text
    pool.accept(tx, keep=False)              # as testmempoolaccept
    submit_package(pool, [parent, child])    # as submitpackage (tests/simulation/package.py)
    pool.evict(txid); pool.raise_minimum(20.0); pool.block_connected(block); pool.block_disconnected(block)

What is modelled: feerates, the dynamic minimum, replacement (absolute fee, increment, higher feerate), version-3
rules with sibling eviction, dust, locks, re-entry after a reorg. What is not: ages, limits of non-version-3 chains,
scripts (the hook `valid` may judge them).
Feerates are sat/vB, fees satoshi, sizes vB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from domain.chain import OutPoint, Txid, outpoint_txid, outpoint_vout
from domain.transaction import Transaction, TxOut
from tests.simulation.blocks import Block
from tests.simulation.entries import Candidate, Entry, family
from tests.simulation.ledger import MEMPOOL_HEIGHT, ChainCoin, Ledger, Lookup, not_final, parents_of, too_young
from tests.simulation.rules import (
    CORE,
    KNOTS,
    MISSING,
    OLDER_CORE,
    REENTRY_DEPTH,
    TRUC_VERSION,
    Policy,
    Refusal,
    dust_outputs,
    fee_at,
    outpoints_of,
    rejected,
    truc_refusal,
)
from watchtower.node.answers import ALREADY_IN_UTXO_SET, VERIFY_ERROR

__all__ = ["CORE", "KNOTS", "OLDER_CORE", "REENTRY_DEPTH", "Entry", "Mempool", "Policy", "Refusal", "best_packages"]


class Mempool:
    """The unconfirmed transactions on top of a ledger. The caller moves the ledger and says so."""

    def __init__(
        self, ledger: Ledger, policy: Policy = CORE, valid: Callable[[Transaction], bool] | None = None
    ) -> None:
        self.ledger = ledger
        self.policy = policy
        self.entries: dict[Txid, Entry] = {}
        self.spenders: dict[OutPoint, Txid] = {}
        self._valid = valid
        self._dynamic = 0.0

    def copy(self, ledger: Ledger) -> Mempool:
        """The same transactions on another ledger, as far as they fit there: the mempool of a node left alone."""
        twin = Mempool(ledger, self.policy, self._valid)
        twin._dynamic = self._dynamic
        for entry in self.entries.values():
            if all(twin.lookup(txin.outpoint) is not None for txin in entry.tx.inputs):
                twin.enter(Candidate(entry.tx, entry.fee, {}, {}))
        twin._drop_unready()
        return twin

    # ── questions ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def minimum(self) -> float:
        """Feerate below which nothing enters now: the relay minimum, or more while the mempool is full."""
        return max(self.policy.relay, self._dynamic)

    def spender(self, outpoint: OutPoint) -> Txid | None:
        """Who spends an outpoint here."""
        return self.spenders.get(outpoint)

    def output(self, outpoint: OutPoint) -> TxOut | None:
        """An output of a mempool transaction, spent or not."""
        entry = self.entries.get(outpoint_txid(outpoint))
        vout = outpoint_vout(outpoint)
        return entry.tx.outputs[vout] if entry is not None and vout < len(entry.tx.outputs) else None

    def lookup(self, outpoint: OutPoint) -> ChainCoin | None:
        """An output that a transaction here could spend: of the mempool or confirmed and unspent."""
        found = self.output(outpoint)
        return self.ledger.coin(outpoint) if found is None else ChainCoin(found.value, found.spk, MEMPOOL_HEIGHT)

    # ── entering ─────────────────────────────────────────────────────────────────────────────────────────

    def accept(self, tx: Transaction, *, keep: bool = True) -> Refusal | None:
        """As `sendrawtransaction` (`keep=False`: `testmempoolaccept`); None if it is in the mempool (would be)."""
        if keep and any(self.ledger.coin(outpoint) is not None for outpoint in outpoints_of(tx)):
            return Refusal(ALREADY_IN_UTXO_SET, "Transaction outputs already in utxo set")
        if tx.txid in self.entries:
            return None if keep else rejected("txn-already-in-mempool")
        found = self.judge(tx)
        if isinstance(found, Refusal):
            return found
        if keep:
            self.enter(found)
        return None

    def judge(self, tx: Transaction, *, reentry: bool = False) -> Candidate | Refusal:
        """All rules for one transaction alone; `reentry` after a reorg asks for no feerate."""
        candidate = self.examine(tx, alone=not reentry, siblings=True, rules=not reentry)
        if isinstance(candidate, Refusal):
            return candidate
        return self._replacement_refusal(candidate) or candidate

    def examine(
        self, tx: Transaction, *, alone: bool, siblings: bool, package: Lookup | None = None, rules: bool = True
    ) -> Candidate | Refusal:
        """Everything but the price of replacement. `alone`: its own feerate counts; `siblings`: one may be evicted.

        `package` names outputs of the members of a package; without `rules` those of version 3 do not hold, as for
        transactions that come back from a disconnected block.
        """
        next_height = self.ledger.height + 1

        def lookup(outpoint: OutPoint) -> ChainCoin | None:
            inside = None if package is None else package(outpoint)
            return self.lookup(outpoint) if inside is None else inside

        if (early := self._plain_refusal(tx, next_height)) is not None:
            return early
        coins = [lookup(txin.outpoint) for txin in tx.inputs]
        if None in coins:
            unspent = any(self.ledger.coin(outpoint) is not None for outpoint in outpoints_of(tx))
            return rejected("txn-already-known") if unspent else Refusal(VERIFY_ERROR, MISSING, again=True)
        if too_young(tx, next_height, lookup):
            return rejected("non-BIP68-final")
        fee = sum(coin.value for coin in coins if coin is not None) - sum(output.value for output in tx.outputs)
        if fee < 0:
            return rejected("bad-txns-in-belowout")
        if self._valid is not None and not self._valid(tx):
            return rejected("mandatory-script-verify-flag-failed")
        if dust_outputs(tx) and (fee > 0 or package is not None):  # without a fee it might be ephemeral dust
            return rejected("dust")
        if alone and (refusal := self.too_cheap(fee, tx.vsize)) is not None:
            return refusal
        exempt = self.policy.truc and tx.version == TRUC_VERSION
        if package is not None and not exempt and fee < fee_at(self.policy.relay, tx.vsize):
            return rejected("min relay fee not met", again=True)
        parents = {txid: self.entries[txid] for txid in parents_of(tx) if txid in self.entries}
        candidate = Candidate(tx, fee, self._conflicts(tx), parents)
        return (truc_refusal(candidate, siblings=siblings) if rules and self.policy.truc else None) or candidate

    def _plain_refusal(self, tx: Transaction, next_height: int) -> Refusal | None:
        if not 1 <= tx.version <= 3:
            return rejected("version")
        if dust_outputs(tx) > self.policy.dust:
            return rejected("dust")
        return rejected("non-final") if not_final(tx, next_height) else None

    def _conflicts(self, tx: Transaction) -> dict[Txid, Entry]:
        txids = (self.spenders.get(txin.outpoint) for txin in tx.inputs)
        return {txid: self.entries[txid] for txid in txids if txid is not None}

    def too_cheap(self, fee: int, vsize: int) -> Refusal | None:
        """The refusal of this fee for this size, if it is below a minimum."""
        if self._dynamic and fee < fee_at(self._dynamic, vsize):
            return rejected("mempool min fee not met", again=True)
        return rejected("min relay fee not met", again=True) if fee < fee_at(self.policy.relay, vsize) else None

    def _replacement_refusal(self, candidate: Candidate) -> Refusal | None:
        """Higher feerate than each direct conflict, and fees that pay for all that goes and for the relay."""
        if not candidate.conflicts:
            return None
        if any(candidate.fee * old.vsize <= old.fee * candidate.vsize for old in candidate.conflicts.values()):
            return rejected("insufficient fee, rejecting replacement; feerate not above the old one", again=True)
        gone = self.with_descendants(candidate.conflicts.values())
        if any(txid in gone for txid in candidate.parents):
            return rejected("bad-txns-spends-conflicting-tx")
        allowed = {txid for old in candidate.conflicts.values() for txid in parents_of(old.tx)}
        if any(txid not in allowed for txid in candidate.parents):
            return rejected("replacement-adds-unconfirmed")
        if not self.pays(candidate.fee, candidate.vsize, gone.values()):
            return rejected("insufficient fee, rejecting replacement; not enough additional fees to relay", again=True)
        return None

    def pays(self, fee: int, vsize: int, gone: Iterable[Entry]) -> bool:
        """True if a fee pays for what it drives out and for its own relay."""
        old = sum(entry.fee for entry in gone)
        return fee >= old and fee - old >= fee_at(self.policy.increment, vsize)

    def enter(self, candidate: Candidate) -> Entry:
        """Put a judged transaction in; what it conflicts with goes out with its descendants."""
        for txid in candidate.conflicts:
            self.evict(txid)
        tx = candidate.tx
        entry = Entry(tx, candidate.fee)
        self.entries[tx.txid] = entry
        for txin in tx.inputs:
            self.spenders[txin.outpoint] = tx.txid
        for txid in parents_of(tx):
            if (parent := self.entries.get(txid)) is not None:
                entry.parents[txid] = parent
                parent.children[tx.txid] = entry
        return entry

    # ── leaving ──────────────────────────────────────────────────────────────────────────────────────────

    def with_descendants(self, entries: Iterable[Entry]) -> dict[Txid, Entry]:
        """These entries and everything that depends on them."""
        found: dict[Txid, Entry] = {}
        for entry in entries:
            found.update(family(entry, up=False))
        return found

    def evict(self, txid: bytes) -> list[Txid]:
        """Drop a transaction and its descendants, as a full mempool does; returns what went (maybe nothing)."""
        entry = self.entries.get(Txid(txid))
        if entry is None:
            return []
        gone = family(entry, up=False)
        for each in gone.values():
            self._unlink(each)
        return list(gone)

    def clear(self) -> None:
        """Forget everything."""
        self.entries.clear()
        self.spenders.clear()

    def raise_minimum(self, feerate: float) -> list[Txid]:
        """The mempool becomes so full that `feerate` is its minimum; what pays less goes. 0.0 ends that state.

        As in a node, an entry is measured by the best of its own feerate and that with its descendants.
        """
        self._dynamic = feerate
        gone: list[Txid] = []
        while feerate > 0:
            worst = min(self.entries.values(), key=_descendant_score, default=None)
            if worst is None or _descendant_score(worst) >= feerate:
                break
            gone += self.evict(worst.txid)
        return gone

    def _unlink(self, entry: Entry) -> None:
        del self.entries[entry.txid]
        for txin in entry.tx.inputs:
            del self.spenders[txin.outpoint]
        for parent in entry.parents.values():
            parent.children.pop(entry.txid, None)
        for child in entry.children.values():
            child.parents.pop(entry.txid, None)

    # ── the chain moved ──────────────────────────────────────────────────────────────────────────────────

    def block_connected(self, block: Block) -> None:
        """The ledger has this block now: its transactions leave, and what conflicts with them."""
        for tx in block.transactions:
            if (entry := self.entries.get(tx.txid)) is not None:
                self._unlink(entry)
            for txin in tx.inputs:
                if (rival := self.spenders.get(txin.outpoint)) is not None:
                    self.evict(rival)

    def block_disconnected(self, block: Block, *, keep: bool) -> None:
        """The ledger lost this block: its transactions come back unless the reorg is too deep (`keep` False).

        What is not final any more leaves. Children that were here already are linked to their parents, even where
        the version-3 rules would not allow both to enter.
        """
        for tx in block.transactions:
            found = self.judge(tx, reentry=True) if keep else None
            if not isinstance(found, Candidate):
                self._drop_children(tx)
                continue
            entry = self.enter(found)
            for outpoint in outpoints_of(tx):
                if (spender := self.spenders.get(outpoint)) is not None:
                    child = self.entries[spender]
                    entry.children[spender], child.parents[tx.txid] = child, entry
        self._drop_unready()
        if self._dynamic:
            self.raise_minimum(self._dynamic)

    def _drop_children(self, tx: Transaction) -> None:
        for outpoint in outpoints_of(tx):
            if (spender := self.spenders.get(outpoint)) is not None:
                self.evict(spender)

    def _drop_unready(self) -> None:
        next_height = self.ledger.height + 1
        for entry in list(self.entries.values()):
            tx = entry.tx
            if entry.txid in self.entries and (not_final(tx, next_height) or too_young(tx, next_height, self.lookup)):
                self.evict(entry.txid)


def best_packages(pool: Mempool, minimum: float, wanted: Callable[[Entry], bool]) -> Iterator[Entry]:
    """The entries of the next block, parents first, by the feerate with their ancestors as miners count it.

    Below `minimum` nothing is taken; an entry that is not `wanted` is left out with its descendants.
    """
    left = {txid: entry for txid, entry in pool.entries.items() if all(map(wanted, family(entry, up=True).values()))}
    while left:
        packages = [[e for t, e in family(entry, up=True).items() if t in left] for entry in left.values()]
        best = max(packages, key=lambda members: sum(e.fee for e in members) / sum(e.vsize for e in members))
        if sum(e.fee for e in best) < minimum * sum(e.vsize for e in best):
            return
        for entry in reversed(best):
            del left[entry.txid]
            yield entry


def _descendant_score(entry: Entry) -> float:
    below = family(entry, up=False).values()
    return max(entry.feerate, sum(e.fee for e in below) / sum(e.vsize for e in below))
