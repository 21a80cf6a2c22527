"""HTLCs of a party off chain: add, fulfil, fail, expire, several at once, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

import pytest

from domain.contract.state import StatePolicy
from domain.errors import (
    ChannelNotReady,
    DomainError,
    InvalidSecret,
    InvalidState,
    MalformedInput,
)
from domain.events import PreimageLearned, Source
from domain.units import Side
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.store import MemoryEventStore
from tests.support.parties import Pair, make_party, open_pair, preimage_of
from watchtower.client.party import exchange
from watchtower.client.party.exchange import deliver
from watchtower.client.party.party import Change, ChannelParty, NewHtlc, PartySettings
from watchtower.client.protocol.consent import never_lose
from watchtower.client.protocol.messages import AnyMessage, HtlcFulfil, HtlcNote, Message, UpdateOffer, UpdateOfferOk
from watchtower.client.protocol.news import HtlcAdded, HtlcNews, HtlcRemoved, PreimageShown
from watchtower.wire.hexes import SecretHex

SECRET = preimage_of(1)
HASH = sha256(SECRET).digest()
EXPIRY = 1_000
KEY = (0, 0)
"""The first HTLC that A offers."""


class Ears:
    """What the two parties heard."""

    def __init__(self) -> None:
        self.a: list[HtlcNews] = []
        self.b: list[HtlcNews] = []

    def pair(self) -> Pair:
        """Two careful parties whose news come here."""
        return open_pair(
            parties=(
                make_party("alice", consent=never_lose, listener=self.a.append),
                make_party("bob", consent=never_lose, listener=self.b.append),
            )
        )


def with_htlc(pair: Pair, amount: int = 20_000, note: bytes | None = None) -> Pair:
    """A offers B one HTLC."""
    exchange.change(pair.a, pair.b, pair.channel_id, Change(add=(NewHtlc(amount, HASH, EXPIRY, note),)))
    return pair


def careful_pair() -> Pair:
    """Two parties with the default consent and one HTLC from A to B."""
    return with_htlc(Ears().pair())


def learned(party: ChannelParty, channel_id: bytes) -> list[PreimageLearned]:
    """Preimages in a party's log."""
    events = party._store.read_stream(party.channel(channel_id).stream)
    return [event.payload for event in events if isinstance(event.payload, PreimageLearned)]


# ── the life of an HTLC ──────────────────────────────────────────────────────────────────────────────────


def test_an_htlc_is_added_and_fulfilled() -> None:
    """The amount leaves A with the offer and reaches B with the preimage; both keep the preimage."""
    pair = careful_pair()
    added = pair.balances
    (found,) = pair.b.find_htlcs(pair.channel_id, HASH)

    seen = exchange.run(pair.b, pair.a, pair.b.fulfil_htlc(pair.channel_id, found.key, SECRET))

    assert added == (480_000, 500_000)
    assert found.key == KEY
    assert isinstance(seen[0], HtlcFulfil)
    assert pair.balances == (480_000, 520_000)
    assert pair.a.channel(pair.channel_id).conditions == ()
    assert [each.source for each in learned(pair.b, pair.channel_id)] == [Source.CLIENT]
    assert [each.source for each in learned(pair.a, pair.channel_id)] == [Source.UPLOAD]
    assert pair.a.preimage(HASH) == pair.b.preimage(HASH) == SECRET


def test_an_htlc_is_failed() -> None:
    """The receiver gives it back; nobody learns a preimage."""
    pair = careful_pair()

    exchange.run(pair.b, pair.a, pair.b.fail_htlc(pair.channel_id, KEY, "no such invoice"))

    assert pair.balances == (500_000, 500_000)
    assert pair.a.preimage(HASH) is None


def test_an_htlc_expires_if_the_receiver_sees_the_same_height() -> None:
    """Before the expiry the offerer may not ask, and the receiver does not agree; after it both do."""
    pair = careful_pair()
    with pytest.raises(ChannelNotReady, match="note_height"):
        pair.a.expire_htlc(pair.channel_id, KEY)
    pair.a.note_height(EXPIRY - 1)
    with pytest.raises(InvalidState, match="expires at height 1000, now is 999"):
        pair.a.expire_htlc(pair.channel_id, KEY)

    pair.a.note_height(EXPIRY)
    with pytest.raises(ChannelNotReady, match="has not expired"):
        exchange.run(pair.a, pair.b, pair.a.expire_htlc(pair.channel_id, KEY))
    pair.b.note_height(EXPIRY)
    exchange.run(pair.a, pair.b, pair.a.expire_htlc(pair.channel_id, KEY))

    assert pair.balances == (500_000, 500_000)


def test_several_changes_make_one_state() -> None:
    """One update fulfils, fails, adds and pays; the state number rises by one."""
    pair = Ears().pair()
    secrets = [preimage_of(number) for number in range(3)]
    adds = tuple(NewHtlc(10_000, sha256(secret).digest(), EXPIRY + number) for number, secret in enumerate(secrets))
    exchange.change(pair.a, pair.b, pair.channel_id, Change(add=adds))

    wanted = Change(
        pay=5_000,
        fulfil=(((0, 0), secrets[0]), ((0, 2), secrets[2])),
        fail=(((0, 1), "too small"),),
        add=(NewHtlc(7_000, b"\x07" * 32, EXPIRY), NewHtlc(8_000, b"\x08" * 32, EXPIRY)),
        state_data=b"all at once",
    )
    sequence = exchange.change(pair.b, pair.a, pair.channel_id, wanted)

    assert sequence == 2
    assert pair.balances == (470_000 + 10_000 + 5_000, 500_000 + 20_000 - 5_000 - 15_000)
    assert [(c.key, c.amount) for c in pair.a.channel(pair.channel_id).conditions] == [
        ((1, 0), 7_000),
        ((1, 1), 8_000),
    ]
    assert pair.state(2).content.state_data == b"all at once"


def test_a_change_keeps_the_data_of_the_application() -> None:
    """A payment without `state_data` leaves the application's bytes as they are."""
    pair = Ears().pair()
    exchange.change(pair.a, pair.b, pair.channel_id, Change(state_data=b"board"))

    exchange.change(pair.a, pair.b, pair.channel_id, Change(pay=1_000))

    assert pair.state(2).content.state_data == b"board"
    assert pair.balances == (499_000, 501_000)


def test_ids_of_htlcs_in_the_newest_state_are_not_used_again_in_the_next() -> None:
    """An HTLC that replaces another one in the same update gets a new id, so that both stay two."""
    pair = careful_pair()
    pair.a.note_height(EXPIRY)
    pair.b.note_height(EXPIRY)

    again = Change(expire=(KEY,), add=(NewHtlc(20_000, b"\x09" * 32, 5_000),))
    exchange.change(pair.a, pair.b, pair.channel_id, again)

    assert [c.key for c in pair.a.channel(pair.channel_id).conditions] == [(0, 1)]


# ── what applications hear ───────────────────────────────────────────────────────────────────────────────


def test_the_receiver_hears_of_an_htlc_with_its_note() -> None:
    """Note and HTLC arrive together, after the state before was revoked; the sender hears of it, too."""
    ears = Ears()
    pair = with_htlc(ears.pair(), note=b"next hop: carol")
    (condition,) = pair.b.channel(pair.channel_id).conditions

    assert ears.b == [HtlcAdded(pair.channel_id, condition, b"next hop: carol")]
    assert ears.a == [HtlcAdded(pair.channel_id, condition, None)]


def test_the_sender_hears_the_preimage_at_once_and_the_end_later() -> None:
    """The preimage is news before the update is done: it may be used for the hop before."""
    ears = Ears()
    pair = with_htlc(ears.pair())
    (condition,) = pair.a.channel(pair.channel_id).conditions
    ears.a.clear()
    first, *rest = pair.b.fulfil_htlc(pair.channel_id, KEY, SECRET)

    exchange.run(pair.b, pair.a, [first])
    early = list(ears.a)
    exchange.run(pair.b, pair.a, rest)

    assert early == [PreimageShown(pair.channel_id, HASH, SECRET)]
    assert ears.a[1:] == [HtlcRemoved(pair.channel_id, condition, True, None)]
    assert SECRET.hex() not in repr(early)


@pytest.mark.parametrize("proposer", list(Side))
def test_the_sender_hears_why_an_htlc_failed(proposer: Side) -> None:
    """The reason arrives with the removal, whoever proposes the state without the HTLC."""
    ears = Ears()
    pair = with_htlc(ears.pair())
    (condition,) = pair.a.channel(pair.channel_id).conditions
    exchange.change(pair.parties[proposer], pair.parties[proposer.other], pair.channel_id, Change(state_data=b"x"))
    ears.a.clear()

    exchange.run(pair.b, pair.a, pair.b.fail_htlc(pair.channel_id, KEY, "temporary shortage"))

    assert ears.a == [HtlcRemoved(pair.channel_id, condition, False, "temporary shortage")]
    assert ears.b[-1] == HtlcRemoved(pair.channel_id, condition, False, None)


def test_the_reason_of_a_failure_is_there_as_soon_as_the_htlc_is_gone() -> None:
    """Who looks at the channel before the listener was told finds it as well, once."""
    seen: list[str | None] = []

    def look(_news: HtlcNews) -> None:
        seen.append(pair.a.take_failure(condition.hash))

    pair = with_htlc(Ears().pair())
    (condition,) = pair.a.channel(pair.channel_id).conditions
    exchange.change(pair.a, pair.b, pair.channel_id, Change(state_data=b"x"))
    pair.a.listener = look

    exchange.run(pair.b, pair.a, pair.b.fail_htlc(pair.channel_id, KEY, "temporary shortage"))

    assert ["temporary shortage"] == seen
    assert pair.a.take_failure(condition.hash) is None


def test_notes_are_limited() -> None:
    """A note has at most 4,096 bytes; on the wire, too."""
    pair = Ears().pair()

    with pytest.raises(MalformedInput, match="at most 4096 bytes"):
        pair.a.add_htlc(pair.channel_id, 10_000, HASH, EXPIRY, b"\x00" * 4_097)
    note, offer = pair.a.add_htlc(pair.channel_id, 10_000, HASH, EXPIRY, b"\x00" * 4_096)

    assert isinstance(note, HtlcNote)
    assert isinstance(offer, UpdateOffer)
    assert deliver(pair.a, note) == (note,)


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("attempt", "error", "complaint"),
    [
        (lambda p: p.b.fulfil_htlc(p.channel_id, KEY, preimage_of(2)), InvalidSecret, "does not fit HTLC 0/0"),
        (lambda p: p.b.fulfil_htlc(p.channel_id, KEY, SECRET[:31]), InvalidSecret, "has 32 bytes, got 31"),
        (lambda p: p.b.fulfil_htlc(p.channel_id, KEY, SECRET + b"\x00"), InvalidSecret, "has 32 bytes, got 33"),
        (lambda p: p.b.fulfil_htlc(p.channel_id, (0, 5), SECRET), InvalidState, "no HTLC 0/5"),
        (lambda p: p.a.fulfil_htlc(p.channel_id, KEY, SECRET), InvalidState, "was offered by A"),
        (lambda p: p.a.fail_htlc(p.channel_id, KEY, "no"), InvalidState, "was offered by A"),
        (lambda p: p.b.expire_htlc(p.channel_id, KEY), InvalidState, "was offered by A"),
        (lambda p: p.b.fail_htlc(p.channel_id, KEY, "x" * 401), MalformedInput, "at most 400"),
        (lambda p: p.a.add_htlc(p.channel_id, 10_000, HASH[:31], EXPIRY), MalformedInput, "32 bytes, got 31"),
        (lambda p: p.a.add_htlc(p.channel_id, 0, HASH, EXPIRY), InvalidState, "at least 1 sat"),
        (lambda p: p.a.add_htlc(p.channel_id, 10_000, HASH, 0), InvalidState, "expires at a height"),
        (lambda p: p.a.add_htlc(p.channel_id, 10_000, HASH, 500_000_000), InvalidState, "expires at a height"),
        (
            lambda p: p.a.add_htlc(p.channel_id, 480_001, HASH, EXPIRY),
            InvalidState,
            "480001 sat is more than the 480000 sat that A has",
        ),
        (lambda p: p.a.add_htlc(p.channel_id, 475_000, HASH, EXPIRY), InvalidState, "reserve"),
        (lambda p: p.a.propose_close(p.channel_id, (500_000, 500_000), 500), InvalidState, "conditions are pending"),
    ],
)
def test_what_is_against_a_rule_is_refused_and_nothing_is_stored(
    attempt: Callable[[Pair], object], error: type[DomainError], complaint: str
) -> None:
    """Wrong preimages, wrong side, wrong amounts and heights: a typed error, no event, no message."""
    pair = careful_pair()
    versions = [party.channel(pair.channel_id).version for party in pair.parties]

    with pytest.raises(error, match=complaint):
        attempt(pair)

    assert [party.channel(pair.channel_id).version for party in pair.parties] == versions


def test_a_known_preimage_is_not_thrown_away() -> None:
    """An HTLC whose preimage is known is fulfilled, not failed."""
    pair = careful_pair()
    pair.b.learn_preimage(pair.channel_id, SECRET)

    with pytest.raises(InvalidState, match="fulfil it"):
        pair.b.fail_htlc(pair.channel_id, KEY, "no")


def test_a_preimage_is_not_shown_too_late() -> None:
    """From E - 184 on the receiver claims on chain: the peer could keep the preimage and wait for the expiry."""
    pair = careful_pair()
    pair.b.note_height(EXPIRY - 183)

    with pytest.raises(InvalidState, match="by height 816, now is 817; claim it on chain"):
        pair.b.fulfil_htlc(pair.channel_id, KEY, SECRET)
    pair.b.note_height(EXPIRY - 184)
    exchange.run(pair.b, pair.a, pair.b.fulfil_htlc(pair.channel_id, KEY, SECRET))

    assert pair.balances == (480_000, 520_000)


def test_an_htlc_that_nobody_could_claim_is_not_offered() -> None:
    """The receiver needs 184 blocks and one to claim on chain."""
    pair = Ears().pair()
    pair.a.note_height(EXPIRY - 184)

    with pytest.raises(InvalidState, match="must be above 1000"):
        pair.a.add_htlc(pair.channel_id, 10_000, HASH, EXPIRY)
    assert len(pair.a.add_htlc(pair.channel_id, 10_000, HASH, EXPIRY + 1)) == 1


def test_limits_of_conditions_and_of_dust_hold_for_offers_and_answers() -> None:
    """Neither more conditions than the policy allows nor more dust than the exposure limit."""
    strict = PartySettings(network="regtest", state_policy=StatePolicy(max_conditions=2, max_dust_exposure_sat=300))
    pair = open_pair(parties=(make_party("alice"), make_party("bob", settings=strict)))
    three = tuple(NewHtlc(1_000, bytes([number]) * 32, EXPIRY) for number in range(3))
    dust = tuple(NewHtlc(160, bytes([number]) * 32, EXPIRY) for number in range(2))

    for adds, complaint in ((three, "above the limit of 2"), (dust, "add up to 320 sat")):
        with pytest.raises(InvalidState, match=complaint):
            pair.b.change(pair.channel_id, Change(add=adds))
        with pytest.raises(ChannelNotReady, match=complaint):
            exchange.change(pair.a, pair.b, pair.channel_id, Change(add=adds))
    assert pair.sequence == 0


def test_the_offerer_does_not_pay_without_the_preimage() -> None:
    """An offer that takes the HTLC without showing the preimage is refused."""
    pair = careful_pair()

    with pytest.raises(ChannelNotReady, match="is due 500000 sat"):
        exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, (480_000, 520_000)))


def test_a_wrong_preimage_of_the_peer_changes_nothing() -> None:
    """A preimage that fits no own HTLC is refused and not stored."""
    pair = careful_pair()
    show, _ = pair.b.fulfil_htlc(pair.channel_id, KEY, SECRET)
    assert isinstance(show, HtlcFulfil)
    bad = HtlcFulfil(channel_id=show.channel_id, condition_type=0, id=0, preimage=SecretHex(b"\x01" * 32))
    missing = HtlcFulfil(channel_id=show.channel_id, condition_type=1, id=0, preimage=show.preimage)

    with pytest.raises(InvalidSecret, match="does not fit"):
        pair.a.receive(bad)
    with pytest.raises(InvalidState, match="no HTLC 1/0"):
        pair.a.receive(missing)

    assert learned(pair.a, pair.channel_id) == []


def test_a_preimage_that_only_the_payer_knows_pays_nothing() -> None:
    """In a swap the payer knows the preimage first; the peer cannot take the HTLC before it was shown."""
    pair = careful_pair()
    pair.a.learn_preimage(pair.channel_id, SECRET)

    with pytest.raises(ChannelNotReady, match="is due 500000 sat"):
        exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, (480_000, 520_000)))


def test_a_preimage_of_one_channel_serves_the_other() -> None:
    """An intermediary that learned the preimage downstream is due the HTLC upstream."""
    middle = make_party("middle", consent=never_lose)
    upstream = open_pair(names=("alice", "middle"), parties=(make_party("alice"), middle))
    downstream = open_pair(names=("middle", "carol"), parties=(middle, make_party("carol")))
    for pair in (upstream, downstream):
        with_htlc(pair)

    exchange.run(downstream.b, middle, downstream.b.fulfil_htlc(downstream.channel_id, KEY, SECRET))

    with pytest.raises(ChannelNotReady, match="is due 520000 sat"):
        exchange.run(upstream.a, middle, upstream.a.offer(upstream.channel_id, (500_000, 500_000)))
    exchange.run(middle, upstream.a, middle.fulfil_htlc(upstream.channel_id, KEY, SECRET))
    assert upstream.balances == (480_000, 520_000)


def test_a_public_preimage_counts_as_shown() -> None:
    """What stands in the mempool the peer knows as well."""
    pair = careful_pair()
    pair.a.learn_preimage(pair.channel_id, SECRET, Source.MEMPOOL)

    exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, (480_000, 520_000)))

    assert pair.balances == (480_000, 520_000)
    with pytest.raises(InvalidSecret, match="32 bytes"):
        pair.a.learn_preimage(pair.channel_id, b"short")


# ── restarts ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_preimage_is_shown_again_after_a_restart() -> None:
    """B dies after its offer was stored and before anything left; the offer comes again with its preimage."""
    store, keystore = MemoryEventStore(), MemoryKeystore()
    a, b = make_party("alice", consent=never_lose), make_party("bob", store=store, keystore=keystore)
    pair = with_htlc(open_pair(parties=(a, b)))
    b.fulfil_htlc(pair.channel_id, KEY, SECRET)

    again = make_party("bob", store=store, keystore=keystore)
    exchange.reconnect(a, again, pair.channel_id)

    assert again.preimage(HASH) == SECRET
    assert again.channel(pair.channel_id).balances == a.channel(pair.channel_id).balances == (480_000, 520_000)


def test_the_same_call_again_gives_the_same_messages() -> None:
    """Repeating a fulfilment before it was answered stores nothing new."""
    pair = careful_pair()

    first = pair.b.fulfil_htlc(pair.channel_id, KEY, SECRET)
    stored = pair.b.channel(pair.channel_id).version

    assert pair.b.fulfil_htlc(pair.channel_id, KEY, SECRET) == first
    assert pair.b.channel(pair.channel_id).version == stored


def test_what_must_go_on_chain_is_told_per_channel() -> None:
    """The receiver with the preimage at E - 184, the offerer at E + 2."""
    pair = careful_pair()
    (condition,) = pair.a.channel(pair.channel_id).conditions
    pair.b.learn_preimage(pair.channel_id, SECRET)

    assert pair.b.must_go_on_chain(pair.channel_id, EXPIRY - 185) == ()
    assert pair.b.must_go_on_chain(pair.channel_id, EXPIRY - 184) == (condition,)
    assert pair.a.must_go_on_chain(pair.channel_id, EXPIRY + 1) == ()
    assert pair.a.must_go_on_chain(pair.channel_id, EXPIRY + 2) == (condition,)


def test_a_crossing_update_does_not_lose_a_fulfilment() -> None:
    """B fulfils while A's offer is under way; A's goes first, then B's is offered again and paid."""
    pair = careful_pair()
    crossing: list[Message] = pair.a.change(pair.channel_id, Change(pay=1_000))
    fulfilment = pair.b.fulfil_htlc(pair.channel_id, KEY, SECRET)

    answers: list[AnyMessage] = []

    def record(sender: ChannelParty, message: Message) -> Sequence[AnyMessage]:
        answers.extend(deliver(sender, message))
        return deliver(sender, message)

    with pytest.raises(ChannelNotReady, match="goes first"):
        exchange.run(pair.b, pair.a, fulfilment)
    exchange.run(pair.a, pair.b, crossing, record)
    exchange.run(pair.b, pair.a, pair.b.fulfil_htlc(pair.channel_id, KEY, SECRET))

    assert any(isinstance(each, UpdateOfferOk) for each in answers)
    assert pair.balances == (479_000, 521_000)
