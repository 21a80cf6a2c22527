"""Random stories about conditional outputs: closes whose HTLCs both sides take, lose in a reorg and take again.

As `tests.regtest.stories`, but both channels hold HTLCs of both directions that expire within the story. The peer (A)
settles and claims what is his, in the mempool or in a block of his own; the owner (B) leaves everything to the tower
and hands over preimages now and then.
"""

from __future__ import annotations

from domain.chain import make_outpoint
from domain.contract.conditions import Condition
from domain.contract.settlement import plan_settlement
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.stories import CALM_BLOCKS, Place, Story
from tests.regtest.world import World
from tests.support.parties import Pair, htlc, preimage_of
from watchtower.channels.preimages import add_preimage
from watchtower.wire.conditions import PreimageRequest
from watchtower.wire.hexes import SecretHex

PERIODS = (1, 2, 3)
PEERS_FEE = 900
SOON = 8
"""The HTLCs expire within so many blocks after the story's beginning."""

Taken = tuple[Place, bool]
"""Where a conditional output was spent, and whether that pays B."""


class ClaimStory(Story):
    """Two channels whose newest state has an HTLC of each side; `given` are the preimages that the tower was given."""

    def _open_channels(self) -> list[Pair]:
        self.given: set[int] = set()
        self.conditions: list[tuple[Condition, ...]] = []
        pairs = []
        for first in (1, 3):
            pair = self.world.open(updates=1, challenge_period=self._random.choice(PERIODS))
            height = self.world.node.height()
            by_a, by_b = (height + self._random.randint(2, SOON) for _ in Side)
            self.conditions.append((htlc(Side.A, first, 30_000, by_a), htlc(Side.B, first + 1, 40_000, by_b)))
            self.world.upload(pair, pair.with_htlcs(*self.conditions[-1]))
            pairs.append(pair)
        return pairs

    def _add_moves(self) -> None:
        self._moves["peer"] = lambda: self.world.node.send_raw(self._peers())
        self._moves["peer's block"] = lambda: self.world.node.generate_block([self._peers()])
        self._moves["preimage"] = self._give
        self._moves["reorg again"] = self._reorg
        del self._moves["lose the mempool"], self._moves["restart"]  # the other stories have them; a look may still die

    def play(self, moves: int) -> None:
        """After honest closes of both channels, which a reorg may take away again."""
        for pair in self.pairs:
            self.world.node.generate_block([pair.commitment(self._random.choice(list(Side)), pair.sequence)])
        super().play(moves)

    def calm_down(self) -> None:
        """Until the last expiry has passed as well."""
        super().calm_down()
        last = max(condition.expiry for conditions in self.conditions for condition in conditions)
        for _ in range(max(0, last + CALM_BLOCKS - self.world.node.height())):
            self.world.node.mine(1)
            self.world.look()

    def _spend(self) -> bytes:
        """Mostly an honest close: a penalty leaves nothing to claim."""
        pair = self._random.choice(self.pairs)
        if self._random.random() < 0.1:
            return pair.commitment(Side.A, self._random.randrange(pair.sequence))
        return pair.commitment(self._random.choice(list(Side)), pair.sequence)

    def _block(self) -> None:
        self.world.node.generate_block([self._random.choice([self._spend, self._peers])()])

    def _peers(self) -> bytes:
        """The settlement of one of the newest commitments, or a claim of A on one of its outputs."""
        number = self._random.randrange(len(self.pairs))
        pair, closer = self.pairs[number], self._random.choice(list(Side))
        by_a, by_b = self.conditions[number]
        makers = (
            lambda: pair.settlement(closer, pair.sequence),
            lambda: pair.a.claim_timeout(pair.channel_id, pair.sequence, closer, by_a.key, PEERS_FEE),
            lambda: pair.a.claim_success(
                pair.channel_id, pair.sequence, closer, by_b.key, preimage_of(by_b.id), PEERS_FEE
            ),
        )
        return self._random.choice(makers)()

    def _give(self) -> None:
        number = self._random.randrange(len(self.pairs))
        preimage = preimage_of(self.conditions[number][0].id)
        stream = self.world.stream(self.pairs[number])
        add_preimage(self.world.context, stream, PreimageRequest(preimage=SecretHex(preimage)))
        self.given.add(self.conditions[number][0].id)


def outputs_on_chain(world: World, pair: Pair, conditions: tuple[Condition, ...]) -> dict[int, Taken | None]:
    """Who took each conditional output of the settled close, by the node; empty without a settlement in a block."""
    settlement = _settlement(world, pair)
    if settlement is None:
        return {}
    vouts = _vouts(pair)
    return {
        condition.id: _taken(world, pair, make_outpoint(settlement, vouts[condition.key])) for condition in conditions
    }


def outputs_in_log(world: World, pair: Pair, conditions: tuple[Condition, ...]) -> dict[int, Taken | None]:
    """The same, as far as the tower knows."""
    channel = world.channel(pair)
    spend = channel.confirmed_spend
    end = None if spend is None else channel.contest_spend(spend.txid)
    if end is None or end.is_penalty:
        return {}
    found: dict[int, Taken | None] = {}
    for condition in conditions:
        claimed = channel.claim_end(end.txid, condition.key)
        found[condition.id] = None if claimed is None else ((claimed.txid, claimed.block.hash), claimed.ours)
    return found


def due(story: ClaimStory, conditions: tuple[Condition, ...]) -> set[int]:
    """What somebody must have taken in the end: B its refunds, and what the preimages it was given open."""
    return {each.id for each in conditions if each.offerer is Side.B or each.id in story.given}


def _settlement(world: World, pair: Pair) -> bytes | None:
    commitment = world.node.spender(pair.params.funding_outpoint)
    if commitment not in [pair.commitment_txid(side, pair.sequence) for side in Side]:
        return None
    settlement = world.node.spender(make_outpoint(commitment, 0))
    return None if settlement is None or world.node.confirmation(settlement) is None else settlement


def _vouts(pair: Pair) -> dict[tuple[int, int], int]:
    content = pair.state(pair.sequence).content
    return plan_settlement(pair.params, *content.read_header().balances, content.read_conditions()).condition_vouts


def _taken(world: World, pair: Pair, outpoint: bytes) -> Taken | None:
    txid = world.node.spender(outpoint)
    block = None if txid is None else world.node.confirmation(txid)
    if txid is None or block is None:
        return None
    raw = world.node.transaction(txid)
    assert raw is not None
    pays_b = pair.params.keys(Side.B).payout in [out.spk for out in Transaction.parse(raw).outputs]
    return (txid, block.block_hash), pays_b
