"""The update exchange: rules U1 to U6 at every message, crashes at every step, lost messages at every place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest

from domain.contract.conditions import Condition
from domain.contract.revocation import commitment_point, commitment_secret
from domain.errors import (
    ChannelClosed,
    ChannelNotReady,
    Equivocation,
    InvalidParams,
    InvalidSecret,
    InvalidSignature,
    InvalidState,
    MalformedInput,
    SelfBreach,
    SequenceGap,
    UnknownChannel,
)
from domain.events import (
    AlertKind,
    AlertRaised,
    ChannelFrozen,
    Envelope,
    EquivocationFound,
    FreezeReason,
    StateAccepted,
    StateCommitted,
    StateProposed,
    StateRevoked,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.fakes.store import MemoryEventStore
from tests.support.faults import Crashed, Disks, opened
from tests.support.parties import Pair, htlc, make_party, open_pair, preimage_of
from tests.support.receipts import acknowledge
from watchtower.client import exchange, seat
from watchtower.client.exchange import deliver
from watchtower.client.messages import (
    AnyMessage,
    Message,
    Reestablish,
    UpdateAccept,
    UpdateCommit,
    UpdateOffer,
    UpdateOfferOk,
    UpdatePropose,
    UpdateReject,
    UpdateRevoke,
    decode_message,
    encode_message,
)
from watchtower.client.opening import Terms
from watchtower.client.party import ChannelParty
from watchtower.wire.hexes import Hex64, SecretHex

EXCHANGE = (UpdateOffer, UpdateOfferOk, UpdatePropose, UpdateAccept, UpdateCommit, UpdateRevoke)


def events_of(pair: Pair, side: Side) -> list[Envelope]:
    """The log of one party for the channel."""
    party = pair.parties[side]
    return party._store.read_stream(party.channel(pair.channel_id).stream)


def tamper(form: type[Message], change: Callable[[AnyMessage], AnyMessage]) -> exchange.Carry:
    """A wire that alters messages of one type."""

    def carry(sender: ChannelParty, message: Message) -> Sequence[AnyMessage]:
        arrived = deliver(sender, message)
        return [change(each) if isinstance(each, form) else each for each in arrived]

    return carry


def lose(place: int) -> exchange.Carry:
    """A wire that loses everything from the given message on."""
    count = iter(range(1_000_000))

    def carry(sender: ChannelParty, message: Message) -> Sequence[AnyMessage]:
        return deliver(sender, message) if next(count) < place else ()

    return carry


def next_balances(pair: Pair) -> tuple[int, int]:
    """A payment of 1,000 sat from A to B."""
    return pair.balances[0] - 1_000, pair.balances[1] + 1_000


def assert_revoked_only_when_safe(events: Sequence[Envelope], own: Side) -> None:
    """U2: before an own release of n the log holds a complete n+1 with both settlement signatures of the peer."""
    complete: set[int] = set()
    proposed: set[int] = set()
    for event in events:
        match event.payload:
            case StateProposed(sequence=sequence) | StateAccepted(sequence=sequence):
                proposed.add(sequence)
            case StateCommitted(sequence=sequence):
                assert sequence in proposed
                complete.add(sequence)
            case StateRevoked(sequence=sequence, party=party) if party is own:
                assert sequence + 1 in complete


# ── the whole way ────────────────────────────────────────────────────────────────────────────────────────


def test_both_parties_end_in_the_same_state() -> None:
    """Ten updates with application data leave both logs with the same newest state and revocations up to it."""
    pair = open_pair()

    pair.updates(10)

    assert pair.sequence == 10
    assert pair.balances == (490_000, 510_000)
    for party in pair.parties:
        channel = party.channel(pair.channel_id)
        assert channel.state == pair.state(10)
        assert (channel.own_released, channel.peer_revoked) == (9, 9)
        assert channel.pending is None
    assert pair.state(10).content.state_data == b"payment_10"


def test_messages_travel_in_the_order_of_the_protocol() -> None:
    """An update has six messages, and the proposer alternates: B proposes odd states, A even ones (U3)."""
    pair = open_pair()
    odd = exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, next_balances(pair)))
    even = exchange.run(pair.a, pair.b, pair.a.offer(pair.channel_id, next_balances(pair)))

    assert [type(message) for message in odd] == list(EXCHANGE)
    assert [type(message) for message in even] == list(EXCHANGE)


def test_state_zero_is_complete_before_the_funding_may_be_signed() -> None:
    """The funding transaction cannot be recorded as sent before state 0 has all signatures."""
    a, b = make_party("alice"), make_party("bob")
    exchange.run(a, b, [a.open(Terms(balances=(500_000, 500_000)))])
    (channel,) = a.channels()
    messages = a.fix_funding(channel.channel_id, b"\x01" * 32, 0)

    with pytest.raises(ChannelNotReady, match="state 0"):
        a.note_funding_sent(channel.channel_id, b"")

    exchange.run(a, b, messages)
    assert [party.channels()[0].sequence for party in (a, b)] == [0, 0]


def test_every_message_survives_its_json_form() -> None:
    """Encoding is lossless and hexadecimal; decoding gives equal messages."""
    pair = open_pair()
    seen = exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, next_balances(pair), (), b"\x00\xff"))

    assert [decode_message(encode_message(message)) for message in seen] == seen
    assert b'"type":"update_offer"' in encode_message(seen[0])


def test_secrets_are_not_shown_in_texts() -> None:
    """Neither messages 3 and 4 nor the registration show their secret in a repr."""
    pair = open_pair()
    seen = exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, next_balances(pair)))
    shown = repr(seen) + repr(pair.registration(Side.B)) + repr(pair.parties)

    for side in Side:
        assert repr(pair.secret(side, 0))[2:-1] not in shown
        assert repr(pair.secrets(side).rev)[2:-1] not in shown


# ── F06 … F10, F15, F16 ──────────────────────────────────────────────────────────────────────────────────


def test_f06_update_gap_is_refused_and_a_repetition_is_idempotent() -> None:
    """A skipped number is rejected with the reason; the same offer again gets the same answer and no event."""
    pair = open_pair()
    (offer,) = pair.b.offer(pair.channel_id, next_balances(pair))
    header = bytearray(offer.header)
    header[40] = 3
    skipping = msgspec.structs.replace(offer, header=type(offer.header)(header))

    (answer,) = pair.a.receive(skipping)
    assert isinstance(answer, UpdateReject)
    assert "state 1 comes next, got 3" in answer.reason

    first = pair.a.receive(offer)
    stored = len(events_of(pair, Side.A))
    assert pair.a.receive(offer) == first
    assert len(events_of(pair, Side.A)) == stored


def test_f06_second_content_for_a_number_is_equivocation() -> None:
    """A second header for a complete number is refused with evidence, and the channel freezes (U5)."""
    pair = open_pair()
    before = copy_of(pair)
    pair.update()
    (second,) = before.b.offer(pair.channel_id, (400_000, 600_000))
    assert isinstance(second, UpdateOffer)

    with pytest.raises(Equivocation, match="second content"):
        pair.a.receive(second)

    found, frozen = (event.payload for event in events_of(pair, Side.A)[-2:])
    assert isinstance(found, EquivocationFound)
    assert (found.stored_state_hash, found.offered_header) == (pair.state(1).content.state_hash, second.header)
    assert isinstance(frozen, ChannelFrozen)
    assert pair.a.channel(pair.channel_id).frozen is FreezeReason.EQUIVOCATION
    with pytest.raises(ChannelNotReady, match="frozen"):
        pair.update()


def copy_of(pair: Pair) -> Pair:
    """The same parties on copies of their stores: what a dishonest party keeps to go back to."""
    copies = []
    for side in Side:
        store = MemoryEventStore()
        store.append(events_of(pair, side))
        copies.append(make_party(pair.names[side], store=store))
    return Pair((copies[0], copies[1]), pair.names, pair.channel_id, pair.funding)


@pytest.mark.parametrize(
    ("balances", "complaint"),
    [
        ((500_000, 499_999), "add up to"),
        ((500_001, 500_000), "add up to"),
        ((1_000_001, -1), "negative"),
        ((-1, 1_000_001), "negative"),
        ((9_999, 990_001), "reserve"),
        ((995_000, 5_000), "reserve"),
    ],
)
def test_f07_sums_and_balances(balances: tuple[int, int], complaint: str) -> None:
    """Sums that differ from the capacity, negative balances and broken reserves are refused before any signature."""
    pair = open_pair()

    with pytest.raises(InvalidState, match=complaint):
        pair.b.offer(pair.channel_id, balances)

    assert pair.b.channel(pair.channel_id).pending is None


@pytest.mark.parametrize("name", ["settle_a", "settle_b", "state_sig"])
def test_f08_bad_settlement_signature_releases_nothing(name: str) -> None:
    """U1: with a bad signature in message 1 the acceptor sends no commitment signature and stores nothing."""
    pair = open_pair()
    wire = tamper(UpdatePropose, lambda each: msgspec.structs.replace(each, **{name: Hex64(bytes(64))}))
    stored = len(events_of(pair, Side.A))

    with pytest.raises(InvalidSignature):
        exchange.update(pair.a, pair.b, pair.channel_id, next_balances(pair), carry=wire)

    assert [type(event.payload).__name__ for event in events_of(pair, Side.A)[stored:]] == ["StateOffered"]


@pytest.mark.parametrize("name", ["settle_a", "settle_b", "state_sig", "commit_peer"])
def test_bad_signature_of_the_acceptor_releases_nothing(name: str) -> None:
    """U1 and U2: with a bad signature in message 2 the proposer sends neither commitment signature nor secret."""
    pair = open_pair()
    wire = tamper(UpdateAccept, lambda each: msgspec.structs.replace(each, **{name: Hex64(bytes(64))}))

    with pytest.raises(InvalidSignature):
        exchange.update(pair.a, pair.b, pair.channel_id, next_balances(pair), carry=wire)

    channel = pair.b.channel(pair.channel_id)
    assert (channel.sequence, channel.own_released) == (0, -1)
    assert channel.pending is not None
    assert channel.pending.acceptance is None


def test_bad_commitment_signature_keeps_the_old_state() -> None:
    """A bad signature in message 3: the acceptor does not revoke."""
    pair = open_pair()
    wire = tamper(UpdateCommit, lambda each: msgspec.structs.replace(each, commit_peer=Hex64(bytes(64))))

    with pytest.raises(InvalidSignature):
        exchange.update(pair.a, pair.b, pair.channel_id, next_balances(pair), carry=wire)

    channel = pair.a.channel(pair.channel_id)
    assert (channel.sequence, channel.own_released, channel.peer_revoked) == (0, -1, -1)


@pytest.mark.parametrize("form", [UpdateCommit, UpdateRevoke])
def test_f09_secret_of_a_wrong_point(form: type[Message]) -> None:
    """A secret that does not belong to the announced point is refused; its receiver keeps what it had."""
    pair = open_pair()
    wire = tamper(form, lambda each: msgspec.structs.replace(each, secret=SecretHex(b"\x07" * 32)))
    receiver = pair.a if form is UpdateCommit else pair.b

    with pytest.raises(InvalidSecret, match="point"):
        exchange.update(pair.a, pair.b, pair.channel_id, next_balances(pair), carry=wire)

    assert receiver.channel(pair.channel_id).peer_revoked == -1
    assert receiver.channel(pair.channel_id).buckets == ()


def test_f10_inconsistent_shachain_raises_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that fits its point but not the earlier secrets is refused, and the alert is in the log."""
    pair = open_pair()
    b_seed = pair.secrets(Side.B).seed

    def foreign_from_three(real: Callable[[bytes, int], bytes]) -> Callable[[bytes, int], bytes]:
        return lambda seed, n: real(b"\x42" * 32 if seed == b_seed and n >= 3 else seed, n)

    monkeypatch.setattr(seat, "commitment_secret", foreign_from_three(commitment_secret))
    monkeypatch.setattr(seat, "commitment_point", foreign_from_three(commitment_point))
    pair.updates(3)

    with pytest.raises(InvalidSecret, match="contradicts"):
        pair.update()
    with pytest.raises(InvalidSecret, match="contradicts"):
        exchange.reconnect(pair.a, pair.b, pair.channel_id)

    alert = events_of(pair, Side.A)[-1].payload
    before = events_of(pair, Side.A)[-2].payload
    assert isinstance(alert, AlertRaised)
    assert not isinstance(before, AlertRaised)
    assert (alert.kind, alert.sequence) == (AlertKind.SECRET_INCONSISTENT, 3)
    assert pair.a.channel(pair.channel_id).peer_revoked == 2


def test_f15_abandoned_proposal_binds_both_sides() -> None:
    """After message 1 was sent, its sender refuses another content for the number, and so does its receiver."""
    pair = open_pair()
    before = copy_of(pair)
    exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, next_balances(pair)), carry=lose(3))

    with pytest.raises(Equivocation, match="U5"):
        pair.b.offer(pair.channel_id, (400_000, 600_000))
    with pytest.raises(Equivocation, match="second content"):
        pair.a.receive(decoded(before.b.offer(pair.channel_id, (400_000, 600_000))))


def test_f15_an_offer_alone_binds_nobody() -> None:
    """Before message 1 the proposer may change its mind."""
    pair = open_pair()
    exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, next_balances(pair)), carry=lose(1))

    assert exchange.update(pair.a, pair.b, pair.channel_id, (400_000, 600_000)) == 1
    assert pair.balances == (400_000, 600_000)


def test_f16_no_update_after_a_close_signature() -> None:
    """U6: once a close signature left, neither side offers or accepts an update."""
    pair = open_pair()
    before = copy_of(pair)
    pair.close(Side.A)

    with pytest.raises(ChannelClosed, match="U6"):
        pair.b.offer(pair.channel_id, next_balances(pair))
    (answer,) = pair.a.receive(decoded(before.b.offer(pair.channel_id, next_balances(pair))))
    assert isinstance(answer, UpdateReject)
    assert "U6" in answer.reason


def test_u6_no_update_after_any_spend() -> None:
    """U6: publishing an own commitment or seeing a spend ends updates, whatever becomes of the spend."""
    pair, other = open_pair(), open_pair(names=("carol", "dave"))
    pair.b.sign_commitment(pair.channel_id, 0)
    other.b.note_spend(other.channel_id, other.commitment(Side.A, 0), 100)

    for each in (pair, other):
        with pytest.raises(ChannelClosed, match="U6"):
            each.b.offer(each.channel_id, next_balances(each))


def test_u3_a_proposal_out_of_turn_is_rejected() -> None:
    """A rejects an offer for a number that A itself has to propose."""
    pair = open_pair()
    pair.update()
    (offer,) = pair.a.offer(pair.channel_id, next_balances(pair))

    (answer,) = pair.a.receive(decoded([offer]))

    assert isinstance(answer, UpdateReject)
    assert "U3" in answer.reason


def test_messages_without_their_predecessors_are_refused() -> None:
    """Messages 1 to 4 out of the blue change nothing."""
    pair = open_pair()
    source = open_pair()
    seen = exchange.run(source.b, source.a, source.b.offer(source.channel_id, next_balances(source)))
    stored = len(events_of(pair, Side.A))

    for message in (seen[2], seen[4]):
        with pytest.raises(SequenceGap):
            pair.a.receive(message)
    with pytest.raises(SequenceGap):
        pair.b.receive(seen[3])
    with pytest.raises(SequenceGap):
        pair.b.receive(seen[5])
    with pytest.raises(UnknownChannel):
        pair.a.receive(msgspec.structs.replace(seen[0], channel_id=type(seen[0].channel_id)(bytes(32))))
    assert len(events_of(pair, Side.A)) == stored


# ── publishing ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_revoked_state_is_never_signed_for_broadcast() -> None:
    """The self-breach guard reads the log before every signature."""
    pair = open_pair()
    pair.updates(3)

    for stale in range(3):
        with pytest.raises(SelfBreach):
            pair.a.sign_commitment(pair.channel_id, stale)
    with pytest.raises(SequenceGap):
        pair.a.sign_commitment(pair.channel_id, 4)

    raw = pair.a.sign_commitment(pair.channel_id, 3)
    assert Transaction.parse(raw).txid == pair.commitment_txid(Side.A, 3)


def test_the_guard_knows_releases_that_another_process_recorded() -> None:
    """A party whose memory is older than the log still refuses."""
    disks = Disks()
    pair = opened(disks, 1)
    old_memory = make_party("alice", store=disks.stores[0], keystore=disks.keystores[0])
    pair.update()

    assert old_memory.channel(pair.channel_id).sequence == 1
    with pytest.raises(SelfBreach):
        old_memory.sign_commitment(pair.channel_id, 1)


# ── crashes and lost messages ────────────────────────────────────────────────────────────────────────────

STEPS_OF_AN_UPDATE = 12
"""More store and send points than either side passes in one update."""


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("step", range(STEPS_OF_AN_UPDATE))
def test_crash_at_every_step_loses_nothing(side: Side, step: int, conditional: bool) -> None:
    """U1 to U3: whoever dies wherever, both restart, reconnect, and finish or begin again with the same content."""
    disks = Disks()
    pair = opened(disks, 2)
    conditions = (htlc(Side.A, 1, 20_000, 900_000),) if conditional else ()
    balances = (pair.balances[0] - 20_000 * conditional - 500, pair.balances[1] + 500)
    disks.points[side].left = step
    died = died_during(lambda: exchange.update(pair.a, pair.b, pair.channel_id, balances, conditions, b"next"))

    after = disks.restart(pair)
    exchange.reconnect(after.a, after.b, pair.channel_id)
    finish_update(after, balances, conditions, b"next")

    assert after.sequence == 3
    assert after.a.channel(pair.channel_id).state == after.b.channel(pair.channel_id).state
    assert after.balances == balances
    assert died or step > 3
    for each in Side:
        channel = after.parties[each].channel(pair.channel_id)
        assert (channel.own_released, channel.peer_revoked, channel.pending) == (2, 2, None)
        assert_revoked_only_when_safe(events_of(after, each), each)
    assert after.update(balances, conditions) == 4


@pytest.mark.parametrize("place", range(len(EXCHANGE) + 1))
def test_lost_messages_are_repeated_with_identical_bytes(place: int) -> None:
    """The connection breaks after any message; after `reestablish` the update ends, and no byte was signed twice."""
    disks = Disks()
    pair = opened(disks, 2)
    balances = next_balances(pair)
    first = exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, balances), carry=lose(place))

    again: list[AnyMessage] = []

    def record(sender: ChannelParty, message: Message) -> Sequence[AnyMessage]:
        arrived = deliver(sender, message)
        again.extend(arrived)
        return arrived

    exchange.reconnect(pair.a, pair.b, pair.channel_id, carry=record)
    finish_update(pair, balances)

    assert pair.sequence == 3
    for earlier in first:
        repeated = [each for each in again if type(each) is type(earlier)]
        assert all(each == earlier for each in repeated)


STEPS_OF_AN_OPENING = 13
"""Store and send points that either side passes until state 0 is complete."""


def test_no_step_of_an_opening_is_left_out() -> None:
    """The crashes below are at every one of them."""
    disks = Disks()
    a, b = disks.start(Side.A), disks.start(Side.B)
    for point in disks.points:
        point.left = 100

    exchange.open_channel(a, b, Terms(balances=(500_000, 500_000)), lambda _spk, _sat: (b"\x11" * 32, 1))

    assert [100 - STEPS_OF_AN_OPENING] * 2 == [point.left for point in disks.points]


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("step", range(STEPS_OF_AN_OPENING))
def test_crash_during_the_opening(side: Side, step: int) -> None:
    """An opening that was cut ends with state 0 complete on both sides, or it is begun anew with fresh keys."""
    disks = Disks()
    a, b = disks.start(Side.A), disks.start(Side.B)
    terms = Terms(balances=(500_000, 500_000))
    funding = (b"\x11" * 32, 1)
    disks.points[side].left = step
    died_during(lambda: exchange.open_channel(a, b, terms, lambda _spk, _sat: funding))

    a, b = disks.start(Side.A), disks.start(Side.B)
    resume_opening(a, b, funding)
    if not a.channels() or a.channels()[0].sequence < 0:
        exchange.open_channel(a, b, terms, lambda _spk, _sat: funding)

    complete = [channel for channel in a.channels() if channel.sequence == 0]
    assert len(complete) == 1
    assert b.channel(complete[0].channel_id).sequence == 0
    indexes = [channel.channel_index for channel in b.channels()]
    assert len(indexes) == len(set(indexes))


def test_f11_crash_between_messages_2_and_3() -> None:
    """Both states are publishable for the proposer, the old one for the acceptor, and no secret was released."""
    disks = Disks()
    pair = opened(disks)
    exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, next_balances(pair)), carry=lose(3))
    disks.points[Side.B].left = 2  # message 2 is stored, then the process dies before message 3 is
    (reply,) = pair.a.reconnect(pair.channel_id)
    died = died_during(lambda: exchange.run(pair.a, pair.b, [reply]))

    after = disks.restart(pair)
    channel = after.b.channel(pair.channel_id)

    assert died
    assert channel.pending is not None
    assert channel.pending.acceptance is not None
    assert [party.channel(pair.channel_id).own_released for party in after.parties] == [-1, -1]
    with pytest.raises(SequenceGap, match="no complete state 1"):
        after.a.sign_commitment(pair.channel_id, 1)
    newer = Transaction.parse(after.b.sign_commitment(pair.channel_id, 1))
    older = [Transaction.parse(party.sign_commitment(pair.channel_id, 0)) for party in after.parties]
    assert [tx.weight for tx in (newer, *older)] == [664, 664, 664]


def test_f11_the_update_is_finished_after_the_crash() -> None:
    """Nobody closes: both restart between messages 2 and 3, reconnect, and message 3 follows with the same bytes."""
    disks = Disks()
    pair = opened(disks)
    exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, next_balances(pair)), carry=lose(3))
    disks.points[Side.B].left = 2
    died_during(lambda: exchange.reconnect(pair.a, pair.b, pair.channel_id))

    after = disks.restart(pair)
    exchange.reconnect(after.a, after.b, pair.channel_id)

    assert after.sequence == 1
    assert after.a.channel(pair.channel_id).state == after.b.channel(pair.channel_id).state


@pytest.mark.parametrize("side", list(Side))
def test_f12_final_only_after_the_towers_answer(side: Side) -> None:
    """U4: the peer's revocation alone does not make a state final; the tower's acknowledgement does."""
    disks = Disks()
    pair = opened(disks)
    acknowledge(pair.parties[side], pair.channel_id, 0)
    pair.update()

    party = disks.restart(pair).parties[side]
    assert party.channel(pair.channel_id).final_sequence == 0
    upload = party.update_body(pair.channel_id)
    assert upload == pair.parties[side].update_body(pair.channel_id)
    acknowledge(party, pair.channel_id, 1)

    assert party.channel(pair.channel_id).final_sequence == 1


@pytest.mark.parametrize("side", list(Side))
def test_f12_crash_after_the_release_of_the_own_secret(side: Side) -> None:
    """The secret may be out, the tower knows nothing: the old state is never signed again, the new one is uploaded.

    As long as the peer's own secret is missing, the upload goes without it and the state is not final.
    """
    disks = Disks()
    pair = opened(disks)
    acknowledge(pair.parties[side], pair.channel_id, 0)
    disks.points[side].left = {Side.B: 10, Side.A: 8}[side]  # all is stored, message 3 or 4 does not leave
    died = died_during(pair.update)

    party = disks.restart(pair).parties[side]
    channel = party.channel(pair.channel_id)

    assert died
    assert (channel.sequence, channel.own_released, channel.final_sequence) == (1, 0, 0)
    assert (party.update_body(pair.channel_id).revoked_secret is None) == (side is Side.B)
    with pytest.raises(SelfBreach):
        party.sign_commitment(pair.channel_id, 0)
    acknowledge(party, pair.channel_id, 1)
    assert party.channel(pair.channel_id).final_sequence == (0 if side is Side.B else 1)


def test_an_old_backup_is_frozen_at_the_first_contact() -> None:
    """The peer shows a secret that the old copy does not know it released: nothing may be published from it."""
    pair = open_pair()
    pair.update()
    backup = copy_of(pair)
    pair.updates(2)
    (message,) = pair.b.reconnect(pair.channel_id)

    with pytest.raises(ChannelNotReady, match="old copy"):
        backup.a.receive(decoded([message]))

    assert backup.a.channel(pair.channel_id).frozen is FreezeReason.DATA_LOSS
    with pytest.raises(ChannelNotReady, match="frozen"):
        backup.a.sign_commitment(pair.channel_id, 1)


def test_a_made_up_secret_freezes_nobody() -> None:
    """A peer that shows a secret which is not ours is refused; the channel goes on."""
    pair = open_pair()
    pair.update()
    (message,) = pair.b.reconnect(pair.channel_id)
    assert isinstance(message, Reestablish)
    forged = msgspec.structs.replace(message, last_peer_secret=SecretHex(b"\x05" * 32))

    with pytest.raises(InvalidSecret, match="not ours"):
        pair.a.receive(forged)

    assert pair.update() == 2


# ── openings and parsing ─────────────────────────────────────────────────────────────────────────────────


def test_an_opening_with_bad_constants_is_refused_by_the_acceptor() -> None:
    """Capacity below the threshold, another network, a balance below the reserve: nothing is stored."""
    a, b = make_party("alice"), make_party("bob")
    good = a.open(Terms(balances=(500_000, 500_000)))
    bad = [
        msgspec.structs.replace(good, capacity=9_999, balances=(9_999, 0)),
        msgspec.structs.replace(good, chain_hash=type(good.chain_hash)(bytes(32))),
        msgspec.structs.replace(good, balances=(500_000, 500_001)),
        msgspec.structs.replace(good, flags=4),
    ]

    for message in bad:
        with pytest.raises(InvalidParams):
            b.receive(message)
    assert b.channels() == ()


def test_the_funding_outpoint_is_fixed_once() -> None:
    """Neither side takes a second outpoint for a channel."""
    pair = open_pair()

    with pytest.raises(Equivocation, match="outpoint"):
        pair.a.fix_funding(pair.channel_id, b"\x22" * 32, 0)
    with pytest.raises(ChannelNotReady, match="only the opener"):
        pair.b.fix_funding(pair.channel_id, b"\x22" * 32, 0)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b'{"type":"update_yield"}',
        b'{"type":"update_offer_ok","channel_id":"00","state_hash":"00"}',
        b'{"type":"update_offer_ok","channel_id":"' + b"0" * 64 + b'","state_hash":"' + b"G" * 64 + b'"}',
        b'{"type":"update_offer_ok","channel_id":"' + b"0" * 64 + b'","state_hash":"' + b"0" * 64 + b'","x":1}',
        b'{"type":' * 5_000,
        b" " * 500_000,
    ],
)
def test_garbage_is_a_typed_refusal(raw: bytes) -> None:
    """Whatever arrives, the decoder raises `MalformedInput` and nothing else."""
    with pytest.raises(MalformedInput):
        decode_message(raw)


# ── conditions, claims, closes ───────────────────────────────────────────────────────────────────────────


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


# ── small helpers ────────────────────────────────────────────────────────────────────────────────────────


def decoded(messages: Sequence[Message]) -> AnyMessage:
    """The one message as it arrives."""
    (message,) = messages
    return decode_message(encode_message(message))


def died_during(work: Callable[[], object]) -> bool:
    """Whether the work ended in a crash."""
    try:
        work()
    except Crashed:
        return True
    return False


def finish_update(
    pair: Pair, balances: tuple[int, int], conditions: Sequence[Condition] = (), state_data: bytes = b""
) -> None:
    """Begin state 3 again with the same content, if no message of it survived."""
    if pair.sequence < 3:
        exchange.update(pair.a, pair.b, pair.channel_id, balances, conditions, state_data)


def resume_opening(a: ChannelParty, b: ChannelParty, funding: tuple[bytes, int]) -> None:
    """Go on with an opening that both sides know; one that only the acceptor knows is given up."""
    for channel in a.channels():
        if not channel.params.is_funding_known:
            exchange.run(a, b, a.fix_funding(channel.channel_id, *funding))
        else:
            exchange.reconnect(a, b, channel.channel_id)
