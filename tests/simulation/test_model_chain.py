"""The model chain by itself: branches, reorganizations, blocks by feerate, a full mempool, Knots' own policy."""

from __future__ import annotations

import pytest

from domain.chain import GENESIS_DISPLAY, display, make_outpoint
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.contract_stage import penalty
from tests.simulation.chain import Invalid, ModelChain
from tests.simulation.policy import KNOTS, Entry
from tests.support.anybody import ANYBODY, COIN_SAT, pay
from tests.support.parties import Pair, open_pair
from watchtower.devnode.purse import Coin


def coin(chain: ModelChain) -> Coin:
    """A coin that was there from the first block on."""
    return chain.give_coin(chain.new_coin(COIN_SAT).outpoint, COIN_SAT, ANYBODY)


def txid(raw: bytes) -> bytes:
    """Its id."""
    return Transaction.parse(raw).txid


def channel(chain: ModelChain) -> Pair:
    """A confirmed channel with the revoked states 0 and 1."""
    pair = open_pair(chain.mint, challenge_period=2)
    pair.updates(2)
    chain.mine([pair.funding.raw])
    return pair


def test_it_begins_with_the_real_genesis_block() -> None:
    """The tower checks the name of the chain by this hash."""
    assert GENESIS_DISPLAY["regtest"] == display(ModelChain().ledger.blocks[0].hash)


def test_the_same_moves_give_the_same_chain() -> None:
    """Nothing in a chain depends on the run."""
    tips = []
    for chain in (ModelChain(), ModelChain()):
        chain.mine([pay(coin(chain), 1_000)])
        chain.reorg(1)
        tips.append(chain.tip.hash)

    assert tips[0] == tips[1]


def test_more_work_wins_and_the_first_seen_stays_at_equal_work() -> None:
    """A rival branch of the same height changes nothing; one block more makes it active."""
    chain = ModelChain()
    fork, ours = chain.tip, chain.mine()

    rival = chain.grow(fork.hash)
    assert ours is chain.tip
    longer = chain.grow(rival.hash)
    assert longer is chain.tip
    assert rival.hash == chain.hash_at(rival.height)


def test_the_tip_flips_at_the_same_height_and_back() -> None:
    """A to B to A: the transaction of A's block waits while B is active."""
    chain = ModelChain()
    fork, raw = chain.tip, pay(coin(chain), 1_000)
    first = chain.mine([raw])
    second = chain.grow(fork.hash)

    chain.prefer(second.hash)
    assert (second, None) == (chain.tip, chain.confirmation(txid(raw)))
    assert txid(raw) in chain.mempool.entries

    chain.prefer(first.hash)
    assert first.hash == getattr(chain.confirmation(txid(raw)), "block_hash", None)
    assert {} == chain.mempool.entries


def test_a_branch_block_is_judged_by_its_own_branch() -> None:
    """What is spent on the active chain may be spent otherwise beside it, but not twice."""
    chain = ModelChain()
    fork, paying = chain.tip, coin(chain)
    chain.mine([pay(paying, 1_000)])

    rival = chain.grow(fork.hash, [pay(paying, 2_000)])

    with pytest.raises(Invalid, match="missingorspent"):
        chain.grow(rival.hash, [pay(paying, 3_000)])


def test_a_reorg_tells_what_the_new_branch_cannot_hold() -> None:
    """Of two conflicting transactions the second is left out, with the node's reason."""
    chain = ModelChain()
    paying = coin(chain)
    first, second = pay(paying, 1_000), pay(paying, 2_000)
    chain.mine([first])

    done = chain.reorg(1, [[second], [first]])

    assert [(txid(first), "bad-txns-inputs-missingorspent")] == [(tx.txid, why) for tx, why in done.left_out]
    assert {} == chain.mempool.entries
    assert txid(second) == chain.spender(paying.outpoint)


@pytest.mark.parametrize(("depth", "waiting"), [(10, True), (11, False)])
def test_a_deep_reorg_empties_the_mempool(depth: int, waiting: bool) -> None:
    """Up to ten blocks give their transactions back; after eleven also what waited before is gone."""
    chain = ModelChain()
    confirmed, before = pay(coin(chain), 1_000), pay(coin(chain), 1_000)
    chain.mine([confirmed])
    chain.mine_many(depth - 1)
    chain.send(before)

    chain.reorg(depth)

    assert [waiting, waiting] == [txid(raw) in chain.mempool.entries for raw in (confirmed, before)]


def test_stepping_back_and_forth_changes_no_answer() -> None:
    """A block's own transactions are its undo data."""
    chain = ModelChain()
    pair = channel(chain)
    chain.mine([pair.commitment(Side.A, 0), penalty(pair, Side.A, 0, 1_000)])
    tip, spenders = chain.tip, dict(chain.ledger.spenders)

    chain.roll_back(2)
    assert {} == chain.ledger.spenders
    chain.prefer(tip.hash)

    assert spenders == chain.ledger.spenders
    assert chain.is_unspent(make_outpoint(txid(penalty(pair, Side.A, 0, 1_000)), 0))


def test_blocks_take_packages_by_their_feerate() -> None:
    """A rich child carries its poor parent; what is below the miner's minimum waits; a censored one, too."""
    chain = ModelChain()
    paying = coin(chain)
    parent = pay(paying, 100)
    child = pay(Coin(make_outpoint(txid(parent), 0), COIN_SAT - 100, ANYBODY), 5_000)
    poor, censored = pay(coin(chain), 100), pay(coin(chain), 50_000)
    for raw in (parent, child, poor, censored):
        chain.send(raw)

    def allowed(entry: Entry) -> bool:
        return entry.txid != txid(censored)

    block = chain.mine(minimum=20.0, select=allowed)

    assert (txid(parent), txid(child)) == block.txids
    assert {txid(poor), txid(censored)} == set(chain.mempool.entries)


def test_a_full_mempool_drops_and_refuses_what_pays_too_little() -> None:
    """The minimum rises above one of two transactions: it goes, and cannot come back until the state ends."""
    chain = ModelChain()
    cheap, dear = pay(coin(chain), 200), pay(coin(chain), 20_000)
    chain.send(cheap)
    chain.send(dear)

    assert [txid(cheap)] == chain.mempool.raise_minimum(50.0)
    refusal = chain.send(cheap)
    assert refusal is not None
    assert "mempool min fee not met" == refusal.text
    chain.mempool.raise_minimum(0.0)
    assert chain.send(cheap) is None


def test_evicting_a_parent_takes_its_child() -> None:
    """Nothing stays whose input is gone."""
    chain = ModelChain()
    pair = channel(chain)
    chain.send(pair.commitment(Side.A, 0))
    chain.send(penalty(pair, Side.A, 0, 1_000))

    gone = chain.mempool.evict(pair.commitment_txid(Side.A, 0))

    assert 2 == len(gone)
    assert ({}, {}) == (chain.mempool.entries, chain.mempool.spenders)


def test_knots_lets_child_and_penalty_stand_side_by_side() -> None:
    """Without version-3 rules both spend the waiting commitment, and then no package replaces the three."""
    chain = ModelChain(policy=KNOTS)
    pair = channel(chain)
    chain.send(pair.commitment(Side.A, 0))

    assert chain.send(chain.anchor_child(pair.commitment_txid(Side.A, 0), fee=2_000)) is None
    assert chain.send(penalty(pair, Side.A, 0, 1_000)) is None
    other = pair.commitment(Side.A, 1)
    result = chain.send_package([other, chain.anchor_child(txid(other), fee=90_000)])

    assert "package RBF failed: a conflict is part of a larger family" == result["package_msg"]
    assert 3 == len(chain.mempool.entries)


def test_scripts_can_be_judged_from_outside() -> None:
    """With a hook the mempool and the blocks refuse what the model itself would take."""
    chain = ModelChain(valid=lambda tx: tx.lock_time == 0)
    raw = pay(coin(chain), 1_000, lock_time=1)

    refusal = chain.send(raw)

    assert refusal is not None
    assert "mandatory-script-verify-flag-failed" == refusal.text
    with pytest.raises(Invalid, match="invalid script"):
        chain.mine([raw])
