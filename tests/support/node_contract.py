"""What every `Node` must do, written once: the real adapter and the model's node both have to pass.

A test module gives the fixture `stage` and inherits from `NodeContract`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pytest

from domain.chain import OutPoint, make_outpoint
from domain.events import BroadcastOutcome
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.contract_stage import penalty
from tests.support.anybody import ANYBODY, anchor_child, pay
from tests.support.parties import Pair
from watchtower.devnode.purse import Coin
from watchtower.node.blocks import scan_block
from watchtower.ports import Node, NodeError

OK, KNOWN, OUTBID = BroadcastOutcome.ACCEPTED, BroadcastOutcome.ALREADY_KNOWN, BroadcastOutcome.INSUFFICIENT_FEE
MISSING, LOCKED, REJECTED = BroadcastOutcome.MISSING_INPUTS, BroadcastOutcome.NOT_YET_FINAL, BroadcastOutcome.REJECTED
UNKNOWN_HASH = b"\x77" * 32


class Stage(Protocol):
    """A chain that can be moved, and the node that is asked about it."""

    @property
    def port(self) -> Node:
        """The node under test."""

    def coin(self) -> Coin:
        """A confirmed coin that anybody may spend, a new one each time."""

    def mine(self, raws: Sequence[bytes] | None = None) -> bytes:
        """A block with the mempool, or with exactly these; its hash."""

    def roll_back(self, depth: int) -> None:
        """Take blocks off; their transactions may return to the mempool."""

    def open_channel(self) -> Pair:
        """A confirmed channel with T = 2 and the states 0 to 2."""


def place(raw: bytes, vout: int = 0) -> OutPoint:
    """An output of a transaction."""
    return make_outpoint(Transaction.parse(raw).txid, vout)


def stale(pair: Pair, sequence: int = 0) -> Transaction:
    """A revoked commitment of A."""
    return Transaction.parse(pair.commitment(Side.A, sequence))


class NodeContract:
    """Inherit and give the fixture `stage`."""

    # ── the chain ────────────────────────────────────────────────────────────────────────────────────────

    def test_the_tip_is_named_in_three_ways(self, stage: Stage) -> None:
        """Best hash, hash at the height and chain facts agree, and above the tip there is nothing."""
        tip = stage.mine([])
        info = stage.port.chain_info()

        assert (tip, "regtest", info.blocks, False, 0) == (
            info.best_hash,
            info.network,
            info.headers,
            info.initial_block_download,
            info.pruned_height,
        )
        assert tip == stage.port.best_hash() == stage.port.hash_at(info.blocks)
        assert stage.port.hash_at(info.blocks + 1) is None

    def test_headers_tell_place_and_work(self, stage: Stage) -> None:
        """A header names its parent, its depth and two more units of work than its parent has."""
        first, second = stage.mine([]), stage.mine([])

        below, tip = stage.port.header(first), stage.port.header(second)

        assert below is not None
        assert tip is not None
        assert (first, 1, 2) == (tip.prev, tip.confirmations, tip.chainwork - below.chainwork)
        assert (below.height + 1, 2, first) == (tip.height, below.confirmations, tip.raw[4:36])

    def test_stale_and_unknown_blocks_differ(self, stage: Stage) -> None:
        """A stale block has -1 confirmations and stays readable; of an unknown one there is nothing."""
        stale_hash = stage.mine([])
        raw = stage.port.block(stale_hash)
        stage.roll_back(1)
        stage.mine([])

        header = stage.port.header(stale_hash)

        assert header is not None
        assert -1 == header.confirmations
        assert raw == stage.port.block(stale_hash)
        assert stage.port.header(UNKNOWN_HASH) is None
        with pytest.raises(NodeError):
            stage.port.block(UNKNOWN_HASH)

    def test_blocks_are_found_by_the_scanner(self, stage: Stage) -> None:
        """A spend in a block is a hit with its bytes, and the node's own reading of the block says the same."""
        coin = stage.coin()
        raw = pay(coin, 1_000)
        block_hash = stage.mine([raw])

        scan, decoded = scan_block(stage.port.block(block_hash), {coin.outpoint}), stage.port.decoded_block(block_hash)

        assert [raw] == [hit.raw for hit in scan.hits]
        assert (block_hash, 2) == (scan.header.hash, scan.tx_count)
        assert (scan.header.raw, raw, (coin.outpoint,)) == (
            decoded.header,
            decoded.transactions[1].raw,
            decoded.transactions[1].spends,
        )

    # ── outputs and the mempool ──────────────────────────────────────────────────────────────────────────

    def test_outputs_with_and_without_the_mempool(self, stage: Stage) -> None:
        """A waiting spend hides the coin only where the mempool is asked for; its output has 0 confirmations."""
        coin = stage.coin()
        raw = pay(coin, 1_000)
        stage.port.broadcast(raw)
        outpoints = [coin.outpoint, place(raw)]

        with_mempool, without = (stage.port.utxos(outpoints, include) for include in (True, False))

        assert [None, (coin.value - 1_000, ANYBODY, 0)] == [
            u and (u.value, u.spk, u.confirmations) for u in with_mempool
        ]
        assert [coin.value, None] == [u and u.value for u in without]

    def test_mempool_answers_end_with_the_block(self, stage: Stage) -> None:
        """Spender, bytes and entry are there while the transaction waits, and gone when it is confirmed."""
        coin = stage.coin()
        raw = pay(coin, 1_000)
        txid = Transaction.parse(raw).txid
        stage.port.broadcast(raw)

        entry = stage.port.mempool_entry(txid)
        assert entry is not None
        assert (1_000, Transaction.parse(raw).vsize, ()) == (entry.fee, entry.vsize, entry.depends)
        assert {coin.outpoint: txid} == stage.port.mempool_spenders([coin.outpoint, place(raw)])
        assert raw == stage.port.mempool_transaction(txid) == stage.port.transaction(txid)

        stage.mine()
        assert {} == stage.port.mempool_spenders([coin.outpoint])
        assert stage.port.mempool_entry(txid) is None
        assert stage.port.mempool_transaction(txid) is None

    def test_minimum_and_increment_are_told(self, stage: Stage) -> None:
        """The market names the rules of relay; without data there is no estimate."""
        market = stage.port.fee_market((1, 3, 6))

        assert (0.1, 0.1, 0.1, ()) == (market.minimum, market.relay, market.increment, market.estimates)

    # ── broadcasts ───────────────────────────────────────────────────────────────────────────────────────

    def test_repeated_confirmed_and_respent(self, stage: Stage) -> None:
        """Again is fine, confirmed is known, and once its output is spent it looks like a conflict."""
        coin = stage.coin()
        raw, rival = pay(coin, 1_000), pay(coin, 50_000)

        assert [OK, OK] == [stage.port.broadcast(raw).outcome for _ in range(2)]
        stage.mine()
        assert [(KNOWN, -27), (MISSING, -25)] == [(a.outcome, a.code) for a in map(stage.port.broadcast, (raw, rival))]
        stage.port.broadcast(pay(Coin(place(raw), coin.value - 1_000, ANYBODY), 1_000))
        stage.mine()
        assert (MISSING, -25) == ((again := stage.port.broadcast(raw)).outcome, again.code)

    def test_a_replacement_pays_for_itself(self, stage: Stage) -> None:
        """Less, hardly more and enough; the test before it changes nothing."""
        coin = stage.coin()
        stage.port.broadcast(pay(coin, 1_000))
        raws = [pay(coin, fee) for fee in (900, 1_005, 1_200)]

        assert [OUTBID, OUTBID, OK] == [stage.port.test_accept(raw).outcome for raw in raws]
        assert [OUTBID, OUTBID, OK] == [stage.port.broadcast(raw).outcome for raw in raws]

    def test_no_fee_dust_and_garbage(self, stage: Stage) -> None:
        """Each kind of hopeless transaction has its class."""
        coin = stage.coin()
        raws = [pay(coin, 0), pay(coin, coin.value - 100), b"\x00garbage"]

        assert [BroadcastOutcome.BELOW_MINIMUM, REJECTED, REJECTED] == [stage.port.broadcast(r).outcome for r in raws]

    def test_locks_open_at_their_height(self, stage: Stage) -> None:
        """Lock times and relative locks are refused one block too early."""
        stage.mine([])
        early, parent = stage.coin(), stage.coin()
        first = pay(parent, 1_000)
        stage.mine([first])
        height = stage.port.chain_info().blocks
        young = Coin(place(first), parent.value - 1_000, ANYBODY)
        raws = [pay(early, 1_000, lock_time=height + 1), pay(young, 1_000, sequence=2)]

        assert [LOCKED, LOCKED] == [stage.port.broadcast(raw).outcome for raw in raws]
        stage.mine([])
        assert [OK, OK] == [stage.port.broadcast(raw).outcome for raw in raws]

    def test_settlement_enters_one_block_before_its_height(self, stage: Stage) -> None:
        """With T = 2 it is refused right after the commitment's block and accepted one block later."""
        pair = stage.open_channel()
        stage.mine([pair.commitment(Side.A, 2)])
        settle = pair.settlement(Side.A, 2)

        assert LOCKED is stage.port.broadcast(settle).outcome
        stage.mine([])
        assert OK is stage.port.broadcast(settle).outcome

    def test_many_are_sent_in_order(self, stage: Stage) -> None:
        """A parent and its child in one request are both accepted."""
        coin = stage.coin()
        parent = pay(coin, 1_000)
        child = pay(Coin(place(parent), coin.value - 1_000, ANYBODY), 1_000)

        assert [OK, OK] == [answer.outcome for answer in stage.port.broadcast_many([parent, child])]

    # ── version 3 and packages ───────────────────────────────────────────────────────────────────────────

    def test_penalty_drives_out_the_cheaters_child(self, stage: Stage) -> None:
        """The table of protocol 7.4: 1,500 and 2,010 sat are refused beside a child of 2,000, 2,012 are accepted."""
        pair = stage.open_channel()
        commit = stale(pair)
        child = anchor_child(commit, stage.coin(), 2_000)
        assert [OK, OK] == [a.outcome for a in stage.port.submit_package([commit.serialize(), child])]

        outcomes = [stage.port.broadcast(penalty(pair, Side.A, 0, fee)).outcome for fee in (1_500, 2_010, 2_012)]

        assert [OUTBID, OUTBID, OK] == outcomes
        assert stage.port.mempool_entry(Transaction.parse(child).txid) is None

    def test_package_with_a_known_parent_evicts_too(self, stage: Stage) -> None:
        """The parent is known, the penalty takes the child's place."""
        pair = stage.open_channel()
        commit = stale(pair)
        stage.port.submit_package([commit.serialize(), anchor_child(commit, stage.coin(), 2_000)])

        answers = stage.port.submit_package([commit.serialize(), penalty(pair, Side.A, 0, 3_000)])

        assert [KNOWN, OK] == [answer.outcome for answer in answers]

    def test_package_replaces_another_stale_state(self, stage: Stage) -> None:
        """State 1 with a rich child drives out state 0 and its penalty, then only the penalty of state 1 fits."""
        pair = stage.open_channel()
        first, second = stale(pair, 0), stale(pair, 1)
        stage.port.submit_package([first.serialize(), penalty(pair, Side.A, 0, 2_012)])
        poor, rich = (anchor_child(second, stage.coin(), fee) for fee in (2_000, 9_000))

        refused = stage.port.submit_package([second.serialize(), poor])
        accepted = stage.port.submit_package([second.serialize(), rich])

        assert [OUTBID, BroadcastOutcome.PARENT_MISSING] == [answer.outcome for answer in refused]
        assert [OK, OK] == [answer.outcome for answer in accepted]
        assert MISSING is stage.port.broadcast(penalty(pair, Side.A, 0, 20_000)).outcome
        assert OK is stage.port.broadcast(penalty(pair, Side.A, 1, 12_000)).outcome

    def test_other_versions_cannot_spend_a_waiting_commitment(self, stage: Stage) -> None:
        """A version-2 child of a version-3 parent is against the policy until the parent is confirmed."""
        pair = stage.open_channel()
        commit = stale(pair)
        stage.port.broadcast(commit.serialize())
        anchor = Transaction.parse(anchor_child(commit, stage.coin(), 2_000))
        second = Transaction(2, anchor.inputs, anchor.outputs, 0).serialize()

        assert REJECTED is stage.port.broadcast(second).outcome
        stage.mine()
        assert OK is stage.port.broadcast(second).outcome

    # ── reorganizations ──────────────────────────────────────────────────────────────────────────────────

    def test_ten_blocks_come_back_to_the_mempool_and_the_eleventh_does_not(self, stage: Stage) -> None:
        """What stood in the upper ten blocks waits again; what stood below, and all that spends it, is gone."""
        low, high = stage.coin(), stage.coin()
        lost, kept = pay(low, 1_000), pay(high, 1_000)
        child = pay(Coin(place(lost), low.value - 1_000, ANYBODY), 1_000)
        stage.mine([lost])
        stage.mine([kept, child])
        for _ in range(9):
            stage.mine([])

        stage.roll_back(11)

        found = [stage.port.mempool_entry(Transaction.parse(raw).txid) is not None for raw in (lost, child, kept)]
        assert [False, False, True] == found

    def test_settlement_leaves_the_mempool_when_its_commitment_gets_younger(self, stage: Stage) -> None:
        """A waiting settlement is dropped as soon as a reorg makes it early again."""
        pair = stage.open_channel()
        stage.mine([pair.commitment(Side.A, 2)])
        stage.mine([])
        settle = Transaction.parse(pair.settlement(Side.A, 2))
        stage.port.broadcast(settle.serialize())

        stage.roll_back(1)

        assert stage.port.mempool_entry(settle.txid) is None
        assert {} == stage.port.mempool_spenders([settle.inputs[0].outpoint])

    def test_a_reorg_may_leave_penalty_and_child_side_by_side(self, stage: Stage) -> None:
        """Both come back with the commitment, against the rules of version 3; a higher bid replaces the lower alone."""
        pair = stage.open_channel()
        commit = stale(pair)
        child, first, second = (
            anchor_child(commit, stage.coin(), 5_000),
            penalty(pair, Side.A, 0, 1_000),
            penalty(pair, Side.A, 0, 2_000),
        )
        stage.mine([commit.serialize(), child, first])

        stage.roll_back(1)

        found = [stage.port.mempool_entry(Transaction.parse(raw).txid) is not None for raw in (child, first)]
        assert [True, True] == found
        assert OK is stage.port.broadcast(second).outcome
        assert stage.port.mempool_entry(Transaction.parse(child).txid) is not None
