"""Which commitments and settlements fee children are made for, and which never."""

from __future__ import annotations

from msgspec.structs import replace

from domain.chain import make_outpoint
from domain.contract.params import ANCHOR_SAT
from domain.transaction import Transaction
from domain.units import Side
from tests.support.fee_stage import BLOCK, Stage
from tests.support.parties import htlc, preimage_of
from watchtower.client.protocol.channel import Pending, Proposal


def test_a_commitment_of_the_peer_gets_a_child_for_the_sake_of_htlcs() -> None:
    """It keeps the own one out of the mempool, so it is paid for once the preimage is known: the child alone."""
    stage = Stage(published=False)
    raw = stage.pair.commitment(Side.A, stage.pair.with_htlcs(htlc(Side.A, 1, 100_000, 140)))
    stage.pool.stand(raw)
    stage.party.note_spend(stage.name, raw, 100)
    before = stage.look()
    stage.party.learn_preimage(stage.name, preimage_of(1))
    child = stage.look(101)

    assert before is None
    assert child is not None
    assert child.fee <= 50_000
    assert {Transaction.parse(raw).txid, child.tx.txid} == set(stage.pool.raws)


def test_a_commitment_of_the_peer_is_not_paid_for_while_its_htlcs_have_time() -> None:
    """It may wait until a day before they need it: a peer that closes earlier, on a dear day, pays for that itself."""
    stage = Stage(published=False)
    expiry = 1_000
    raw = stage.pair.commitment(Side.A, stage.pair.with_htlcs(htlc(Side.B, 1, 100_000, expiry)))
    stage.pool.stand(raw)
    stage.party.note_spend(stage.name, raw, 100)
    needed = expiry + 14
    early, late = stage.look(needed - 145), stage.look(needed - 144)

    assert early is None
    assert late is not None
    assert {Transaction.parse(raw).txid, late.tx.txid} == set(stage.pool.raws)


def test_nothing_is_paid_for_a_revoked_commitment() -> None:
    """Neither one of the peer, which the tower punishes, nor, with an old copy of the log, any at all."""
    stage = Stage(published=False)
    raw = stage.pair.commitment(Side.A, 0)
    stage.pool.stand(raw)
    stage.party.note_spend(stage.name, raw, 100)
    revoked = stage.look()
    old = Stage()
    old.party.note_restored()
    late = Stage(published=False)
    late.party.note_spend(late.name, late.pair.commitment(Side.A, 1), 100, BLOCK)
    settled = len(late.party.fee_parents(105))
    known = late.party.channel(late.name)
    late.party._channels[known.stream] = replace(known, peer_revoked=1)

    assert (None, None) == (revoked, old.look())
    assert (1, 0) == (settled, len(late.party.fee_parents(105)))
    assert {Transaction.parse(raw).txid} == set(stage.pool.raws)


def test_an_old_copy_pays_for_no_settlement_either() -> None:
    """What looks like the newest state may have been revoked later."""
    stage = Stage(published=False)
    stage.party.note_spend(stage.name, stage.pair.commitment(Side.A, 1), 100, BLOCK)
    before = len(stage.party.fee_parents(105))
    stage.party.note_restored()

    assert (1, ()) == (before, stage.party.fee_parents(105))


def test_nothing_is_paid_for_an_own_commitment_whose_secret_was_released() -> None:
    """It punishes its owner, whoever put it into the mempool."""
    stage = Stage()
    before = len(stage.party.fee_parents(100))
    known = stage.party.channel(stage.name)
    stage.party._channels[known.stream] = replace(known, own_released=1)

    assert (1, ()) == (before, stage.party.fee_parents(100))


def test_an_own_commitment_that_was_never_published_is_not_paid_for() -> None:
    """The peer's left the mempool again: that is no reason to close with the own one."""
    stage = Stage(published=False)
    raw = stage.pair.commitment(Side.A, 1)
    stage.party.note_spend(stage.name, raw, 100)
    stage.party.note_funding_spend(stage.name, None)
    gone = stage.party.fee_parents(100)
    known = stage.party.channel(stage.name)
    stage.party._channels[known.stream] = replace(known, published=frozenset({0}))

    assert ((), ()) == (gone, stage.party.fee_parents(100))


def test_the_settlement_of_each_state_that_the_peer_may_publish_is_paid_for() -> None:
    """The one before the newest, whose secret it owes, and one in flight that is signed."""
    stage = Stage(published=False)
    stage.party.note_spend(stage.name, stage.pair.commitment(Side.A, 1), 100, BLOCK)
    known = stage.party.channel(stage.name)
    assert known.state is not None
    content = known.state.content
    in_flight = Pending(content, Side.A, Proposal(bytes(64), bytes(64), bytes(64)))
    found = []
    for state in (
        replace(known, settled=content, state=None),
        replace(known, pending=in_flight, state=None, settled=None),
    ):
        stage.party._channels[known.stream] = state
        found += [each.sequence for each in stage.party.fee_parents(105)]

    assert [1, 1] == found


def test_a_commitment_of_the_peer_that_left_the_mempool_is_left_alone() -> None:
    """Its witness is not known here: nothing can be sent, and no coin is locked for it."""
    stage = Stage(published=False)
    raw = stage.pair.commitment(Side.A, stage.pair.with_htlcs(htlc(Side.B, 1, 100_000, 140)))
    stage.party.note_spend(stage.name, raw, 100)

    assert (1, None, None) == (len(stage.party.fee_parents(100)), stage.look(), stage.trouble)
    assert set() == stage.pool.locked


def test_time_runs_from_the_first_bid_also_after_a_restart() -> None:
    """Near the deadline in a calm market: no block has passed the pair over at 100; at 101 and 110 blocks have."""
    stage = Stage(published=False)
    number = stage.pair.with_htlcs(htlc(Side.B, 1, 100_000, 91))
    stage.party.sign_commitment(stage.name, number)
    stage.pool.rate = 1.0
    (parent,) = stage.party.fee_parents(100)
    calm, first = stage.look(100), stage.look(101)
    stage.revive()
    later = stage.look(104)

    assert 91 + 14 == parent.stake.confirm_by
    assert calm is None
    assert first is not None
    assert later is not None
    assert first.fee < later.fee


def test_a_settlement_has_its_own_deadline_and_is_followed_once_paid_for() -> None:
    """T and another twelve blocks behind the commitment; with a child it is looked after for good."""
    stage = Stage(published=False)
    raw = stage.pair.commitment(Side.A, stage.pair.with_htlcs(htlc(Side.B, 1, 100_000, 91)))
    stage.pool.chain.add(make_outpoint(Transaction.parse(raw).txid, 0))
    stage.party.note_spend(stage.name, raw, 100, BLOCK)
    (parent,) = stage.party.fee_parents(105)
    child = stage.look(105)

    assert 91 + 14 + 6 + 12 == parent.stake.confirm_by
    assert child is not None
    assert [parent.txid] == [each.txid for each in stage.party.fee_parents(9_000)]


def test_commitment_and_settlement_have_a_child_each() -> None:
    """The second does not take the place of the first in what is known and told."""
    stage = Stage()
    first = stage.look()
    raw = stage.pair.commitment(Side.B, 1)
    stage.pool.chain.add(make_outpoint(Transaction.parse(raw).txid, 0))
    stage.pool.chain.discard(stage.pair.params.funding_outpoint)
    stage.party.note_spend(stage.name, raw, 100, BLOCK)
    second = stage.look(105)

    assert first != second
    assert (first, second) == stage.party.fee_children()


def test_a_peer_that_closes_on_a_dear_day_pays_for_it() -> None:
    """Without an HTLC that presses, nothing is paid for its commitment."""
    stage = Stage(published=False)
    raw = stage.pair.commitment(Side.A, 1)
    stage.pool.stand(raw)
    stage.party.note_spend(stage.name, raw, 100)

    assert (None, None) == (stage.look(), stage.trouble)
    assert () == stage.party.fee_parents(100)


def test_the_own_commitment_waits_behind_one_of_the_peer() -> None:
    """Another spend stands in the mempool and the tower has not told which: nothing is sent against it."""
    stage = Stage()
    stage.pool.stand(stage.pair.commitment(Side.A, 1))

    assert (None, None) == (stage.look(), stage.trouble)


def test_a_settlement_is_looked_at_from_its_height_and_after_a_reorganization() -> None:
    """From h_c + T - 1 on; when the commitment leaves the chain it is the one that needs a child again."""
    stage = Stage()
    raw = stage.pair.commitment(Side.B, 1)
    txid, settlement = Transaction.parse(raw).txid, Transaction.parse(stage.pair.settlement(Side.B, 1))
    stage.party.note_spend(stage.name, raw, 100, BLOCK)
    heights = {height: [each.txid for each in stage.party.fee_parents(height)] for height in (104, 105, 2_122, 2_123)}
    (parent,) = stage.party.fee_parents(105)
    stage.party.note_disconnected(stage.name, txid, 100, BLOCK)

    assert {104: [], 105: [settlement.txid], 2_122: [settlement.txid], 2_123: []} == heights
    assert settlement.vsize == parent.size.vsize
    assert settlement.outputs[parent.vout].value == ANCHOR_SAT
    assert settlement.serialize() == stage.party.fee_parent_raw(parent)
    assert [txid] == [each.txid for each in stage.party.fee_parents(105)]
