"""Conditions of the last state, and closes that both sign."""

from __future__ import annotations

import pytest

from domain.errors import ChannelClosed, ChannelNotReady, InvalidSecret, InvalidState
from domain.transaction import Transaction
from domain.units import Side
from tests.support.exchanging import decoded
from tests.support.parties import htlc, open_pair, preimage_of
from watchtower.client.party import exchange


def test_htlcs_are_claimed_by_the_right_side_only() -> None:
    """The receiver claims with the preimage, the offerer after the expiry; the other way round is refused."""
    pair = open_pair()
    sequence = pair.with_htlcs(htlc(Side.A, 1, 20_000, 900_000), htlc(Side.B, 2, 30_000, 900_001))
    claim = pair.b.claim_success(pair.channel_id, sequence, Side.A, (0, 1), preimage_of(1), 500)
    refund = pair.a.claim_timeout(pair.channel_id, sequence, Side.A, (0, 1), 500)

    settle = Transaction.parse(pair.settlement(Side.A, sequence))
    for raw in (claim, refund):
        tx = Transaction.parse(raw)
        assert tx.inputs[0].outpoint[:32] == settle.txid
        assert settle.outputs[int.from_bytes(tx.inputs[0].outpoint[32:], "little")].value == 20_000
    with pytest.raises(InvalidState, match="claimed by"):
        pair.a.claim_success(pair.channel_id, sequence, Side.A, (0, 1), preimage_of(1), 500)
    with pytest.raises(InvalidSecret):
        pair.b.claim_success(pair.channel_id, sequence, Side.A, (0, 1), preimage_of(2), 500)
    assert pair.balances == (480_000, 470_000)


@pytest.mark.parametrize("musig", [False, True])
@pytest.mark.parametrize("closer", list(Side))
def test_cooperative_close_by_both_forms(closer: Side, musig: bool) -> None:
    """Both sides end with the same complete transaction, of the weight that the protocol names."""
    pair = open_pair()
    pair.updates(2)

    raw = pair.close(closer, fee=1_000, musig=musig)

    tx = Transaction.parse(raw)
    assert tx.weight == (616 if musig else 784)
    assert pair.a.close_transaction(pair.channel_id) == pair.b.close_transaction(pair.channel_id) == raw
    paid = [498_000, 502_000]
    paid[closer] -= 1_000
    assert [output.value for output in tx.outputs] == paid


def test_a_close_that_takes_from_the_other_side_is_not_signed() -> None:
    """The acceptor of a close signs nothing below its own balance."""
    pair = open_pair()

    with pytest.raises(InvalidState, match=r"the balance of [AB] is 500000"):
        exchange.close(pair.a, pair.b, pair.channel_id, (600_000, 400_000), 1_000)

    assert pair.b.channel(pair.channel_id).closes == ()


def test_a_joined_close_that_is_refused_binds_nobody() -> None:
    """Its proposal is a nonce, no signature: a slip in the balances costs neither the updates nor the right close."""
    pair = open_pair()
    with pytest.raises(InvalidState, match=r"the balance of [AB] is 500000"):
        exchange.close(pair.a, pair.b, pair.channel_id, (600_000, 400_000), 1_000, musig=True)
    pair.updates(2)
    raw = pair.close(Side.A, musig=True)

    assert raw == pair.a.close_transaction(pair.channel_id) == pair.b.close_transaction(pair.channel_id)
    assert 2 == pair.a.channel(pair.channel_id).sequence


def test_an_answer_to_a_joined_close_that_was_given_up_is_refused() -> None:
    """Else a peer could refuse first, and complete the close when it suits it."""
    pair = open_pair()
    proposed = decoded(pair.a.propose_close_musig(pair.channel_id, (500_000, 500_000), 1_000))
    answer = decoded(pair.b.receive(proposed))
    pair.a.forget_close(pair.channel_id)

    with pytest.raises(ChannelNotReady, match="no signing attempt is open"):
        pair.a.receive(answer)
    assert () == pair.a.channel(pair.channel_id).closes


def test_a_joined_close_does_not_outlive_the_state_it_was_made_for() -> None:
    """A state that both signed meanwhile may give this side more: it is not closed away."""
    pair = open_pair()
    proposed = decoded(pair.a.propose_close_musig(pair.channel_id, (500_000, 500_000), 1_000))
    pair.update((510_000, 490_000))
    answer = decoded(pair.b.receive(proposed))

    with pytest.raises(ChannelNotReady, match="a state was signed while the close was agreed on"):
        pair.a.receive(answer)
    assert () == pair.a.channel(pair.channel_id).closes


def test_all_closes_have_the_same_final_balances() -> None:
    """U6: a second close may differ in fee only."""
    pair = open_pair()
    pair.close(Side.A, fee=1_000)

    with pytest.raises(ChannelClosed, match="500000 and 500000 sat was signed before"):
        pair.a.propose_close(pair.channel_id, (400_000, 600_000), 1_000)
    assert Transaction.parse(pair.close(Side.A, fee=2_000)).outputs[0].value == 498_000


def test_no_close_with_pending_conditions() -> None:
    """Conditions are settled or dropped first."""
    pair = open_pair()
    pair.with_htlcs(htlc(Side.A, 1, 20_000, 900_000))

    with pytest.raises(InvalidState, match="conditions are pending"):
        pair.a.propose_close(pair.channel_id, (500_000, 500_000), 1_000)
