"""Applications and descriptor outputs in the exchange: asked before anybody signs."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import msgspec
import pytest

from domain.application import ApplicationRefused, ApplicationState
from domain.contract.conditions import Condition
from domain.errors import ChannelNotReady, DomainError, InvalidState, MalformedInput
from domain.events import StateOffered
from domain.units import Side
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.store import MemoryEventStore
from tests.support.parties import Pair, make_party, open_pair
from watchtower.client.party import exchange
from watchtower.client.party.party import Change, NewHtlc
from watchtower.client.protocol.consent import Consent, Deal
from watchtower.client.protocol.contents import descriptor_condition
from watchtower.client.protocol.messages import UpdateOffer, UpdateReject, decode_message, encode_message
from watchtower.client.protocol.news import HtlcNews

APP = b"\x0a" * 32


class Counting:
    """An application: `state_data` is a number that grows by one with each state."""

    app_id = APP

    def __init__(self) -> None:
        self.seen: list[tuple[ApplicationState | None, ApplicationState]] = []

    def validate(self, old: ApplicationState | None, new: ApplicationState) -> str | None:
        """Accept the successor only."""
        self.seen.append((old, new))
        expected = b"0" if old is None else str(int(old.state_data) + 1).encode()
        return None if new.state_data == expected else f"expected {expected.decode()}"


def app_pair(a: Counting | None, b: Counting | None, first: bytes = b"0") -> Pair:
    """A channel of the application; a side without rules takes everything."""
    ends = [make_party(name, applications=() if app is None else (app,)) for name, app in (("alice", a), ("bob", b))]
    return open_pair(parties=(ends[0], ends[1]), app_id=APP, state_data=first)


def test_the_application_sees_old_and_new_state() -> None:
    """It is asked with balances, conditions and data before both the offer and the agreement."""
    ours, theirs = Counting(), Counting()
    pair = app_pair(ours, theirs)

    pair.update((490_000, 510_000), state_data=b"1")

    assert ours.seen[0][0] is None
    old, new = ours.seen[-1]
    assert old is not None
    assert (old.sequence, old.balances, old.state_data) == (0, (500_000, 500_000), b"0")
    assert (new.sequence, new.balances, new.conditions, new.state_data) == (1, (490_000, 510_000), (), b"1")
    assert theirs.seen[-1] == (old, new)


def test_an_own_offer_against_the_rules_is_not_made() -> None:
    """The offerer's application refuses first; nothing is stored."""
    pair = app_pair(Counting(), Counting())

    with pytest.raises(ApplicationRefused, match="expected 1"):
        pair.b.offer(pair.channel_id, (500_000, 500_000), state_data=b"7")

    assert pair.b.channel(pair.channel_id).pending is None


def test_an_offer_of_the_peer_against_the_rules_is_rejected_with_the_reason() -> None:
    """A peer without rules offers nonsense: it gets the reason and no signature."""
    pair = app_pair(Counting(), None)

    with pytest.raises(ChannelNotReady, match="refuses state 1: expected 1"):
        exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, (500_000, 500_000), state_data=b"7"))

    assert pair.a.channel(pair.channel_id).pending is None
    assert pair.update((500_000, 500_000), state_data=b"1") == 1


def test_state_zero_is_asked_too() -> None:
    """The opening of a channel of the application begins with its first state."""
    with pytest.raises(ApplicationRefused, match="expected 0"):
        app_pair(Counting(), None, first=b"5")


def broken_rule(deal: Deal) -> str | None:
    """A rule that expects something else of what the peer chose."""
    return {b"known": None}[deal.state_data]


def talkative_rule(deal: Deal) -> str | None:
    """A rule that does not keep to its type."""
    return bool(deal.state_data)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [(broken_rule, "failed (KeyError)"), (talkative_rule, "answered neither None nor a text")],
)
def test_a_rule_of_consent_that_fails_does_not_agree(rule: Consent, reason: str) -> None:
    """The peer chooses what the rule reads: an error there is a refusal, and the party goes on with all its peers."""
    pair = open_pair(parties=(make_party("alice", consent=rule), make_party("bob")))

    (offer,) = pair.b.offer(pair.channel_id, (500_000, 500_000), (), b"odd")
    (answer,) = pair.a.receive(offer)

    assert isinstance(answer, UpdateReject)
    assert answer.reason == f"its rule of consent {reason}"
    assert pair.a.channel(pair.channel_id).pending is None


def test_a_listener_that_fails_holds_up_no_message() -> None:
    """What it should have heard is stored, and the peer gets its answer."""

    def broken(news: HtlcNews) -> None:
        raise RuntimeError(type(news).__name__)

    pair = open_pair(parties=(make_party("alice"), make_party("bob", listener=broken)))
    new = NewHtlc(10_000, sha256(b"preimage").digest(), 100_000)

    exchange.change(pair.a, pair.b, pair.channel_id, Change(add=(new,)))

    ends = [party.channel(pair.channel_id) for party in pair.parties]
    assert [end.sequence for end in ends] == [1, 1]
    assert [len(end.conditions) for end in ends] == [1, 1]


def test_channels_of_other_applications_are_not_asked() -> None:
    """Rules are found by app_id."""
    rules = Counting()
    pair = open_pair(parties=(make_party("alice", applications=(rules,)), make_party("bob")))

    pair.update(state_data=b"anything")

    assert rules.seen == []


# ── descriptors ──────────────────────────────────────────────────────────────────────────────────────────

TEXT = "wsh(and_v(v:pk(A),older(9)))"


def engine(descriptor: str) -> bytes:
    """A stand-in: every text has a script of its own, `insane` has none."""
    if "insane" in descriptor:
        raise InvalidState("the descriptor is not sane: it may be spent by anybody")
    return b"\x00\x20" + sha256(descriptor.encode()).digest()


def descriptor_pair() -> Pair:
    """Two parties with the stand-in."""
    return open_pair(parties=(make_party("alice", resolve=engine), make_party("bob", resolve=engine)))


def test_a_descriptor_output_is_resolved_by_both_sides() -> None:
    """Both settlements pay its script; message, event and upload carry the text."""
    pair = descriptor_pair()

    pair.update((500_000, 480_000), [descriptor_condition(4, 20_000, TEXT)])

    (condition,) = pair.b.channel(pair.channel_id).conditions
    assert (condition.descriptor, condition.spk) == (TEXT, engine(TEXT))
    for side in Side:
        outputs = [
            (each.value, each.spk)
            for each in pair.a._seat(pair.a.channel(pair.channel_id))
            .transactions(pair.state(1).content)
            .settlements[side]
            .outputs
        ]
        assert (20_000, engine(TEXT)) in outputs
    assert pair.update_request(Side.A, 1).state.conditions[0].descriptor == TEXT
    offered = [
        event.payload.descriptors
        for event in pair.a._store.read_stream(pair.a.channel(pair.channel_id).stream)
        if isinstance(event.payload, StateOffered)
    ]
    assert offered == [(), ((4, TEXT, engine(TEXT)),)]


def test_a_descriptor_survives_the_restart_without_the_engine() -> None:
    """The script is in the log: a pending update with it ends after a restart."""
    store, keystore = MemoryEventStore(), MemoryKeystore()
    bob = make_party("bob", resolve=engine, store=store, keystore=keystore)
    pair = open_pair(parties=(make_party("alice", resolve=engine), bob))
    bob.offer(pair.channel_id, (500_000, 480_000), [descriptor_condition(4, 20_000, TEXT)])

    again = make_party("bob", store=store, keystore=keystore)
    exchange.reconnect(pair.a, again, pair.channel_id)

    assert again.channel(pair.channel_id).sequence == 1
    assert again.channel(pair.channel_id).conditions == pair.a.channel(pair.channel_id).conditions


@pytest.mark.parametrize(
    ("condition", "error", "complaint"),
    [
        (descriptor_condition(1, 20_000, "insane"), InvalidState, "not sane"),
        (Condition(2, 1, 0, 20_000, b"\x01" * 32, TEXT), InvalidState, "hash is not that of the descriptor"),
        (Condition(2, 1, 0, 20_000, b"\x01" * 32), InvalidState, "descriptor is missing"),
    ],
    ids=["refused by the engine", "wrong hash", "no text"],
)
def test_a_bad_descriptor_is_refused_before_anybody_signs(
    condition: Condition, error: type[DomainError], complaint: str
) -> None:
    """The offerer is told, and nothing is stored."""
    pair = descriptor_pair()

    with pytest.raises(error, match=complaint):
        pair.b.offer(pair.channel_id, (500_000, 480_000), [condition])

    assert pair.b.channel(pair.channel_id).pending is None


def test_without_an_engine_descriptors_are_refused() -> None:
    """By default a party takes HTLCs only."""
    pair = open_pair(parties=(make_party("alice"), make_party("bob", resolve=engine)))
    offer = pair.b.offer(pair.channel_id, (500_000, 480_000), [descriptor_condition(1, 20_000, TEXT)])

    with pytest.raises(InvalidState, match="without a descriptor engine"):
        pair.a.offer(pair.channel_id, (500_000, 480_000), [descriptor_condition(1, 20_000, TEXT)])
    with pytest.raises(ChannelNotReady, match="without a descriptor engine"):
        exchange.run(pair.b, pair.a, offer)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda record: {"type": 0, "expiry": 9}, "only a condition of type 2 has a descriptor"),
        (lambda record: {"descriptor": None}, "descriptor is missing"),
        (lambda record: {"descriptor": record.descriptor + " "}, "hash is not that of the descriptor"),
    ],
)
def test_a_peer_that_tampers_with_a_descriptor_is_refused(
    change: Callable[[object], dict[str, object]], complaint: str
) -> None:
    """Type, text and hash of a record must fit; the channel stands where it stood."""
    pair = descriptor_pair()
    (offer,) = pair.b.offer(pair.channel_id, (500_000, 480_000), [descriptor_condition(1, 20_000, TEXT)])
    assert isinstance(offer, UpdateOffer)
    record = offer.conditions[0]
    forged = msgspec.structs.replace(offer, conditions=(msgspec.structs.replace(record, **change(record)),))

    refusal = refusal_of(pair, forged)

    assert complaint in refusal
    assert pair.a.channel(pair.channel_id).pending is None


def refusal_of(pair: Pair, offer: UpdateOffer) -> str:
    """How A refuses an offer: by an error or by an answer."""
    try:
        (answer,) = pair.a.receive(decode_message(encode_message(offer)))
    except MalformedInput as error:
        return str(error)
    return str(getattr(answer, "reason", ""))
