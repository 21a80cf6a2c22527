"""Joint settlement by the rescue leaf between two parties: when it is signed, and when never."""

from __future__ import annotations

import msgspec
import pytest

from domain.contract.params import FLAG_RESCUE_LEAF
from domain.errors import ChannelNotReady, Equivocation, InvalidParams, InvalidSignature, InvalidState, SelfBreach
from domain.transaction import Transaction
from domain.units import Side
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.store import MemoryEventStore
from tests.support.parties import Pair, htlc, make_party, open_pair
from watchtower.client.party import exchange
from watchtower.client.protocol.messages import RescueAccept, RescuePropose, decode_message, encode_message
from watchtower.wire.hexes import Hex64

BLOCK = b"\xb1" * 32
HEIGHT = 500
FAIR = (498_800, 500_000)
"""B gets its balance, A 48 sat more than the settlement would leave it; 628 sat go to the fee."""


def closed(side: Side = Side.A, sequence: int = 0, updates: int = 0, confirmed: bool = True) -> Pair:
    """A channel with the commitment of a side seen by both, in a block unless told otherwise."""
    pair = open_pair(flags=FLAG_RESCUE_LEAF)
    for _ in range(updates):
        pair.update((500_000, 500_000))
    raw = pair.commitment(side, sequence)
    for party in pair.parties:
        party.note_spend(pair.channel_id, raw, HEIGHT, BLOCK if confirmed else None)
    return pair


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("proposer", list(Side))
def test_both_parties_sign_one_split_of_a_confirmed_commitment(side: Side, proposer: Side) -> None:
    """Two messages; both hold the same complete transaction of 816 WU, whoever published and whoever asks."""
    pair = closed(side, 2, updates=2)
    first, second = pair.parties[proposer], pair.parties[proposer.other]

    seen = exchange.run(first, second, first.propose_rescue(pair.channel_id, FAIR))

    raw = first.rescue_transaction(pair.channel_id)
    assert raw is not None
    tx = Transaction.parse(raw)
    assert [type(message) for message in seen] == [RescuePropose, RescueAccept]
    assert second.rescue_transaction(pair.channel_id) == raw
    assert [output.value for output in tx.outputs] == list(FAIR)
    assert tx.weight == 816
    assert tx.inputs[0].outpoint[:32] == pair.commitment_txid(side, 2)


def test_nothing_is_signed_before_the_commitment_is_in_a_block() -> None:
    """In the mempool is not enough, and a reorganization takes the permission away again."""
    pair = closed(confirmed=False)
    with pytest.raises(ChannelNotReady, match="no commitment is in a block yet"):
        pair.a.propose_rescue(pair.channel_id, FAIR)

    raw = pair.commitment(Side.A, 0)
    pair.a.note_spend(pair.channel_id, raw, HEIGHT, BLOCK)
    pair.a.note_disconnected(pair.channel_id, Transaction.parse(raw).txid, HEIGHT, BLOCK)

    with pytest.raises(ChannelNotReady, match="no commitment is in a block yet"):
        pair.a.propose_rescue(pair.channel_id, FAIR)


@pytest.mark.parametrize("side", list(Side))
def test_nothing_is_signed_for_a_revoked_commitment(side: Side) -> None:
    """Neither for the own one nor for the peer's: the penalty belongs to the other side."""
    pair = closed(side, 1, updates=2)

    for party in pair.parties:
        with pytest.raises(SelfBreach, match="not a commitment of the newest state"):
            party.propose_rescue(pair.channel_id, FAIR)


def test_only_one_set_of_amounts_is_ever_signed() -> None:
    """After one proposal left, no other amounts are signed or taken, also not after a restart."""
    store, keystore = MemoryEventStore(), MemoryKeystore()
    alice = make_party("alice", store=store, keystore=keystore)
    pair = open_pair(parties=(alice, make_party("bob")), flags=FLAG_RESCUE_LEAF)
    raw = pair.commitment(Side.A, 0)
    for party in pair.parties:
        party.note_spend(pair.channel_id, raw, HEIGHT, BLOCK)
    first = alice.propose_rescue(pair.channel_id, FAIR)
    other = pair.b.propose_rescue(pair.channel_id, (498_000, 500_000))

    again = make_party("alice", store=store, keystore=keystore)

    with pytest.raises(Equivocation, match="498800 and 500000 sat was signed"):
        again.propose_rescue(pair.channel_id, (498_000, 500_000))
    with pytest.raises(Equivocation, match="there is only one"):
        again.receive(decode_message(encode_message(other[0])))
    assert again.propose_rescue(pair.channel_id, FAIR) == first


def test_a_split_that_takes_from_the_peer_needs_its_approval() -> None:
    """By default a side signs only what gives it as much as the settlement would."""
    pair = closed()
    with pytest.raises(InvalidState, match="gets 499999 sat, the settlement gives it 500000 sat"):
        exchange.run(pair.a, pair.b, pair.a.propose_rescue(pair.channel_id, (498_501, 499_999)))

    pair.b.approve_close(pair.channel_id, (498_501, 499_999))
    exchange.run(pair.a, pair.b, pair.a.propose_rescue(pair.channel_id, (498_501, 499_999)))

    assert pair.b.rescue_transaction(pair.channel_id) is not None


def test_pending_conditions_are_split_with_approval_only() -> None:
    """What becomes of an HTLC in a joint settlement the owner must say."""
    pair = open_pair(flags=FLAG_RESCUE_LEAF)
    pair.with_htlcs(htlc(Side.A, 1, 20_000, 900_000))
    raw = pair.commitment(Side.A, 1)
    for party in pair.parties:
        party.note_spend(pair.channel_id, raw, HEIGHT, BLOCK)

    with pytest.raises(InvalidState, match="conditions are pending"):
        exchange.run(pair.a, pair.b, pair.a.propose_rescue(pair.channel_id, (478_500, 520_000)))


@pytest.mark.parametrize(
    ("amounts", "complaint"),
    [
        ((600_000, 500_000), "exceed the contest output"),
        ((499_428 - 203, 500_000), "leaves at least 204 sat for the fee, got 203 sat"),
        ((498_500, 100), "is dust"),
        ((0, 0), "needs outputs"),
    ],
)
def test_amounts_that_make_no_transaction_are_refused(amounts: tuple[int, int], complaint: str) -> None:
    """Too much, too little fee, dust, nothing: nothing is stored. The contest output has 999,428 sat."""
    pair = closed()

    with pytest.raises(InvalidState, match=complaint):
        pair.a.propose_rescue(pair.channel_id, amounts)

    assert pair.params.contest_value == 999_428
    assert pair.a.channel(pair.channel_id).rescue is None


def test_wrong_signatures_and_answers_change_nothing() -> None:
    """A bad signature in either message, an answer that nobody asked for, a split of another commitment."""
    pair = closed()
    (proposal,) = pair.a.propose_rescue(pair.channel_id, FAIR)
    assert isinstance(proposal, RescuePropose)
    bad = msgspec.structs.replace(proposal, signature=Hex64(bytes(64)))
    foreign = msgspec.structs.replace(proposal, commit_txid=type(proposal.commit_txid)(bytes(32)))

    with pytest.raises(InvalidSignature):
        pair.b.receive(bad)
    with pytest.raises(ChannelNotReady, match="another commitment"):
        pair.b.receive(foreign)
    with pytest.raises(ChannelNotReady, match="proposed no joint settlement"):
        pair.b.receive(RescueAccept(channel_id=proposal.channel_id, signature=Hex64(bytes(64))))
    with pytest.raises(InvalidSignature):
        pair.a.receive(RescueAccept(channel_id=proposal.channel_id, signature=Hex64(bytes(64))))

    assert pair.b.channel(pair.channel_id).rescue is None
    assert pair.a.rescue_transaction(pair.channel_id) is None


def test_repeated_messages_get_the_same_answers() -> None:
    """A lost answer is repeated with identical bytes."""
    pair = closed()
    (proposal,) = pair.a.propose_rescue(pair.channel_id, FAIR)
    arrived = decode_message(encode_message(proposal))

    answer = pair.b.receive(arrived)

    assert pair.b.receive(arrived) == answer
    assert pair.a.receive(decode_message(encode_message(answer[0]))) == []
    assert pair.a.receive(decode_message(encode_message(answer[0]))) == []
    assert pair.a.rescue_transaction(pair.channel_id) == pair.b.rescue_transaction(pair.channel_id)


def test_a_channel_without_the_leaf_has_no_joint_settlement() -> None:
    """Without the flag nothing is signed."""
    pair = open_pair()
    pair.a.note_spend(pair.channel_id, pair.commitment(Side.A, 0), HEIGHT, BLOCK)

    with pytest.raises(InvalidParams, match="no rescue leaf"):
        pair.a.propose_rescue(pair.channel_id, FAIR)


def test_a_frozen_party_signs_no_joint_settlement() -> None:
    """A restored log does not know which commitments are revoked."""
    pair = closed()
    pair.a.note_restored()

    with pytest.raises(ChannelNotReady, match="frozen"):
        pair.a.propose_rescue(pair.channel_id, FAIR)
