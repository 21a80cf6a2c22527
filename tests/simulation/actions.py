"""What may happen in one step besides blocks and passes. Each action is a function of the world and a random source.

The probabilities are those of the starting distribution; actions that do not apply at the moment do nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from domain.transaction import Transaction
from tests.simulation.blocks import serialized
from tests.simulation.case import Case, known_transactions, parsed
from tests.simulation.fairness import allows_blocks, allows_reorg, excuse, has_open_breach, knows_every_breach
from tests.simulation.miners import FULL_BUDGET, THRESHOLDS, thief_child
from tests.simulation.policy import REENTRY_DEPTH
from watchtower.ports import NodeUnavailable, NodeWarmingUp

if TYPE_CHECKING:
    from tests.simulation.world import SimWorld

Action = Callable[["SimWorld", random.Random], None]

DEPTHS = (1, 1, 1, 2, 3, 6, 11, 20)
"""Depths of reorgs; above 10 blocks the mempool is emptied."""


# ── the cheater and other closers ────────────────────────────────────────────────────────────────────────


def breach(world: SimWorld, source: random.Random) -> None:
    """A revoked commitment is published: in the mempool, with a child that pays for it, or only in a block.

    Now and then a cheater with several channels takes all chances at once.
    """
    cases = world.cases if source.random() < 0.4 else [source.choice(world.cases)]
    for case in cases:
        if case.revoked < 0 or _is_confirmed(world, case):
            continue
        sequence = source.randint(0, case.revoked)
        _publish(world, case, case.channel.commitments[sequence], source, f"state {sequence} of {case.channel.index}")
        world.counts["breaches_published"] += 1


def close(world: SimWorld, source: random.Random) -> None:
    """A close that the tower may not punish: the newest, a joint one, one of the future, or the owner's own old one."""
    case = source.choice(world.cases)
    if case.newest < 0 or _is_confirmed(world, case):
        return
    newest, total = case.newest, len(case.channel.uploads)
    choices = [("peer", case.channel.commitments[newest]), ("own", case.channel.own_commitments[newest])]
    if newest == total:
        choices.append(("coop", case.channel.coop))
    if case.revoked >= 0:
        choices.append(("self", case.channel.own_commitments[source.randint(0, case.revoked)]))
    if newest + 1 <= total:
        choices.append(("future", case.channel.commitments[source.randint(newest + 1, total)]))
    name, raw = source.choice(choices)
    if name == "own":
        case.own_out.add(newest)
    _publish(world, case, raw, source, f"{name} close of {case.channel.index}")
    world.counts["closes_" + name] += 1


def swap(world: SimWorld, source: random.Random) -> None:
    """What waits in the mempool is replaced: by another stale state, the newest, or a cooperative close."""
    waiting = [case for case in world.cases if case.funding in world.chain.mempool.spenders]
    if not waiting:
        return
    case = source.choice(waiting)
    choices = [*case.channel.commitments[: case.revoked + 1], case.channel.commitments[max(case.newest, 0)]]
    if case.newest == len(case.channel.uploads):
        choices.append(case.channel.coop)
    _publish(world, case, source.choice(choices), source, f"swap in {case.channel.index}")
    world.counts["swaps"] += 1


def child(world: SimWorld, source: random.Random) -> None:
    """The cheater spends the anchor of a waiting commitment, to keep our penalty out."""
    for case in world.cases:
        txid = world.chain.mempool.spenders.get(case.funding)
        if txid is not None:
            fee = source.choice((500, 2_000, 5_000, 40_000, 150_000))
            taken = world.chain.send(world.chain.anchor_child(txid, fee=fee)) is None
            world.counts["children"] += taken
            world.tell(f"child of {fee} sat {'in' if taken else 'refused'}")


def reveal(world: SimWorld, source: random.Random) -> None:
    """The cheater's secret of the newest state arrives without the next state, perhaps after it was published."""
    able = [case for case in world.cases if case.revoked < case.newest < len(case.channel.uploads)]
    closed = [case for case in able if _is_confirmed(world, case)]
    if not able:
        return
    case = source.choice(closed if closed and source.random() < 0.7 else able)
    sequence = case.newest
    world.guarded(lambda: world.clients.reveal(world.context, case, sequence))
    excuse(world, case)
    world.tell(f"secret of state {sequence} of {case.channel.index}")


def _publish(world: SimWorld, case: Case, raw: bytes, source: random.Random, what: str) -> None:
    way = source.random()
    chain = world.chain
    if way < 0.3:
        world.miners.smuggled.append(raw)
        world.tell(f"{what}, past the mempool")
        return
    rival = chain.mempool.spenders.get(case.funding)
    if rival is not None and rival != parsed(raw).txid:
        chain.mempool.evict(rival)
    refusal = chain.send(raw)
    if parsed(raw).version == 3 and (refusal is not None or way < 0.6):
        fee = source.choice((2_000, 9_000, 60_000))
        chain.send_package([raw, thief_child(world, raw, fee)])
    world.tell(f"{what}, to the mempool: {chain.mempool.spenders.get(case.funding) == parsed(raw).txid}")


def _is_confirmed(world: SimWorld, case: Case) -> bool:
    return case.funding in world.chain.ledger.spenders or world.chain.ledger.coin(case.funding) is None


# ── the chain ────────────────────────────────────────────────────────────────────────────────────────────


def reorg(world: SimWorld, source: random.Random) -> None:
    """The last blocks are replaced by as many, or one more; some stale states by other ones."""
    depth = source.choice(DEPTHS)
    length = depth + source.randint(0, 1)
    depth_allowed = min(depth, world.chain.height - world.bottom)
    if depth_allowed < depth:
        length, depth = depth_allowed + length - depth, depth_allowed
    if depth < 1 or not allows_reorg(world, depth, length):
        return
    play_reorg(world, depth, length, source)


def play_reorg(world: SimWorld, depth: int, length: int, source: random.Random) -> None:
    """Replace blocks; the transactions of the old branch return in any order, late, in another form, or not."""
    blocks: list[list[bytes]] = [[] for _ in range(length)]
    replaced = world.chain.ledger.blocks[-depth:]
    first = 0
    for tx in (tx for block in replaced for tx in block.transactions):
        raw = serialized(tx)
        case, kind = _what(world, tx)
        if kind == "funding":
            blocks[0].append(raw)
        elif case is not None and kind == "commit" and case.revoked > 0 and source.random() < 0.4:
            raw = case.channel.commitments[source.randint(0, case.revoked)]
            blocks[source.randrange(length)].append(raw)
            world.counts["replaced_in_reorg"] += 1
        elif source.random() < (0.5 if kind else 0.3):
            first = source.randrange(first, length)
            blocks[first].append(raw)
    # A node that restarts in the middle of it forgets its mempool, whatever the depth.
    world.chain.reorg(depth, blocks, forget=depth > REENTRY_DEPTH or source.random() < 0.3)
    world.counts["reorgs"] += 1
    world.counts["reorged_blocks"] += depth
    world.tell(f"reorg of {depth} blocks, {length} new ones")


def _what(world: SimWorld, tx: Transaction) -> tuple[Case | None, str]:
    for case in world.cases:
        known = known_transactions(case.channel.index).get(tx.txid)
        if known is not None:
            return case, known.kind
    return None, ""


def move(world: SimWorld, source: random.Random) -> None:
    """The chain moves between two calls of the tower: a block, or a reorg that may reach below the tower's cursor."""
    depth = source.choice((1, 1, 2, 3))
    deep_enough = world.chain.height - world.bottom >= depth
    if source.random() < 0.5 and deep_enough and allows_reorg(world, depth, depth + 1):
        play_reorg(world, depth, depth + source.randint(0, 1), source)
    elif allows_blocks(world, 2):
        world.mine()


def evict(world: SimWorld, source: random.Random) -> None:
    """Our penalties leave the mempool."""
    del source
    if not allows_blocks(world, 1):
        return
    for entry in list(world.chain.mempool.entries.values()):
        if [out.spk for out in entry.tx.outputs] in [[case.channel.sweep] for case in world.cases]:
            world.chain.mempool.evict(entry.txid)
            world.counts["evictions"] += 1


def feerate(world: SimWorld, source: random.Random) -> None:
    """What the next blocks cost, and what the node's estimator makes of it: right, late, nothing, absurd."""
    world.miners.threshold = source.choice((*THRESHOLDS, FULL_BUDGET))
    rate = source.choice(THRESHOLDS) if world.miners.threshold == FULL_BUDGET else world.miners.threshold
    world.chain.going_rate = rate * source.uniform(0.8, 1.2)
    kind = source.random()
    if kind < 0.25:
        world.node.estimates = {}
    elif kind < 0.35:
        world.node.estimates = dict.fromkeys((1, 2, 3, 6), source.choice((0.0, 1e7)))
    elif kind < 0.5:
        world.node.estimates = {6: rate}
    else:
        world.node.estimates = None
    if source.random() < 0.15:
        world.chain.mempool.raise_minimum(source.choice((0.0, 0.0, 3.0, 30.0)))
    world.counts["feerate_jumps"] += 1


def censor(world: SimWorld, source: random.Random) -> None:
    """Miners refuse our penalties for some blocks, or make empty ones."""
    blocks = source.randint(1, 4)
    if not allows_blocks(world, blocks):
        return
    if source.random() < 0.5:
        world.miners.censored_until = world.chain.height + blocks
    else:
        world.miners.empty_until = world.chain.height + blocks
    world.counts["censorship"] += 1


# ── the tower's own node and host ────────────────────────────────────────────────────────────────────────


def outage(world: SimWorld, source: random.Random) -> None:
    """The node is down, loading, or blind for new blocks."""
    blocks = source.randint(1, 5)
    if world.node.is_troubled or not allows_blocks(world, blocks):
        return
    kind = source.choice(("down", "warming_up", "isolated"))
    if kind == "isolated":
        world.node.isolate()
    else:
        world.node.trouble = NodeUnavailable("refused") if kind == "down" else NodeWarmingUp("-28: Loading block index")
    world.node.until = world.chain.height + blocks
    world.counts["outage_" + kind] += 1
    world.tell(f"node {kind} for {blocks} blocks")


def roll_back(world: SimWorld, source: random.Random) -> None:
    """The node has lost its last blocks, as after a power cut; the truth is unchanged."""
    if world.node.is_troubled or not allows_blocks(world, 2):
        return
    blocks = source.randint(1, 5)
    world.node.roll_back(blocks)
    world.node.until = world.chain.height + source.randint(0, 2)
    world.counts["roll_backs"] += 1
    world.tell(f"node rolled back by {blocks}")


def unreadable(world: SimWorld, source: random.Random) -> None:
    """The next block cannot be read for a while, or for long: cut off, not on the disk, or pruned."""
    blocks = source.choice((1, 2, 3, 4, 40))
    if world.node.is_troubled or not allows_blocks(world, min(blocks, 4) + 1):
        return
    in_the_dark = has_open_breach(world) and knows_every_breach(world) and source.random() < 0.7
    if in_the_dark:
        # Nothing but the answers can go on now, at the highest price that there is.
        blocks, world.miners.threshold = 40, FULL_BUDGET
    elif source.random() < 0.5:
        breach(world, source)
    world.mine()
    kind = "damaged" if in_the_dark else source.choice(("damaged", "missing", "pruned"))
    tip = world.chain.tip
    if kind == "pruned":
        world.node.prune(tip.height + 1)
    else:
        (world.node.damaged if kind == "damaged" else world.node.missing).add(tip.hash)
    world.node.opaque = in_the_dark or source.random() < 0.7
    world.node.peers_have_blocks = source.random() < 0.5
    world.node.until = world.chain.height + blocks
    world.counts["block_" + kind] += 1
    world.tell(f"block {tip.height} is {kind}")


def disk_full(world: SimWorld, source: random.Random) -> None:
    """The store refuses writes for a while."""
    blocks = source.randint(1, 3)
    if world.store.full or not allows_blocks(world, blocks):
        return
    world.store.full = True
    world.full_until = world.chain.height + blocks
    world.counts["disk_full"] += 1
    world.tell("disk full")


def clock_jump(world: SimWorld, source: random.Random) -> None:
    """The wall clock is set by hours or years."""
    world.clock.jump(source.choice((-3_600, 3_600, -86_400 * 400, 86_400 * 3_650)))
    world.counts["clock_jumps"] += 1


def lose_power(world: SimWorld, source: random.Random) -> None:
    """The host restarts."""
    del source
    if allows_blocks(world, 1):
        world.crash()
        world.counts["power_cuts"] += 1


ACTIONS: tuple[tuple[float, Action], ...] = (
    (0.12, breach),
    (0.10, reorg),
    (0.05, evict),
    (0.10, feerate),
    (0.05, outage),
    (0.03, roll_back),
    (0.05, close),
    (0.06, swap),
    (0.04, child),
    (0.04, reveal),
    (0.03, censor),
    (0.04, unreadable),
    (0.02, disk_full),
    (0.03, clock_jump),
    (0.03, lose_power),
)
"""Probability per step and action."""
