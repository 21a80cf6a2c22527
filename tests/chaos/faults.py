"""What goes wrong: one function per fault. Each checks first that what it costs is inside the promise.

A fault that keeps the tower from a block is played only while every open breach keeps `SAFE` blocks; the schedule
repairs everything before that is used up. A reorg is played only if every breach keeps them on the new branch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from domain.errors import DomainError
from domain.units import Side
from tests.chaos.mischief import Act
from tests.chaos.stage import SHORT_CALL_SECONDS, Stage, Violation
from tests.support.parties import Pair
from watchtower.ports import StoreBroken, StoreError
from watchtower.tower import Hints

YEAR_MICROSECONDS = 365 * 86_400 * 1_000_000
UNASKED_BY_HANGS = ("getbestblockhash", "getblockheader", "gettxspendingprevout", "sendrawtransaction", "gettxout")
"""What may hang: `getblock` has a time limit of a minute."""


# ── reorganizations ───────────────────────────────────────────────────────────────────────────────────────────


def reorg(stage: Stage, rng: random.Random) -> None:
    """1 to 12 blocks are replaced; what stood in them may return, be another stale state, the newest or a joint one."""
    depth = rng.choice([1, 1, 1, 2, 3, 6, 11, 12])
    shift = rng.choice([-1, 0, 0, 1])
    fill = _contents(stage, rng, depth + 1 + shift)
    depth = min(depth, stage.ledger.height - stage.world_base - 1)
    if depth < 1 or depth + 1 + shift < 1:
        return
    fork = stage.ledger.height - depth
    if stage.slack(1 + shift, fork) <= 0:
        return
    stage.nodes.simple_reorg(fork + 1, shift, fill)
    stage.counts["reorgs"] += 1
    stage.counts["blocks reorged"] += depth
    stage.tell(f"reorg of {depth}, {depth + 1 + shift} new blocks")
    stage.nodes.settle()
    stage.ledger.refresh()


def _contents(stage: Stage, rng: random.Random, blocks: int) -> Callable[[int], Sequence[bytes]]:
    """What the new blocks hold: mostly nothing, somewhere something."""
    pair = rng.choice(stage.pairs)
    place = rng.randrange(max(1, blocks))
    choices: dict[str, Callable[[], Sequence[bytes]]] = {
        "nothing": lambda: (),
        "stale": lambda: (stage.stale(pair, rng),),
        "newest": lambda: (pair.commitment(Side.A, stage.newest(pair)),),
        "joint": lambda: tuple(filter(None, [stage.joint_close(pair)])),
        "mempool": lambda: stage.miner.block(()),
    }
    name = rng.choices(list(choices), [2, 4, 1, 1, 3])[0]
    return lambda number: choices[name]() if number == place else ()


def flip_flop(stage: Stage, rng: random.Random) -> None:
    """A to B and back to A: the same blocks are connected, disconnected and connected again."""
    del rng
    stage.ledger.refresh()
    if stage.ledger.height - stage.world_base < 3 or stage.slack(3, stage.ledger.height - 1) <= 0:
        return
    network = stage.nodes.network
    first = network.tip()
    network.invalidate(first)
    other = network.generate_block()
    network.generate_block()
    stage.nodes.settle()
    stage.look()
    network.invalidate(other)
    network.reconsider(first)
    for _ in range(3):
        stage.mine()
    stage.counts["reorgs"] += 2
    stage.tell("flip-flop")


def chain_moves_in_pass(stage: Stage, rng: random.Random) -> None:
    """A block, or a reorg, arrives between two calls of one pass."""
    if not stage.nodes.up or not stage.nodes.linked or stage.slack(3, stage.ledger.height - 1) <= 0:
        return
    left = rng.randint(0, 14)
    is_reorg = rng.random() < 0.5

    def move(method: str, params: object) -> None:
        nonlocal left
        del method, params
        left -= 1
        if left == -1:
            if is_reorg and stage.ledger.height > stage.world_base + 1:
                stage.nodes.simple_reorg(stage.nodes.network.height())
            else:
                stage.nodes.network.generate_block(stage.miner.block(()))
            stage.nodes.sync()

    stage.proxy.before_call = move
    stage.look()
    stage.proxy.before_call = None
    if left < 0:
        stage.counts["moves inside a pass"] += 1
        stage.counts["reorgs"] += is_reorg
        stage.tell("the chain moved inside a pass" + (" (reorg)" if is_reorg else ""))
    stage.nodes.settle()
    stage.ledger.refresh()


# ── the tower's node ──────────────────────────────────────────────────────────────────────────────────────────


def node_restart(stage: Stage, rng: random.Random) -> None:
    """The node is stopped and started, with its mempool or without; a pass finds nobody meanwhile."""
    stage.nodes.stop_own()
    stage.look()
    stage.nodes.launch_own(with_mempool=rng.random() < 0.5)
    stage.look()
    stage.nodes.link()
    stage.nodes.settle()


def node_killed(stage: Stage, rng: random.Random) -> None:
    """A power cut: the node comes back with an old chain, is asked, and hears of the network later."""
    stage.nodes.stop_own(kill=True)
    stage.nodes.launch_own(with_mempool=rng.random() < 0.5)
    stood = stage.cursor_hash()
    for _ in range(rng.randint(0, 2)):
        stage.look()
    if stood and stage.nodes.own.height() < stage.nodes.height_of(stood) and stage.cursor_hash() != stood:
        raise Violation("blocks were disconnected although the node is only behind")
    if rng.random() < 0.3 and stage.slack(1) > 0:
        stage.mine()
        stage.look()
    stage.nodes.link()
    stage.nodes.settle()


def node_outage(stage: Stage, rng: random.Random) -> None:
    """The node is down from now on, until the schedule has to repair it or later steps start it."""
    if stage.slack(1) > 0 and stage.nodes.up:
        stage.nodes.stop_own(kill=rng.random() < 0.3)


def cut_off(stage: Stage, rng: random.Random) -> None:
    """The node hears nothing of the network from now on."""
    del rng
    if stage.slack(1) > 0 and stage.nodes.up:
        stage.nodes.cut()


def node_evicts(stage: Stage, rng: random.Random) -> None:
    """The node loses its mempool and nobody tells it what was in there."""
    del rng
    if not stage.nodes.up:
        return
    stage.nodes.stop_own()
    stage.nodes.launch_own(with_mempool=False)
    stage.look()
    stage.nodes.link()


def network_evicts(stage: Stage, rng: random.Random) -> None:
    """The network forgets every unconfirmed transaction."""
    del rng
    was_linked = stage.nodes.linked
    stage.nodes.cut()
    stage.nodes.network.restart(["-persistmempool=0"])
    if was_linked:
        stage.nodes.link()
        stage.nodes.settle()


# ── the wire ──────────────────────────────────────────────────────────────────────────────────────────────────


def rpc_lost_before(stage: Stage, rng: random.Random) -> None:
    """Questions get lost on their way."""
    stage.proxy.fail_before(times=rng.randint(1, 8), skip=rng.randint(0, 12), p=rng.choice([0.2, 1.0]))


def rpc_lost_after(stage: Stage, rng: random.Random) -> None:
    """The node did it, and its answer gets lost."""
    methods = rng.choice([("sendrawtransaction",), ("sendrawtransaction", "submitpackage"), ()])
    stage.proxy.fail_after(*methods, times=rng.randint(1, 6), skip=rng.randint(0, 4))


def rpc_hangs(stage: Stage, rng: random.Random) -> None:
    """One call is never answered."""
    stage.be_patient(SHORT_CALL_SECONDS)
    stage.proxy.hang(*UNASKED_BY_HANGS, times=2, skip=rng.randint(0, 8))


def rpc_truncated(stage: Stage, rng: random.Random) -> None:
    """Replies end in the middle."""
    stage.proxy.truncate(times=rng.randint(1, 6), p=rng.choice([0.2, 1.0]), skip=rng.randint(0, 6))


def rpc_garbled(stage: Stage, rng: random.Random) -> None:
    """Replies that are no JSON, or none that was asked for."""
    body = rng.choice([b"", b"null", b"[]", b"<html>", b'{"result":null,"error":null,"id":0}', b"\xff" * 40])
    stage.proxy.garble(body, times=rng.randint(1, 4), skip=rng.randint(0, 8))


def rpc_busy(stage: Stage, rng: random.Random) -> None:
    """The node's work queue is full."""
    stage.proxy.status(503, times=rng.randint(1, 10), p=0.5)


def rpc_warming_up(stage: Stage, rng: random.Random) -> None:
    """The node loads its blocks."""
    stage.proxy.error(-28, "Loading block index...", times=rng.randint(1, 20), skip=rng.randint(0, 5))


def rpc_unknown_refusal(stage: Stage, rng: random.Random) -> None:
    """Transactions are refused for reasons that nobody knows."""
    code, text = rng.choice([(-26, "some-new-policy"), (-25, "whatever"), (-1, "internal"), (-999, "?"), (-10, "late")])
    stage.proxy.error(code, text, "sendrawtransaction", "submitpackage", times=rng.randint(1, 5))


def absurd_estimate(stage: Stage, rng: random.Random) -> None:
    """The estimator says nothing per block, or ten million."""
    rate = rng.choice([0.0, 0.00000001, 100.0])
    stage.proxy.replace(lambda _params, _result: {"feerate": rate, "blocks": 2}, "estimatesmartfee", times=12)


# ── the market ────────────────────────────────────────────────────────────────────────────────────────────────


def fee_jump(stage: Stage, rng: random.Random) -> None:
    """From now on blocks want more, or less; never more than a penalty can pay."""
    stage.miner.threshold = rng.choice([0.0, 0.0, 0.05, 0.3, 0.9, 1.0])
    stage.miner.floor = rng.choice([0.0, 1.0, 5.0, 20.0, 80.0, 200.0])
    stage.tell(f"blocks ask for {stage.miner.threshold:.0%} or {stage.miner.floor} sat/vB")


def censorship(stage: Stage, rng: random.Random) -> None:
    """Miners leave our penalties out, until the schedule has to be fair again."""
    del rng
    stage.miner.censoring = True


# ── the tower ─────────────────────────────────────────────────────────────────────────────────────────────────


def tower_killed(stage: Stage, rng: random.Random) -> None:
    """The next pass dies at one of its points."""
    stage.cuts.left = rng.randint(0, 14)
    stage.look(rng.choice([Hints(full_sweep=True), Hints()]))


def tower_restart(stage: Stage, rng: random.Random) -> None:
    """The tower ends between two passes and starts again."""
    del rng
    if not stage.is_away:
        stage.counts["restarts"] += 1
        stage.restart_tower()


def tower_away(stage: Stage, rng: random.Random) -> None:
    """Nobody runs the tower until the schedule has to repair it."""
    del rng
    if not stage.is_away and stage.slack(1) > 0:
        stage.world.stop()
        stage.is_away = True


def views_lost(stage: Stage, rng: random.Random) -> None:
    """The read models are gone; the log makes them again."""
    del rng
    if stage.is_away:
        return
    stage.world.stop()
    for path in stage.world.directory.glob("views.db*"):
        path.unlink()
    stage.reopen_tower()


def disk_full(stage: Stage, rng: random.Random) -> None:
    """The log cannot grow until the schedule has to repair it."""
    del rng
    if not stage.is_away and stage.slack(1) > 0:
        stage.fill_disk()


def clock_jump(stage: Stage, rng: random.Random) -> None:
    """The wall clock is wrong by up to a year."""
    stage.clock.skew = rng.randint(-YEAR_MICROSECONDS, YEAR_MICROSECONDS)


def upload(stage: Stage, rng: random.Random) -> None:
    """A client brings a further state; what is not acknowledged is not relied on."""
    open_pairs: list[Pair] = [
        pair
        for pair in stage.pairs
        if not stage.is_closing(pair)
        and pair.sequence == stage.newest(pair)
        and stage.ledger.spender(pair.params.funding_outpoint) is None
    ]
    if not open_pairs or stage.is_away:
        return
    pair = rng.choice(open_pairs)
    try:
        sequence = stage.next_state(pair)
        stage.world.upload(pair, sequence)
    except StoreBroken as broken:
        stage.died(f"the store: {broken}")
    except (StoreError, DomainError) as error:
        stage.tell(f"upload refused: {type(error).__name__}: {error}")
    else:
        stage.counts["uploads"] += 1
        stage.acknowledge(pair)


def bells_broken(stage: Stage, rng: random.Random) -> None:
    """Notifications are lost, doubled, late, forged, or stop; until the schedule has to repair them."""
    stage.break_bells(rng.randrange(8))


ACTS: dict[str, Act] = {
    act.__name__: act
    for act in (
        reorg,
        flip_flop,
        chain_moves_in_pass,
        node_restart,
        node_killed,
        node_outage,
        cut_off,
        node_evicts,
        network_evicts,
        rpc_lost_before,
        rpc_lost_after,
        rpc_hangs,
        rpc_truncated,
        rpc_garbled,
        rpc_busy,
        rpc_warming_up,
        rpc_unknown_refusal,
        absurd_estimate,
        fee_jump,
        censorship,
        tower_killed,
        tower_restart,
        tower_away,
        views_lost,
        disk_full,
        clock_jump,
        upload,
        bells_broken,
    )
}
