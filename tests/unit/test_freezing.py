"""Restored and frozen parties: what they refuse, what thaws them, and how such a channel ends."""

from __future__ import annotations

from hashlib import sha256

import msgspec
import pytest

from domain.errors import ChannelNotReady, DomainError, Equivocation, InvalidState
from domain.events import ChannelUnfrozen, FreezeReason, ReportedBy
from domain.units import Side
from tests.fakes.store import MemoryEventStore
from tests.support.parties import Pair, make_party, open_pair, preimage_of
from tests.support.receipts import acknowledge
from watchtower.client.party import exchange
from watchtower.client.party.party import Change, ChannelParty, NewHtlc
from watchtower.client.protocol.messages import (
    AnyMessage,
    ClosePropose,
    CloseProposeMusig,
    HtlcFail,
    HtlcFulfil,
    Reestablish,
    UpdateAccept,
    UpdateCommit,
    UpdatePropose,
    UpdateReject,
    UpdateRevoke,
)
from watchtower.wire.hexes import Hex32, Hex64, NonceHex, SecretHex


def restored_copy(pair: Pair, side: Side) -> ChannelParty:
    """The party of a side from a copy of its log, frozen because it knows that it is one."""
    store = MemoryEventStore()
    party = pair.parties[side]
    store.append(party._store.read_stream(party.channel(pair.channel_id).stream))
    copy = make_party(pair.names[side], store=store)
    copy.note_restored()
    return copy


def hello(party: ChannelParty, pair: Pair) -> Reestablish:
    """What a party says after a reconnection."""
    (message,) = party.reconnect(pair.channel_id)
    assert isinstance(message, Reestablish)
    return message


def test_a_restored_party_signs_nothing() -> None:
    """No offer, no answer to one, no own commitment, no agreement to a close."""
    pair = open_pair()
    pair.updates(3)
    copy = restored_copy(pair, Side.A)

    with pytest.raises(ChannelNotReady, match="frozen"):
        copy.offer(pair.channel_id, (496_000, 504_000))
    with pytest.raises(ChannelNotReady, match="frozen"):
        copy.sign_commitment(pair.channel_id, 3)
    assert copy.channel(pair.channel_id).frozen is FreezeReason.RESTORED


def test_an_offer_to_a_restored_party_is_refused() -> None:
    """The peer hears why."""
    pair = open_pair()
    copy = restored_copy(pair, Side.A)

    (offer,) = pair.b.offer(pair.channel_id, (499_000, 501_000))
    (answer,) = copy.receive(offer)

    assert isinstance(answer, UpdateReject)
    assert "frozen (restored)" in answer.reason


@pytest.mark.parametrize("updates", [0, 1, 4])
def test_a_peer_that_stands_at_the_same_state_thaws_it(updates: int) -> None:
    """A fresh backup: the peer reports the same state and the same revocations, and the channel goes on."""
    pair = open_pair()
    pair.updates(updates)
    copy = restored_copy(pair, Side.A)

    exchange.reconnect(copy, pair.b, pair.channel_id)

    assert copy.channel(pair.channel_id).frozen is None
    again = Pair((copy, pair.b), pair.names, pair.channel_id, pair.funding)
    assert again.update() == updates + 1
    events = copy._store.read_stream(copy.channel(pair.channel_id).stream)
    thawed = [event.payload for event in events if isinstance(event.payload, ChannelUnfrozen)]
    assert [(each.reported_by, each.sequence) for each in thawed] == [(ReportedBy.PEER, updates)]


def test_a_peer_that_knows_more_proves_the_loss() -> None:
    """A backup that is too old is frozen for good: no report of a lower number thaws it."""
    pair = open_pair()
    pair.updates(1)
    copy = restored_copy(pair, Side.A)
    pair.updates(3)

    with pytest.raises(ChannelNotReady, match="old copy"):
        copy.receive(hello(pair.b, pair))

    assert copy.channel(pair.channel_id).frozen is FreezeReason.DATA_LOSS
    with pytest.raises(ChannelNotReady, match="for good"):
        copy.unfreeze(pair.channel_id, 1)


def test_a_proof_of_the_loss_is_stored_once() -> None:
    """Peer and tower may say it as often as they like; the log does not grow by it."""
    pair = open_pair()
    copy = restored_copy(pair, Side.A)
    pair.updates(3)
    with pytest.raises(ChannelNotReady, match="old copy"):
        copy.receive(hello(pair.b, pair))
    stored = copy.channel(pair.channel_id).version

    with pytest.raises(ChannelNotReady, match="old copy"):
        copy.receive(hello(pair.b, pair))
    with pytest.raises(ChannelNotReady, match="old copy"):
        copy.note_tower_report(pair.channel_id, 9)

    assert stored == copy.channel(pair.channel_id).version


@pytest.mark.parametrize(
    "change",
    [
        {"current_seq": 1},
        {"current_seq": 3},
        {"current_seq": None},
        {"last_peer_secret_seq": None, "last_peer_secret": None},
        {"pending_seq": 3, "pending_state_hash": Hex32(b"\x03" * 32)},
    ],
    ids=["older", "newer", "none", "without our revocation", "with an offer that is not known here"],
)
def test_a_peer_that_stands_elsewhere_does_not_thaw_it(change: dict[str, object]) -> None:
    """Any difference to the own log keeps the channel frozen."""
    pair = open_pair()
    pair.updates(2)
    copy = restored_copy(pair, Side.A)

    copy.receive(msgspec.structs.replace(hello(pair.b, pair), **change))

    assert copy.channel(pair.channel_id).frozen is FreezeReason.RESTORED


@pytest.mark.parametrize("updates", [0, 1, 2, 3])
def test_a_restored_party_does_not_say_where_it_stands(updates: int) -> None:
    """Neither its greeting nor its answer to one shows a number that a hostile peer could mirror."""
    pair = open_pair()
    pair.updates(updates)
    copy = restored_copy(pair, Side.A)
    wrong = msgspec.structs.replace(hello(pair.b, pair), current_seq=9)

    said = hello(copy, pair)
    shown = (said.current_seq, said.pending_seq, said.pending_state_hash)

    assert shown == (None, None, None)
    assert (said.last_peer_secret_seq, said.last_peer_secret) == (None, None)
    assert copy.receive(wrong) == []


def test_a_restored_party_is_silent_to_repetitions() -> None:
    """Every message of every update gets the same refusal, whether it repeats what the log holds or not."""
    pair = open_pair()
    sent = exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, (499_000, 501_000)))
    copy = restored_copy(pair, Side.A)
    numbered = [each for each in sent if isinstance(each, UpdatePropose | UpdateAccept | UpdateCommit | UpdateRevoke)]

    texts = {refusal_of(copy, msgspec.structs.replace(m, seq=n)) for m in numbered for n in (0, 1, 2, 9)}

    assert len(numbered) == 4
    assert texts == {"the channel is frozen (restored); close cooperatively or let the peer close"}


def copies_with_htlcs(pair: Pair) -> list[ChannelParty]:
    """Restored copies of A's log at states with HTLC 0/0 for one hash, with none, and with the same for another."""
    copies = []
    for number in range(2):
        new = NewHtlc(10_000, sha256(preimage_of(number)).digest(), 100_000)
        exchange.change(pair.a, pair.b, pair.channel_id, Change(add=(new,)))
        copies.append(restored_copy(pair, Side.A))
        exchange.change(pair.b, pair.a, pair.channel_id, Change(fulfil=(((0, 0), preimage_of(number)),)))
        copies.append(restored_copy(pair, Side.A))
    return copies


def outcome(party: ChannelParty, message: AnyMessage) -> str:
    """What the peer hears: messages, or the text of a refusal."""
    try:
        return str(party.receive(message))
    except DomainError as refusal:
        return f"{refusal.slug}: {refusal}"


def probes(pair: Pair) -> list[AnyMessage]:
    """What a peer may ask about HTLCs and closes of any state."""
    name = Hex32(pair.channel_id)
    htlcs: list[AnyMessage] = [HtlcFail(channel_id=name, condition_type=0, id=0, reason="no")]
    htlcs += [HtlcFulfil(channel_id=name, condition_type=0, id=0, preimage=SecretHex(preimage_of(n))) for n in range(3)]
    final = (1_000_000, 0)
    leaf = ClosePropose(channel_id=name, final_balances=final, fee=500, lock_time=0, signature=Hex64(bytes(64)))
    joined = CloseProposeMusig(
        channel_id=name, final_balances=final, fee=500, lock_time=0, nonce=NonceHex(b"\x02" * 66)
    )
    return [*htlcs, leaf, joined]


def test_a_restored_party_does_not_betray_its_state_by_its_htlcs() -> None:
    """Each HTLC stands in some states only: whoever could ask about them would know what to mirror at once."""
    pair = open_pair()
    copies = copies_with_htlcs(pair)

    heard = {tuple(outcome(copy, probe) for probe in probes(pair)) for copy in copies}

    assert len(heard) == 1
    assert next(iter(heard))[:4] == ("[]", "[]", "[]", "[]")


def test_a_restored_party_keeps_a_preimage_that_fits() -> None:
    """It may be paid with it one hop before, though nobody hears that it did fit."""
    pair = open_pair()
    copy, *_ = copies_with_htlcs(pair)

    for probe in probes(pair)[1:3]:
        copy.receive(probe)

    assert copy.preimage(sha256(preimage_of(0)).digest()) == preimage_of(0)
    assert copy.preimage(sha256(preimage_of(1)).digest()) is None


def test_a_peer_may_not_guess_twice() -> None:
    """After a wrong number the right one does not thaw, also after a restart; the owner still can."""
    pair = open_pair()
    pair.updates(2)
    copy = restored_copy(pair, Side.A)
    right = hello(pair.b, pair)

    copy.receive(msgspec.structs.replace(right, current_seq=1))
    copy.receive(right)
    again = make_party(pair.names[Side.A], store=copy._store)
    again.receive(right)
    guessed = again.channel(pair.channel_id).frozen
    again.unfreeze(pair.channel_id, 2)

    assert guessed is FreezeReason.RESTORED
    assert again.channel(pair.channel_id).frozen is None


@pytest.mark.parametrize("updates", [1, 2])
def test_an_honest_peer_answers_a_restored_one_with_its_numbers(updates: int) -> None:
    """It repeats nothing, not even an offer in flight; its own greeting thaws, and then what was cut goes on."""
    pair = open_pair()
    pair.updates(updates)
    (offer,) = pair.b.offer(pair.channel_id, pair.balances)
    pair.a.receive(offer)
    copy = restored_copy(pair, Side.A)
    greeting = hello(copy, pair)

    answer = pair.b.receive(greeting)

    assert answer == [hello(pair.b, pair)]
    exchange.run(pair.b, copy, answer)
    assert copy.channel(pair.channel_id).frozen is None
    assert copy.channel(pair.channel_id).sequence == updates + 1


def refusal_of(party: ChannelParty, message: AnyMessage) -> str:
    """What a party says against a message."""
    with pytest.raises(ChannelNotReady) as caught:
        party.receive(message)
    return str(caught.value)


def test_with_a_tower_the_word_of_the_peer_is_not_enough() -> None:
    """A peer could lie to have a revoked state published; where a tower holds states, it must agree."""
    pair = open_pair()
    pair.updates(2)
    acknowledge(pair.a, pair.channel_id, 2)
    copy = restored_copy(pair, Side.A)

    copy.receive(hello(pair.b, pair))
    alone = copy.channel(pair.channel_id).frozen
    copy.note_tower_report(pair.channel_id, 2)
    copy.receive(hello(pair.b, pair))

    assert alone is FreezeReason.RESTORED
    assert copy.channel(pair.channel_id).frozen is None


def test_a_tower_that_knows_more_proves_the_loss() -> None:
    """The tower's higher number freezes for good, also a channel that was not frozen."""
    pair = open_pair()
    pair.updates(2)

    with pytest.raises(ChannelNotReady, match="state 5 exists, this store knows 2"):
        pair.a.note_tower_report(pair.channel_id, 5)

    assert pair.a.channel(pair.channel_id).frozen is FreezeReason.DATA_LOSS
    pair.b.note_tower_report(pair.channel_id, 2)
    assert pair.b.channel(pair.channel_id).frozen is None


def test_an_operator_may_thaw_with_exactly_the_newest_state() -> None:
    """A lower number is refused, a higher one is loss of data, the right one thaws."""
    pair = open_pair()
    pair.updates(2)
    right, low, high = (restored_copy(pair, Side.A) for _ in range(3))

    right.unfreeze(pair.channel_id, 2)
    with pytest.raises(ChannelNotReady, match="the report names state 1, this log holds state 2"):
        low.unfreeze(pair.channel_id, 1)
    with pytest.raises(ChannelNotReady, match="old copy"):
        high.unfreeze(pair.channel_id, 3)

    assert right.channel(pair.channel_id).frozen is None
    assert low.channel(pair.channel_id).frozen is FreezeReason.RESTORED
    assert high.channel(pair.channel_id).frozen is FreezeReason.DATA_LOSS


def test_equivocation_freezes_for_good() -> None:
    """Neither peer nor operator thaws a channel whose peer signed two contents; a later freeze does not hide it."""
    pair = open_pair()
    copy = restored_copy(pair, Side.A)
    copy.unfreeze(pair.channel_id, 0)
    pair.update()
    (second,) = open_twin(pair).offer(pair.channel_id, (400_000, 600_000))
    with pytest.raises(Equivocation, match="second content"):
        pair.a.receive(second)
    with pytest.raises(ChannelNotReady):
        pair.a.note_data_loss(pair.channel_id, 9)

    pair.a.note_restored()
    with pytest.raises(ChannelNotReady, match=r"equivocation\) for good"):
        pair.a.unfreeze(pair.channel_id, 1)


def open_twin(pair: Pair) -> ChannelParty:
    """B as it was before its first update."""
    store = MemoryEventStore()
    events = pair.b._store.read_stream(pair.b.channel(pair.channel_id).stream)
    names = [type(event.payload).__name__ for event in events]
    store.append(events[: names.index("StateCommitted") + 1])
    return make_party(pair.names[Side.B], store=store)


def test_a_frozen_channel_is_closed_with_the_owners_approval() -> None:
    """The peer's close is not signed by itself: the newest state may have given this side more."""
    pair = open_pair()
    pair.updates(2)
    copy = restored_copy(pair, Side.A)
    final = pair.balances

    with pytest.raises(ChannelNotReady, match="must approve the final balances"):
        exchange.close(pair.b, copy, pair.channel_id, final, 1_000)
    copy.approve_close(pair.channel_id, final)
    raw = exchange.close(pair.b, copy, pair.channel_id, final, 1_000)

    assert copy.close_transaction(pair.channel_id) == raw


def test_a_losing_close_needs_the_owners_approval() -> None:
    """By default a close below the own balance is refused; approved, it is signed."""
    pair = open_pair()
    with pytest.raises(InvalidState, match=r"the balance of [AB] is 500000"):
        exchange.close(pair.a, pair.b, pair.channel_id, (600_000, 400_000), 1_000)
    other = open_pair(names=("carol", "dave"))

    other.b.approve_close(other.channel_id, (600_000, 400_000))

    assert exchange.close(other.a, other.b, other.channel_id, (600_000, 400_000), 1_000)
