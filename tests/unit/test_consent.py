"""What a party agrees to by itself, and how its application agrees to more."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.contract.conditions import Condition
from domain.errors import ChannelNotReady, InvalidState
from domain.units import Side
from tests.support.parties import Pair, htlc, make_party, open_pair
from watchtower.client.party import exchange
from watchtower.client.protocol.consent import Deal, agree, never_lose

INCOMING = htlc(Side.B, 1, 10_000, 900)
OUTGOING = htlc(Side.A, 1, 10_000, 900)
SCRIPT = Condition(2, 1, 0, 10_000, b"\x02" * 32, "wpkh(...)", b"\x00\x14" + bytes(20))


def deal(
    balances: tuple[int, int],
    *,
    before: tuple[Condition, ...] = (),
    after: tuple[Condition, ...] = (),
    known: tuple[Condition, ...] = (),
    shown: tuple[Condition, ...] = (),
    height: int | None = None,
) -> Deal:
    """An offer to A, who has 500,000 of a million satoshi less what is pending."""
    pending = sum(condition.amount for condition in before)
    return Deal(
        channel_id=bytes(32),
        own=Side.A,
        sequence=7,
        state_hash=b"\x07" * 32,
        balances_before=(500_000, 500_000 - pending),
        balances=balances,
        conditions_before=before,
        conditions=after,
        state_data=b"",
        known={condition.hash for condition in known},
        shown={condition.hash for condition in shown},
        height=height,
    )


def careful_pair() -> Pair:
    """Two parties with the default consent."""
    return open_pair(parties=(make_party("alice", consent=never_lose), make_party("bob", consent=never_lose)))


@pytest.mark.parametrize(
    "offer",
    [
        deal((500_000, 500_000)),
        deal((500_001, 499_999)),
        deal((500_000, 490_000), after=(INCOMING,)),
        deal((510_000, 490_000), before=(INCOMING,), known=(INCOMING,)),
        deal((510_000, 490_000), before=(OUTGOING,)),
        deal((500_000, 500_000), before=(OUTGOING,), shown=(OUTGOING,)),
        deal((500_000, 500_000), before=(INCOMING,), height=900),
        deal((500_000, 490_000), before=(SCRIPT,), after=(SCRIPT,)),
        deal((500_000, 490_000), after=(SCRIPT,)),
    ],
    ids=[
        "nothing changes",
        "a payment arrives",
        "the peer adds an HTLC",
        "the peer pays for the preimage",
        "the peer gives an own HTLC back",
        "the peer takes an own HTLC whose preimage it showed",
        "an HTLC to this side has expired",
        "a script is kept",
        "the peer funds a script",
    ],
)
def test_states_without_a_loss_are_agreed_to(offer: Deal) -> None:
    """The default rule finds no reason against a state that gives this side all that it is due."""
    assert never_lose(offer) is None


@pytest.mark.parametrize(
    ("offer", "reason"),
    [
        (deal((499_999, 500_001)), "leaves A 499999 sat, A is due 500000 sat; the owner of A may approve"),
        (deal((490_000, 500_000), after=(OUTGOING,)), "due 500000 sat"),
        (deal((490_000, 500_000), after=(SCRIPT,)), "due 500000 sat"),
        (deal((500_000, 500_000), before=(INCOMING,), known=(INCOMING,)), "due 510000 sat"),
        (deal((500_000, 500_000), before=(INCOMING,), known=(INCOMING,), height=901), "due 510000 sat"),
        (deal((500_000, 500_000), before=(INCOMING,)), "only A may give it up"),
        (deal((500_000, 500_000), before=(INCOMING,), height=899), "only A may give it up"),
        (deal((500_000, 500_000), before=(OUTGOING,)), "due 510000 sat"),
        (deal((500_000, 500_000), before=(OUTGOING,), known=(OUTGOING,)), "due 510000 sat"),
        (deal((510_000, 490_000), before=(SCRIPT,)), "needs the approval of A"),
        (
            deal((500_000, 490_000), before=(OUTGOING,), after=(msgspec.structs.replace(OUTGOING, expiry=901),)),
            "due 510000 sat",
        ),
        (
            deal((500_000, 490_000), before=(INCOMING,), after=(msgspec.structs.replace(INCOMING, expiry=800),)),
            "only A may give it up",
        ),
    ],
    ids=[
        "one satoshi less",
        "an own HTLC that nobody asked for",
        "a script at this side's cost",
        "the preimage is known and nothing is paid",
        "also after the expiry",
        "an HTLC to this side vanishes",
        "one block before its expiry",
        "the peer takes an own HTLC without the preimage",
        "the preimage that only this side knows is no payment",
        "a script vanishes",
        "an own HTLC is locked for longer",
        "an HTLC to this side expires earlier",
    ],
)
def test_states_with_a_loss_are_refused(offer: Deal, reason: str) -> None:
    """The default rule names what is missing."""
    objection = never_lose(offer)

    assert objection is not None
    assert reason in objection
    assert agree(offer) is None


AMOUNTS = st.integers(min_value=1, max_value=50_000)
FLAGS = st.booleans()


@given(
    outgoing=st.lists(st.tuples(AMOUNTS, FLAGS, FLAGS), max_size=5),
    incoming=st.lists(st.tuples(AMOUNTS, FLAGS, FLAGS), max_size=5),
    own_after=st.integers(min_value=0, max_value=1_000_000),
    height=st.none() | st.integers(min_value=0, max_value=2_000),
)
def test_never_lose_never_loses(
    outgoing: list[tuple[int, bool, bool]],
    incoming: list[tuple[int, bool, bool]],
    own_after: int,
    height: int | None,
) -> None:
    """Whatever is agreed to, this side could get no more by publishing the state before and waiting."""
    mine = [htlc(Side.A, number, amount, 900) for number, (amount, _, _) in enumerate(outgoing)]
    theirs = [htlc(Side.B, 100 + number, amount, 900) for number, (amount, _, _) in enumerate(incoming)]
    kept = [c for c, (_, keep, _) in zip(mine + theirs, outgoing + incoming, strict=True) if keep]
    shown = [c for c, (_, _, is_shown) in zip(mine, outgoing, strict=True) if is_shown]
    known = shown + [c for c, (_, _, is_known) in zip(theirs, incoming, strict=True) if is_known]
    offer = msgspec.structs.replace(
        deal((own_after, 0), before=(*mine, *theirs), after=tuple(kept), known=tuple(known), shown=tuple(shown)),
        height=height,
    )

    certain = 500_000 + sum(c.amount for c in mine if c not in shown) + sum(c.amount for c in theirs if c in known)
    still = sum(c.amount for c in kept if c in mine and c not in shown)
    still += sum(c.amount for c in kept if c in theirs and c in known)
    open_for_others = [c for c in theirs if c not in known and c not in kept and (height is None or height < 900)]

    refused = never_lose(offer) is not None
    assert refused or (own_after + still >= certain and not open_for_others)


# ── in the exchange ──────────────────────────────────────────────────────────────────────────────────────


def test_an_offer_that_costs_the_peer_is_refused_before_any_signature() -> None:
    """By default nobody signs away an own balance: the offerer gets the reason, nothing is stored."""
    pair = careful_pair()

    with pytest.raises(ChannelNotReady, match="leaves A 400000 sat, A is due 500000 sat"):
        exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, (400_000, 600_000)))

    assert pair.a.channel(pair.channel_id).pending is None
    assert pair.a.channel(pair.channel_id).sequence == 0


def test_a_payment_out_of_turn_needs_no_consent() -> None:
    """The payer proposes itself: the peer, who wins, hands over its turn."""
    pair = careful_pair()

    exchange.run(pair.a, pair.b, pair.a.offer(pair.channel_id, (400_000, 600_000)))

    assert pair.balances == (400_000, 600_000)
    assert pair.sequence == 1


def test_an_approved_content_is_agreed_to_and_no_other() -> None:
    """An approval names one content; the same loss in another form is refused."""
    pair = careful_pair()
    approved = pair.a.approve(pair.channel_id, (400_000, 600_000), state_data=b"agreed")

    with pytest.raises(ChannelNotReady, match="is due"):
        exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, (400_000, 600_000), state_data=b"other"))
    exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, (400_000, 600_000), state_data=b"agreed"))

    assert pair.state(1).content.state_hash == approved


def test_an_approval_does_not_lift_the_rules_of_the_protocol() -> None:
    """A content that no protocol rule allows cannot be approved into being."""
    pair = careful_pair()
    with pytest.raises(InvalidState, match="negative"):
        pair.a.approve(pair.channel_id, (1_000_001, -1))

    pair.a.approve(pair.channel_id, (9_999, 990_001))
    with pytest.raises(InvalidState, match="reserve"):
        pair.b.offer(pair.channel_id, (9_999, 990_001))


def test_a_rule_of_the_application_goes_to_the_peer_in_its_own_words() -> None:
    """Any function of a deal can be the consent of a party."""
    seen: list[Deal] = []

    def moody(offer: Deal) -> str | None:
        seen.append(offer)
        return "not on a Sunday"

    pair = open_pair(parties=(make_party("alice", consent=moody), make_party("bob")))
    with pytest.raises(ChannelNotReady, match="not on a Sunday"):
        exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, (510_000, 490_000), state_data=b"move"))

    assert [(each.sequence, each.balances, each.state_data) for each in seen] == [(1, (510_000, 490_000), b"move")]
