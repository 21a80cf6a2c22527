"""The follower and the audit against the model chain: every depth of a reorg, lost and unreadable blocks, lies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from domain.chain import BlockHash, OutPoint
from domain.events import (
    AuditMismatch,
    BlockConnected,
    BlockDisconnected,
    BlockUnavailable,
    BreachDetected,
    FundingBroadcast,
    PenaltyConfirmed,
    SpendConfirmed,
    SpendReplaced,
)
from tests.simulation.node import ModelNode
from tests.support.small_world import SWEEP, SmallWorld
from watchtower.chain import audit
from watchtower.chain.fetch import PATIENCE
from watchtower.chain.follow import CursorUnknown, NodeBehind
from watchtower.channels.register import register
from watchtower.node.blocks import BlockUnparseable
from watchtower.ports import BlockNotAvailable, NodeError, NodeUnavailable, StoreConflict, StoreError, WrongChain
from watchtower.tower import Hints


class Overridden:
    """The model node with single methods replaced."""

    def __init__(self, node: ModelNode) -> None:
        self.node = node
        self.faults: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return self.faults.get(name) or getattr(self.node, name)


def faults(world: SmallWorld) -> dict[str, Callable[..., Any]]:
    """The replaced methods."""
    port: Any = world.port
    return port.faults  # type: ignore[no-any-return]


def opened(**options: Any) -> SmallWorld:
    """A world with an open channel, states 0 to 3 revoked."""
    world = SmallWorld(wrap=Overridden, **options)
    world.open()
    return world


def is_walk(world: SmallWorld) -> bool:
    """Each connect builds on the tip before it, each disconnect takes that tip off (oracle O4)."""
    events = [e.payload for e in world.store.read_stream("chain")]
    tip: bytes = events[0].block.hash  # type: ignore[union-attr]
    for event in events[1:]:
        if isinstance(event, BlockConnected):
            if event.prev != tip:
                return False
            tip = event.block.hash
        elif isinstance(event, BlockDisconnected):
            if event.block.hash != tip:
                return False
            tip = event.parent.hash
    return tip == world.chain.tip.hash


# ── reorgs ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("depths", [range(1, 34), range(34, 67), range(67, 101)])
def test_fault_C2_reorgs_of_every_depth(depths: range) -> None:
    """From 1 to 100 blocks: the walk ends at the new tip, by disconnects down to the fork and nothing else."""
    world = SmallWorld()
    for depth in depths:
        world.chain.reorg(depth)
        before = len(world.events(BlockDisconnected, "chain"))
        world.look()
        assert depth == len(world.events(BlockDisconnected, "chain")) - before
        assert world.is_at_tip
    assert is_walk(world)


@pytest.mark.parametrize("depth", [2, 3, 11, 20])
def test_fault_C2_a_breach_is_carried_through_a_deep_reorg(depth: int) -> None:
    """Breach and penalty are undone together and redone: nothing is forgotten below ten blocks either."""
    world = opened()
    world.cheat(1)
    world.look()
    for _ in range(depth - 1):
        world.chain.mine()
        world.look()
    assert world.status == "PUNISHED"

    world.chain.reorg(depth)
    world.look()
    world.look()
    assert world.penalty(1) is not None
    world.chain.mine()
    world.look()

    assert world.status == "PUNISHED"
    assert is_walk(world)


def test_fault_C9_flip_flop_between_two_branches() -> None:
    """Twenty flips: connect and disconnect are each other's mirror, and each return is recorded again."""
    world = opened()
    world.cheat(2)
    world.look()
    with_breach = world.chain.tip.hash
    world.chain.reorg(1, [[]])
    without = world.chain.tip.hash
    for _ in range(10):
        world.look()
        assert world.channel.confirmed_spend is None
        world.chain.prefer(with_breach)
        world.look()
        assert world.status == "UNILATERAL"
        world.chain.prefer(without)
    world.look()

    assert 11 == len(world.events(SpendConfirmed))
    assert is_walk(world)


def test_fault_C12_a_reorg_below_the_undo_limit_waits_for_a_person() -> None:
    """With a history of 5 a reorg of 10 changes nothing; whoever has the whole history gets through."""
    world = SmallWorld(undo_limit=5)
    world.chain.reorg(10)
    events = len(world.store.read_stream("chain"))

    for _ in range(3):
        with pytest.raises(CursorUnknown):
            world.look()
    assert events == len(world.store.read_stream("chain"))

    world.undo_limit = 10**9
    world.restart()
    assert world.is_at_tip
    assert is_walk(world)


def test_fault_N10_less_work_undoes_nothing_and_a_person_may_accept_it() -> None:
    """A node that was rolled back is waited for; `step_back` is what a person's command does."""
    world = opened()
    world.chain.mine_many(5)
    world.look()
    world.node.roll_back(4)
    events = len(world.store.read_stream("chain"))

    with pytest.raises(NodeBehind):
        world.look()
    assert events == len(world.store.read_stream("chain"))
    assert 4 == world.tower.follower.step_back()
    assert world.look().error is None
    assert world.tower.follower.cursor.hash == world.node.best_hash()


def test_fault_C8_the_chain_flips_back_while_the_fork_is_searched() -> None:
    """Between two questions our own tip becomes active again: no disconnect, no crash, the next pass connects."""
    world = opened()
    ours = world.chain.tip.hash
    world.chain.reorg(1, [[], []])
    asked: list[bytes] = []

    def flipping(block_hash: bytes) -> Any:
        asked.append(block_hash)
        if block_hash == ours and asked.count(ours) == 2:
            world.chain.prefer(ours)
        return world.node.header(block_hash)

    faults(world)["header"] = flipping
    for _ in range(3):
        world.tower.run_pass(SWEEP)

    assert world.is_at_tip
    assert is_walk(world)


@pytest.mark.parametrize("method", ["best_hash", "hash_at", "header", "block", "utxos", "mempool_spenders"])
def test_fault_C8_the_chain_moves_between_any_two_calls(method: str) -> None:
    """A reorg with the breach right before each kind of question: the walk stays one, and the breach is found."""
    world = opened()
    world.chain.mine_many(2)
    world.tower.audit.request()
    done: list[int] = []

    def moving(*arguments: Any, **named: Any) -> Any:
        if not done:
            done.append(1)
            world.chain.reorg(2, [[], [world.pool.commitments[1]], []])
        return getattr(world.node, method)(*arguments, **named)

    faults(world)[method] = moving
    for _ in range(4):
        world.tower.run_pass(SWEEP)

    assert is_walk(world)
    assert world.penalty(1) is not None


def test_a_block_of_another_hash_is_not_taken() -> None:
    """The bytes must be those of the hash that was asked for."""
    world = opened()
    other = world.chain.tip.raw
    world.cheat(1)
    faults(world)["block"] = lambda _hash: other

    with pytest.raises(NodeError, match="another block"):
        world.look()
    faults(world).clear()
    world.look()
    assert world.penalty(1) is not None


def test_a_log_with_channels_and_without_a_cursor_is_an_error() -> None:
    """Never "start at the tip": what was mined meanwhile would be skipped."""
    world = opened()
    world.store._streams["chain"].clear()

    with pytest.raises(StoreError, match="no cursor"):
        world.restart()


def test_fault_N11_another_network_writes_nothing() -> None:
    """A node of another chain is refused before anything is written."""
    world = opened()
    info = world.node.chain_info()
    faults(world)["chain_info"] = lambda: type(info)(
        "signet", info.blocks, info.headers, info.best_hash, info.initial_block_download, 0
    )
    events = world.store.last_id()

    with pytest.raises(WrongChain):
        world.restart()
    assert events == world.store.last_id()


# ── blocks that cannot be had or read ────────────────────────────────────────────────────────────────────


def passes(world: SmallWorld, count: int) -> list[Exception | None]:
    """Errors of so many passes."""
    return [world.tower.run_pass(SWEEP).error for _ in range(count)]


def test_fault_N9_a_lost_block_that_is_proved_is_passed_over() -> None:
    """The breach stands in a block that nobody has: its commitment is computed, its block follows from its depth."""
    world = opened()
    world.cheat(2)
    height = world.chain.height
    world.chain.mine_many(3)
    world.node.peers_have_blocks = False
    world.node.prune(height + 2)

    errors = passes(world, PATIENCE)

    assert [True] * (PATIENCE - 1) + [False] == [isinstance(error, BlockNotAvailable) for error in errors]
    assert world.is_at_tip
    assert [height, height + 1] == [event.block.height for event in world.events(BlockUnavailable, "chain")]
    (breach,) = world.events(BreachDetected)
    assert (height, 2) == (breach.block.height, breach.sequence)
    assert world.penalty(2) is not None
    world.chain.mine()
    world.look()
    assert world.status == "PUNISHED"
    assert is_walk(world)


def test_fault_N9_a_penalty_in_a_lost_block_is_found_by_its_output() -> None:
    """The breach was known; the block with our penalty is lost, but what it paid stands."""
    world = opened()
    world.cheat(2)
    world.look()
    world.chain.mine()
    height = world.chain.height
    world.node.peers_have_blocks = False
    world.node.prune(height + 1)

    passes(world, PATIENCE)

    (confirmed,) = world.events(PenaltyConfirmed)
    assert height == confirmed.block.height
    assert world.status == "PUNISHED"


def test_fault_N9_an_unexplained_output_holds_the_cursor() -> None:
    """A cooperative close in a lost block: nobody can compute it, so the cursor stays until the block is back."""
    world = opened()
    world.chain.mine([world.pool.coop])
    height = world.chain.height
    world.chain.mine_many(2)
    world.node.peers_have_blocks = False
    world.node.prune(height + 1)

    errors = passes(world, PATIENCE + 3)

    assert all(isinstance(error, BlockNotAvailable) for error in errors)
    assert "without a known spender" in str(errors[-1])
    assert height - 1 == world.tower.follower.cursor.height
    assert 1 == len(world.events(BlockUnavailable, "chain"))
    world.node.prune(0)
    world.look()
    assert world.is_at_tip
    assert world.channel.confirmed_spend is not None


def test_fault_N9_a_spend_in_a_later_block_explains_itself() -> None:
    """The lost block was empty; what is gone was spent above it, in a block that can be read."""
    world = opened()
    world.chain.mine(empty=True)
    lost = world.chain.height
    world.chain.mine([world.pool.coop])
    world.node.peers_have_blocks = False
    world.node.missing.update(lost_from(world, lost)[:1])

    passes(world, PATIENCE)

    assert world.is_at_tip
    spend = world.channel.confirmed_spend
    assert spend is not None
    assert spend.block is not None
    assert lost + 1 == spend.block.height


def test_fault_N9_peers_bring_the_block() -> None:
    """A pruned node that still has peers gets the block from one of them: nothing is passed over."""
    world = opened()
    world.cheat(1)
    first = world.chain.height
    world.chain.mine_many(2)
    world.node.missing.update(lost_from(world, first))

    passes(world, 2)

    assert world.is_at_tip
    assert [] == world.events(BlockUnavailable, "chain")
    assert world.penalty(1) is not None


def test_fault_N9_peers_are_asked_again_when_the_first_ones_had_nothing() -> None:
    """A node has no peers in its first seconds; a block that cannot be proved must not wait for a restart."""
    world = opened()
    world.chain.mine([world.pool.coop])
    height = world.chain.height
    world.chain.mine_many(2)
    world.node.peers_have_blocks = False
    world.node.missing.update(lost_from(world, height))
    passes(world, PATIENCE + 1)

    world.node.peers_have_blocks = True
    passes(world, PATIENCE + 1)

    assert world.is_at_tip
    assert world.channel.confirmed_spend is not None


def lost_from(world: SmallWorld, height: int) -> list[BlockHash]:
    """All blocks from a height on."""
    hashes = [world.chain.hash_at(each) for each in range(height, world.chain.height + 1)]
    return [each for each in hashes if each is not None]


def broken_block(world: SmallWorld) -> Callable[[bytes], bytes]:
    """The tip's bytes with one byte too many: valid for its header, unreadable behind it."""
    return lambda block_hash: world.node.block(block_hash) + b"\x00"


def test_fault_N14_what_our_parser_cannot_read_the_node_reads() -> None:
    """The second way finds the breach in the same block."""
    world = opened()
    world.cheat(3)
    faults(world)["block"] = broken_block(world)

    world.look()

    assert world.is_at_tip
    assert world.penalty(3) is not None


def test_fault_N14_what_nobody_can_read_stops_the_cursor() -> None:
    """No block is skipped; the answer to what is known goes on."""
    world = opened()
    world.cheat(3)

    def unreadable(_block_hash: bytes) -> Any:
        raise NodeError("getblock: the reply cannot be read")

    faults(world).update(block=broken_block(world), decoded_block=unreadable)
    errors = passes(world, 3)

    assert all(isinstance(error, BlockUnparseable) for error in errors)
    assert world.chain.height - 1 == world.tower.follower.cursor.height
    faults(world).clear()
    world.look()
    assert world.penalty(3) is not None


# ── the audit ────────────────────────────────────────────────────────────────────────────────────────────


def scan_over(world: SmallWorld, height: int) -> None:
    """A scanner that sees nothing in the block at this height: it is connected, what is in it is lost."""
    fetch = world.tower.follower._fetch
    read = fetch.read

    def reads_nothing(scan: Any, raw: bytes, block: Any, source: Any) -> Any:
        header, facts, seen = read(scan, raw, block, source)
        if block.height == height:
            facts._new.clear()
        return header, facts, seen

    fetch.read = reads_nothing  # type: ignore[method-assign]


def test_the_audit_finds_what_the_scanner_missed() -> None:
    """A breach that was scanned over is found within six blocks, by its computed commitment, and punished."""
    world = opened()
    world.cheat(2)
    breach = world.chain.height
    scan_over(world, breach)
    world.look()
    assert world.channel.confirmed_spend is None
    for _ in range(6):
        world.chain.mine(empty=True)
        world.look()
    world.look()

    (mismatch,) = world.events(AuditMismatch, "chain")
    assert OutPoint(world.pool.params.funding_outpoint) == mismatch.outpoint
    (found,) = world.events(BreachDetected)
    assert breach == found.block.height
    assert found.deadline == breach + world.pool.period - 1
    assert world.penalty(2) is not None
    world.look()
    assert 0 == world.tower.audit.report.disagreeing


def test_the_audit_reads_blocks_for_what_cannot_be_computed() -> None:
    """A cooperative close that was scanned over: no computed txid fits, the node's own reading of the blocks does."""
    world = opened()
    world.chain.mine([world.pool.coop])
    missed = world.chain.height
    scan_over(world, missed)
    world.look()
    for _ in range(6):
        world.chain.mine(empty=True)
        world.look()
    for _ in range(6):
        world.look()

    spend = world.channel.confirmed_spend
    assert spend is not None
    assert spend.block is not None
    assert missed == spend.block.height
    assert 0 == world.tower.audit.report.disagreeing
    assert not world.tower.audit.pending


def test_a_search_in_unreadable_blocks_stops_nothing() -> None:
    """The missed close cannot be read again: the channel stays a suspect, passes go on without an error."""
    world = opened()
    world.chain.mine([world.pool.coop])
    scan_over(world, world.chain.height)
    world.look()

    def unreadable(_block_hash: bytes) -> Any:
        raise NodeError("getblock: the reply cannot be read")

    faults(world)["decoded_block"] = unreadable
    for _ in range(6):
        world.chain.mine(empty=True)
        world.look()
    assert [None] * 8 == passes(world, 8)

    assert 1 == world.tower.audit.report.disagreeing
    assert not world.tower.audit.pending


def test_a_reorg_makes_old_agreement_worthless() -> None:
    """Everything was compared at a block that was replaced: what its successor hides is searched for there too."""
    world = opened()
    world.chain.mine(empty=True)
    world.look()
    world.tower.audit.request()
    world.look()
    height = world.chain.height
    scan_over(world, height)

    world.chain.reorg(1, [[world.pool.coop], []])
    for _ in range(6):
        world.look()
        world.chain.mine(empty=True)
    for _ in range(6):
        world.look()

    spend = world.channel.confirmed_spend
    assert spend is not None
    assert spend.block is not None
    assert height == spend.block.height


def test_a_search_that_got_no_answer_asks_the_same_again() -> None:
    """The node fails when the computed commitments are asked for, and cannot read blocks: they are asked for again."""
    world = opened()
    world.cheat(2)
    scan_over(world, world.chain.height)
    world.look()

    def unreadable(_block_hash: bytes) -> Any:
        raise NodeError("getblock: the reply cannot be read")

    def refuse_candidates(outpoints: Any, include_mempool: bool) -> Any:
        if OutPoint(world.pool.params.funding_outpoint) not in outpoints:
            raise NodeUnavailable("gettxout: no answer")
        return world.node.utxos(outpoints, include_mempool)

    faults(world).update(decoded_block=unreadable, utxos=refuse_candidates)
    world.tower.audit.request()
    passes(world, 3)
    assert [] == world.events(BreachDetected)
    del faults(world)["utxos"]
    passes(world, 3)

    assert 1 == len(world.events(BreachDetected))


def test_many_suspects_do_not_make_a_pass_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step carries on a few searches, and every search has its turn."""
    world = opened()
    audited, searched = world.tower.audit, list[str]()
    names = [f"c{number}" for number in range(3 * audit.SEARCHES)]
    for name in names:
        audited._suspects[name] = audit._Suspect(world.channel, world.chain.height)

    def search(stream: str) -> None:
        searched.append(stream)
        del audited._suspects[stream]

    monkeypatch.setattr(audited, "_ask_suspects", lambda _tip: True)
    monkeypatch.setattr(audited, "_search", search)
    counts = []
    while audited._suspects:
        audited.step()
        counts.append(len(searched))

    assert [audit.SEARCHES, 2 * audit.SEARCHES, 3 * audit.SEARCHES] == counts
    assert names == searched


def test_a_sweep_that_failed_is_made_up_for() -> None:
    """A gap was heard while the node was away: the pass after it sweeps although nothing rang for that any more."""
    world = opened()
    assert world.chain.send(world.pool.commitments[1]) is None

    def away() -> BlockHash:
        raise NodeUnavailable("connection refused")

    faults(world)["best_hash"] = away
    world.tower.run_pass(SWEEP)
    faults(world).clear()
    world.tower.run_pass(Hints())

    assert world.channel.mempool_spend is not None


def test_a_quiet_tower_audits_every_six_blocks_and_writes_nothing() -> None:
    """Agreement leaves no event; a round is due after six blocks, not before."""
    world = opened()
    rounds = world.tower.audit.report.rounds
    for _ in range(12):
        world.chain.mine()
        world.look()

    assert 2 == world.tower.audit.report.rounds - rounds
    assert [] == world.events(AuditMismatch, "chain")


def test_an_answer_about_another_tip_counts_for_nothing() -> None:
    """The chain moves during the audit's question: it is asked again, nobody is suspected."""
    world = opened()
    world.tower.audit.request()

    def moving(outpoints: Any, include_mempool: bool) -> Any:
        world.chain.mine(empty=True)
        return [None] * len(outpoints)

    faults(world)["utxos"] = moving
    assert not world.tower.audit.step()
    faults(world).clear()
    world.look()

    assert 0 == world.tower.audit.report.disagreeing
    assert [] == world.events(AuditMismatch, "chain")


def test_a_node_that_lies_for_a_while_is_a_reason_that_ends() -> None:
    """An output that seems gone and cannot be explained is a mismatch once; it ends when the node agrees again."""
    world = opened()
    world.tower.audit.request()
    faults(world)["utxos"] = lambda outpoints, include_mempool: [None] * len(outpoints)
    for _ in range(8):
        world.look()
    assert 1 == world.tower.audit.report.disagreeing
    assert 1 == len(world.events(AuditMismatch, "chain"))
    assert not world.tower.audit.pending

    faults(world).clear()
    world.look()
    assert 0 == world.tower.audit.report.disagreeing
    assert 1 == len(world.events(AuditMismatch, "chain"))


def test_the_failpoints_of_the_chain_are_passed() -> None:
    """Every named point around fetching, parsing, committing and auditing is reached in one story."""
    world = opened()
    world.tower.audit.request()
    world.look()
    world.cheat(1)
    world.look()
    world.chain.mine()
    world.look()
    world.chain.reorg(1)
    world.look()
    world.chain.mine_many(110)
    world.look()
    world.look()

    names = ("block_fetch", "block_parse", "connect", "disconnect", "breach_commit", "confirm_commit", "resolve_commit")
    wanted = {f"{name}:{when}" for name in (*names, "audit_query") for when in ("before", "after")}
    assert set() == wanted - set(world.points)


def test_the_pass_that_catches_up_after_a_start_compares_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many blocks were missed: nobody is told that the tower watches before the whole round."""
    monkeypatch.setattr(audit, "SLICE", 1)
    world = opened(blocks_per_pass=10)
    world.chain.mine_many(15)

    behind = world.restart()
    caught_up = world.look()

    assert (0, 1) == (behind.audit.rounds, caught_up.audit.rounds)
    assert (True, False) == (behind.follow.moved_again, caught_up.follow.moved_again)


def test_a_start_at_a_moving_tip_compares_everything_in_the_next_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block arrives while the first round is asked for: nothing was compared, so the start is not over."""
    monkeypatch.setattr(audit, "SLICE", 1)
    world = opened()

    def moving(outpoints: Any, include_mempool: bool) -> Any:
        del faults(world)["utxos"]
        world.chain.mine(empty=True)
        return world.node.utxos(outpoints, include_mempool)

    faults(world)["utxos"] = moving
    moved = world.restart()
    settled = world.look()

    assert (0, 1) == (moved.audit.rounds, settled.audit.rounds)


def test_fault_N8_a_damaged_transaction_ends_the_pass_and_nothing_else() -> None:
    """Bytes that are no transaction are the node's error, and the next pass asks again."""
    world = opened()
    assert world.chain.send(world.pool.commitments[1]) is None
    faults(world)["mempool_transaction"] = lambda _txid: b"\x03\x00"

    with pytest.raises(NodeError, match="cannot be read"):
        world.look()
    faults(world).clear()
    world.look()

    assert world.channel.mempool_spend is not None


def test_fault_N8_a_damaged_funding_is_not_kept() -> None:
    """What is once in the log would be read in every later block."""
    world = registered_by_outpoint()
    faults(world)["mempool_transaction"] = lambda _txid: b"\x03\x00"

    with pytest.raises(NodeError, match="cannot be read"):
        world.look()

    assert [] == world.events(FundingBroadcast)


def test_an_unreadable_block_can_be_undone() -> None:
    """The funding was confirmed in it, and its bytes are not understood any more: the reorg is followed."""
    world = registered_by_outpoint()
    world.chain.mine()
    world.look()
    assert world.channel.funding_block is not None
    assert world.channel.funding_tx is None
    faults(world)["block"] = broken_block_of(world, world.chain.tip.hash)

    world.chain.reorg(1)
    world.look()

    assert world.is_at_tip


def registered_by_outpoint() -> SmallWorld:
    """The funding transaction is in the mempool, and nobody told its bytes."""
    world = SmallWorld(wrap=Overridden)
    assert world.chain.send(world.pool.funding) is None
    register(world.context, msgspec.structs.replace(world.pool.registration, funding_tx=None))
    return world


def broken_block_of(world: SmallWorld, broken: bytes) -> Callable[[bytes], bytes]:
    """One block has a byte too many."""
    return lambda block_hash: world.node.block(block_hash) + b"\x00" * (block_hash == broken)


def test_an_upload_during_the_check_of_a_funding_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The channel moved on while its lost funding was undone: it waits for the next check, and the pass goes on."""
    world = opened()
    arming = world.tower.arming

    def conflict(_channel: Any) -> bool:
        raise StoreConflict(world.stream, 3, 4)

    monkeypatch.setattr(arming, "_funding_block_stands", conflict)
    faults(world)["utxos"] = lambda outpoints, include_mempool: [None] * len(outpoints)
    arming.check([world.stream])
    still_waiting = arming.pending
    faults(world).clear()
    arming.check([])

    assert (True, False) == (still_waiting, arming.pending)


def test_a_commit_whose_answer_was_lost_is_found_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block is stored and nobody was told: the next pass stands where the log says."""
    world = opened()
    append, failures = world.store.append, iter([True])

    def stored_and_lost(job: Any, *, chain: bool = False) -> int:
        last_id = append(job, chain=chain)
        if next(failures, False):
            raise StoreError("the answer was lost")
        return last_id

    monkeypatch.setattr(world.store, "append", stored_and_lost)
    world.cheat(1)
    errors = passes(world, 1)
    world.clock.forward(1.0)
    errors += passes(world, 1)

    assert [StoreError, type(None)] == [type(error) for error in errors]
    assert is_walk(world)
    assert world.penalty(1) is not None


def test_everything_is_compared_after_a_block_was_missing() -> None:
    """Once when the block came after all, and once when it was passed over."""
    world = opened()
    rounds = world.tower.audit.report.rounds
    world.chain.mine(empty=True)
    world.node.missing.update(lost_from(world, world.chain.height))
    passes(world, 3)
    came = world.tower.audit.report.rounds
    world.chain.mine(empty=True)
    world.node.peers_have_blocks = False
    world.node.missing.update(lost_from(world, world.chain.height))
    passes(world, PATIENCE + 2)

    assert world.is_at_tip
    assert 1 == world.tower.follower.blocks_passed_over
    assert (1, 2) == (came - rounds, world.tower.audit.report.rounds - rounds)


def test_a_channel_ends_in_a_block_that_was_passed_over() -> None:
    """Its last block of a hundred is lost: what follows from heights alone happens in it."""
    world = opened()
    world.cheat(1)
    world.look()
    world.chain.mine()
    world.chain.mine_many(98)
    world.look()
    assert world.channel.resolved is None
    world.chain.mine(empty=True)
    world.node.peers_have_blocks = False
    world.node.missing.update(lost_from(world, world.chain.height))

    passes(world, PATIENCE)

    assert 1 == world.tower.follower.blocks_passed_over
    assert world.channel.resolved is not None


def test_a_spend_that_is_mined_while_the_mempool_is_asked_is_not_gone() -> None:
    """It left the mempool for a block that the cursor has not seen: absence is news only at our own tip."""
    world = opened()
    assert world.chain.send(world.pool.commitments[1]) is None
    world.look()

    def mined(outpoints: Any) -> Any:
        del faults(world)["mempool_spenders"]
        world.chain.mine()
        return world.node.mempool_spenders(outpoints)

    faults(world)["mempool_spenders"] = mined
    world.look()
    world.look()

    assert [] == world.events(SpendReplaced)
    assert world.channel.confirmed_spend is not None


def test_a_funding_that_is_spent_during_its_check_is_no_mismatch() -> None:
    """The answer is about a tip that the cursor has not seen: the channel waits, and the follower finds the spend."""
    world = opened()

    def spent(outpoints: Any, include_mempool: bool) -> Any:
        del faults(world)["utxos"]
        world.cheat(1)
        return world.node.utxos(outpoints, include_mempool)

    faults(world)["utxos"] = spent
    world.tower.arming.check([world.stream])

    assert world.tower.arming.pending
    assert [] == world.events(AuditMismatch, "chain")
    world.look()
    assert not world.tower.arming.pending
    assert [] == world.events(AuditMismatch, "chain")
