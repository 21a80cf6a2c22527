"""One schedule played on the model chain and on a real node at once; every step compares what both say.

    coins = coins_of_anybody(node, seeds * COINS)
    duel = Duel(node, seed, coins)
    duel.play(30)          # raises `Disagreement` with the last moves
    duel.compared          # so many answers and observations were equal

The transactions are real: two channels' commitments, penalties with chosen fees, settlements, claims, closes,
and cheaters' children with coins that anybody may spend. Both sides are asked through the `Node` port.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from domain.chain import display, from_display, make_outpoint
from domain.transaction import Transaction, TxOut
from domain.units import Side
from tests.regtest.contract_stage import penalty
from tests.simulation.blocks import parse, serialized
from tests.simulation.chain import Invalid, ModelChain
from tests.simulation.ledger import fits
from tests.simulation.node import ModelNode
from tests.simulation.policy import CORE, Policy
from tests.support.anybody import ANYBODY, COIN_SAT, spend_coins
from tests.support.parties import Pair, htlc, open_pair, preimage_of
from watchtower.devnode.purse import ANCHOR_SAT, Coin, Funding
from watchtower.devnode.regtest import RegtestNode
from watchtower.node.replies import satoshi
from watchtower.node.rpc import BitcoindNode
from watchtower.node.transport import RpcRefused
from watchtower.ports import Answer, Utxo

COINS = 24
_FEES = (8, 60, 111, 400, 1_500, 2_010, 2_012, 2_112, 5_000, 20_000)
_REVOKED = 3
_REORGS = (1, 1, 1, 2, 2, 3, 5, 10, 11, 12)
_BLOCKS_BEFORE = 12
_DRAWS = 4
BLOCK_MINIMUM = 0.0
"""sat/vB below which the node's own blocks take nothing."""


class Disagreement(AssertionError):
    """Model and node do not say the same."""


class Duel:
    """Two channels, their transactions and the two sides that judge them."""

    def __init__(self, node: RegtestNode, seed: int, coins: list[Coin], policy: Policy = CORE) -> None:
        """Takes `COINS` of the coins. The node's mempool must be empty."""
        self.random = Random(seed)
        self.node = node
        self.real = BitcoindNode(node.rpc_url, cookie_path=node.cookie_path, rest_url=node.rest_url)
        self.compared = 0
        self.moves: list[str] = [f"seed {seed}"]
        node.mine(_BLOCKS_BEFORE)
        self.chain = ModelChain(height=node.height(), policy=policy)
        self.model = ModelNode(self.chain)
        self.coins = [self.chain.give_coin(coin.outpoint, coin.value, coin.spk) for coin in coins[:COINS]]
        del coins[:COINS]
        self.base = node.height() - _BLOCKS_BEFORE
        self.known: dict[bytes, Transaction] = {}
        self._closed = b""
        self.pairs = (self._open("left"), self._open("right"))
        self.mine([pair.funding.raw for pair in self.pairs])
        self.floor = self.base if self.random.random() < 0.2 else self.chain.height

    # ── transactions ─────────────────────────────────────────────────────────────────────────────────────

    def _open(self, name: str) -> Pair:
        feerate, period = self.random.choice((1_000, 2_000, 10_000)), self.random.choice((1, 2, 3, 5))
        names = (f"a {name}", f"b {name}")
        pair = open_pair(self._fund, names=names, challenge_period=period, static_feerate=feerate)
        pair.updates(_REVOKED - 1)
        if name == "left":
            expiry = self.chain.height + self.random.randrange(4, 12)
            pair.with_htlcs(htlc(Side.A, 1, 20_000, expiry), htlc(Side.B, 2, 30_000, expiry))
        else:
            pair.update()
        return pair

    @property
    def pair(self) -> Pair:
        """One of the channels, drawn anew each time."""
        return self.random.choice(self.pairs)

    def _fund(self, spk: bytes, amount: int) -> Funding:
        raw = spend_coins([self.coins.pop()], [TxOut(amount, spk)], version=2)
        return Funding(parse(raw).txid, 0, raw)

    def commitment(self) -> bytes:
        """Of the cheater, mostly; sometimes the honest newest of the other side."""
        if self.random.random() < 0.1:
            return self.pair.commitment(Side.B, _REVOKED)
        return self.pair.commitment(Side.A, self.random.randrange(_REVOKED + 1))

    def penalty(self) -> bytes:
        """Against a commitment that may or may not be there; it may also lack its parent."""
        return self.penalty_of(self.pair, self.random.randrange(_REVOKED))

    def penalty_of(self, pair: Pair, sequence: int) -> bytes:
        """Against a commitment of the cheater."""
        return penalty(pair, Side.A, sequence, self.random.choice(_FEES))

    def settlement(self) -> bytes:
        """Of some commitment of A, mostly the newest, whose conditions can be claimed."""
        return self.pair.settlement(Side.A, self.random.choice((*range(_REVOKED), _REVOKED, _REVOKED)))

    def claim(self) -> bytes:
        """Of a condition of the newest state, by its receiver at once or by its offerer from its height on."""
        pair, fee = self.pairs[0], self.random.choice(_FEES[:-1])
        number, offerer = self.random.choice(((1, Side.A), (2, Side.B)))
        (key,) = (each.key for each in pair.state(_REVOKED).content.read_conditions() if each.offerer is offerer)
        if self.random.random() < 0.5:
            receiver = pair.parties[offerer.other]
            return receiver.claim_success(pair.channel_id, _REVOKED, Side.A, key, preimage_of(number), fee)
        return pair.parties[offerer].claim_timeout(pair.channel_id, _REVOKED, Side.A, key, fee)

    def child(self, parent: Transaction, version: int = 3) -> bytes:
        """A child of the parent's anchor that brings one of three coins, so that children compete for coins, too."""
        vout = next(v for v, output in enumerate(parent.outputs) if output.value == ANCHOR_SAT)
        coin = self.random.choice(self.coins[:3])
        extra = self.random.choice((0, 0, 0, 40))  # outputs that make it larger than a version-3 child may be
        fee = self.random.choice(_FEES)
        outputs = [TxOut(COIN_SAT // 50, ANYBODY)] * extra
        outputs.append(TxOut(COIN_SAT + ANCHOR_SAT - fee - sum(out.value for out in outputs), ANYBODY))
        return spend_coins([Coin(make_outpoint(parent.txid, vout), ANCHOR_SAT, b""), coin], outputs, version=version)

    def stranger(self) -> bytes:
        """A payment that has nothing to do with the channel."""
        coin, fee = self.random.choice(self.coins[3:6]), self.random.choice(_FEES)
        lock = self.random.choice((0, 0, self.chain.height + self.random.randrange(3)))
        value = self.random.choice((*(COIN_SAT - fee,) * 5, 200))
        return spend_coins([coin], [TxOut(value, ANYBODY)], version=2, lock_time=lock)

    def any_transaction(self) -> bytes:
        """Something to send alone; rather one whose inputs are there than a further orphan."""
        return self._likely(lambda: [self._some_transaction()])[0]

    def a_package(self) -> list[bytes]:
        """Parent and child; rather a pair that has something to spend."""
        return self._likely(self._some_package)

    def _likely(self, draw: Callable[[], list[bytes]]) -> list[bytes]:
        for _ in range(_DRAWS - 1):
            drawn = draw()
            if all(self.chain.mempool.lookup(txin.outpoint) is not None for txin in parse(drawn[0]).inputs):
                return drawn
        return draw()

    def _some_transaction(self) -> bytes:
        makers: list[Callable[[], bytes]] = [self.commitment, self.penalty, self.settlement, self.stranger]
        makers += [self.penalty, self.penalty, self._child_of_something, self._again, self._close, self.claim]
        return self.random.choice(makers)()

    def _child_of_something(self) -> bytes:
        parent = self.random.choice((self.commitment, self.commitment, self.settlement))()
        return self.child(parse(parent), version=self.random.choice((3, 3, 3, 2)))

    def _again(self) -> bytes:
        return serialized(self.random.choice(list(self.known.values())))

    def _close(self) -> bytes:
        self._closed = self._closed or self.pairs[1].close(Side.A)
        return self._closed

    def _some_package(self) -> list[bytes]:
        pair, sequence = self.pair, self.random.randrange(_REVOKED)
        commit = pair.commitment(Side.A, sequence)
        kind = self.random.random()
        if kind < 0.5:
            return [commit, self.penalty_of(pair, sequence)]
        if kind < 0.8:
            return [commit, self.child(parse(commit))]
        settle = self.settlement()
        return [settle, self.child(parse(settle))]

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────

    def play(self, steps: int) -> None:
        """So many steps, then an empty mempool on both sides."""
        actions = (
            *[(lambda: self.send(self.any_transaction()))] * 9,
            *[(lambda: self.submit(self.a_package()))] * 5,
            *[self.mine_the_mempool] * 2,
            *[(lambda: self.mine(self._block()))] * 3,
            *[self.mine_nothing] * 2,
            *[self.reorg] * 2,
        )
        for _ in range(steps):
            self.random.choice(actions)()
        rest = [entry.tx.serialize() for entry in self.chain.mempool.entries.values()]
        self.mine(sorted_by_parents(rest))

    def send(self, raw: bytes) -> None:
        """Send one transaction to both, asking first what would happen."""
        self.say("send", raw)
        self.equal("test_accept", self.model.test_accept(raw).outcome, self.real.test_accept(raw).outcome)
        self.answered("broadcast", (self.model.broadcast(raw),), (self.real.broadcast(raw),))
        self.look()

    def submit(self, raws: Sequence[bytes]) -> None:
        """Submit a package to both."""
        self.say("package", *raws)
        self.answered("package", self.model.submit_package(raws), self.real.submit_package(raws))
        self.look()

    def mine_the_mempool(self) -> None:
        """Both make a block of what they have."""
        self.say("mine the mempool")
        self.chain.mine(minimum=BLOCK_MINIMUM)
        self.node.mine(1)
        self.equal_blocks()
        self.look()

    def mine_nothing(self) -> None:
        """Some empty blocks."""
        for left in range(self.random.randrange(1, 4), 0, -1):
            self.mine([], look=left == 1)

    def mine(self, raws: Sequence[bytes], *, look: bool = True) -> None:
        """A block of exactly these transactions, or an agreement that there cannot be one."""
        self.say("block", *raws)
        self.equal("block", self._mined_by_model(raws), self._mined_by_node(raws))
        if look:
            self.look()

    def _mined_by_model(self, raws: Sequence[bytes]) -> bool:
        try:
            self.chain.mine(raws)
        except Invalid:
            return False
        return True

    def _mined_by_node(self, raws: Sequence[bytes]) -> bool:
        try:
            self.node.generate_block(raws)
        except RpcRefused:
            return False
        return True

    def _block(self) -> list[bytes]:
        """Up to three transactions, most of them possible."""
        wished = [self.any_transaction() for _ in range(self.random.randrange(4))]
        parsed = {tx.txid: tx for tx in map(parse, wished)}
        taken, _ = fits(self.chain.ledger, parsed.values(), lambda tx: True)
        return [tx.serialize() for tx in (taken if self.random.random() < 0.8 else parsed.values())]

    def reorg(self) -> None:
        """Take blocks off and put others there, as many or one more."""
        depth = min(self.random.choice(_REORGS), self.chain.height - self.floor)
        if depth < 1:
            return
        self.say(f"reorg {depth}")
        lowest = self.node.hash_at(self.node.height() - depth + 1)
        self.chain.roll_back(depth)
        self.node.invalidate(lowest)
        self.look()
        for left in range(depth + self.random.randrange(2), 0, -1):
            block = self._block() if self.random.random() < 0.4 else []
            self.mine(block, look=bool(block) or left == 1)

    # ── comparing ────────────────────────────────────────────────────────────────────────────────────────

    def look(self) -> None:
        """Compare all that can be seen: height, mempool with fees and parents, outputs and who spends them."""
        self.equal("height", self.chain.height, self.node.height())
        self.equal("mempool", self._entries_of_model(), self._entries_of_node())
        places = [make_outpoint(tx.txid, vout) for tx in self.known.values() for vout in range(len(tx.outputs))]
        places += [coin.outpoint for coin in self.coins[:6]]
        self.equal("mempool spenders", self.model.mempool_spenders(places), self.real.mempool_spenders(places))
        for include in (True, False):
            ours, theirs = self.model.utxos(places, include), self.real.utxos(places, include)
            self.equal("outputs", self._plain(ours), self._plain(theirs))

    def _entries_of_model(self) -> dict[bytes, tuple[int, int, set[bytes]]]:
        return {t: (each.fee, each.vsize, set(each.parents)) for t, each in self.chain.mempool.entries.items()}

    def _entries_of_node(self) -> dict[bytes, tuple[int, int, set[bytes]]]:
        found = self.node.rpc("getrawmempool", True)
        return {
            from_display(txid): (satoshi(each["fees"]["base"]), each["vsize"], set(map(from_display, each["depends"])))
            for txid, each in found.items()
        }

    def _plain(self, found: Sequence[Utxo | None]) -> list[object]:
        # A coin from before the schedule is younger on the node than in the model, where it always was.
        most = self.chain.height - self.base
        return [each and (each.value, each.spk, min(each.confirmations, most)) for each in found]

    def equal_blocks(self) -> None:
        """Compare the transactions of the tip."""
        block = self.node.rpc("getblock", display(self.node.tip()), 1)
        self.equal("last block", set(self.chain.tip.txids), {from_display(txid) for txid in block["tx"][1:]})

    def answered(self, what: str, ours: Sequence[Answer], theirs: Sequence[Answer]) -> None:
        """Compare the classes of answers; the words go to the story."""
        self.moves.append(f"    model {[a.text for a in ours]}\n    node  {[a.text for a in theirs]}")
        self.equal(what, [a.outcome for a in ours], [a.outcome for a in theirs])

    def equal(self, what: str, ours: Any, theirs: Any) -> None:
        """Count an agreement; raises `Disagreement`."""
        if ours != theirs:
            story = "\n".join(self.moves[-30:])
            raise Disagreement(f"{what}: the model says {ours!r}, the node {theirs!r}\n{self.moves[0]}\n{story}")
        self.compared += 1

    def say(self, what: str, *raws: bytes) -> None:
        """Note a move, and remember the transactions."""
        for tx in map(parse, raws):
            self.known[tx.txid] = tx
        self.moves.append(f"{what} {[self._name(raw) for raw in raws]}")

    def _name(self, raw: bytes) -> str:
        tx = parse(raw)
        spends = ",".join(f"{txin.outpoint[31::-1].hex()[:6]}:{txin.outpoint[32]}" for txin in tx.inputs)
        return f"{display(tx.txid)[:6]} v{tx.version} {tx.vsize}vB spends {spends}"


def sorted_by_parents(raws: Sequence[bytes]) -> list[bytes]:
    """Parents before children."""
    left = {tx.txid: tx for tx in map(parse, raws)}
    done: list[bytes] = []
    while left:
        ready = [tx for tx in left.values() if not any(txin.outpoint[:32] in left for txin in tx.inputs)]
        for tx in ready:
            done.append(tx.serialize())
            del left[tx.txid]
    return done


def _plain(entry: Any) -> Any:
    return entry and (entry.fee, entry.vsize, set(entry.depends))
