"""Updates and revocations: what is accepted, what is refused and why, what is a repetition."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from domain.contract.conditions import Condition
from domain.contract.state import StatePolicy
from domain.errors import (
    ChannelClosed,
    ChannelNotReady,
    DomainError,
    Equivocation,
    InvalidSignature,
    InvalidState,
    MalformedInput,
    SequenceGap,
)
from domain.events import (
    ChannelFrozen,
    CloseSigned,
    FreezeReason,
    StateRevoked,
    StateUpdated,
)
from domain.opening import StateContent, decide_register
from domain.spending import disconnected, funding_confirmed, spend_gone
from domain.status import ChannelStatus
from domain.units import Side
from domain.updating import decide_update
from tests.support.scenes import FUNDED_AT, NOW, Scene, block

HTLC = Condition(type=0, id=1, expiry=500, amount=20_000, hash=b"\x22" * 32)


def close_by_signature(scene: Scene) -> None:
    """A cooperative-close signature was released."""
    raw = scene.coop_close()
    scene.then([CloseSigned(recorded_at=NOW, txid=raw.txid, by=Side.A, signature=bytes(64), raw=None)])


def freeze(scene: Scene) -> None:
    """The party may have lost its newest state."""
    scene.then([ChannelFrozen(recorded_at=NOW, reason=FreezeReason.RESTORED, evidence=b"")])


def test_F16_no_update_after_a_close_signature() -> None:
    """A released cooperative-close signature ends the updates (U6)."""
    scene = Scene().opened(1)
    close_by_signature(scene)

    with pytest.raises(ChannelClosed, match="U6"):
        decide_update(scene.channel, scene.update(2))


@pytest.mark.parametrize("side", list(Side))
def test_no_update_while_a_commitment_is_in_the_mempool(side: Side) -> None:
    """Any spend of the funding output ends the updates (U6)."""
    scene = Scene().opened(1)
    scene.seen(scene.commitment(side, 1))

    with pytest.raises(ChannelClosed, match="U6"):
        decide_update(scene.channel, scene.update(2))


def test_no_update_after_a_spend_was_evicted() -> None:
    """A spend that left the mempool may come back at any time: still no update (U6)."""
    scene = Scene().opened(1)
    commit = scene.commitment(Side.B, 1)
    scene.seen(commit)
    scene.then(spend_gone(scene.channel, commit.txid, None, 201, NOW))

    with pytest.raises(ChannelClosed, match="U6"):
        decide_update(scene.channel, scene.update(2))


def test_no_update_after_a_spend_was_reorganized_away() -> None:
    """A disconnected close ends the updates as well (U6)."""
    scene = Scene().opened(1)
    scene.mined(scene.commitment(Side.B, 1), block(200))
    scene.then(disconnected(scene.channel, block(200), NOW))

    with pytest.raises(ChannelClosed, match="U6"):
        decide_update(scene.channel, scene.update(2))


def test_no_update_while_frozen() -> None:
    """A frozen channel is not ready, which is another error than closed."""
    scene = Scene().opened(1)
    freeze(scene)

    assert ChannelStatus.FROZEN is scene.channel.status
    with pytest.raises(ChannelNotReady, match="frozen"):
        decide_update(scene.channel, scene.update(2))


def test_an_update_stores_the_state_and_the_revocation_of_its_predecessor() -> None:
    """One event holds both; afterwards the old state is punishable and two points are known."""
    scene = Scene().opened(0)

    events = scene.then(decide_update(scene.channel, scene.update(1)))

    assert [StateUpdated] == [type(event) for event in events]
    assert (1, 0) == (scene.channel.sequence, scene.channel.highest_revoked)
    assert (scene.points(1)[Side.B], scene.points(2)[Side.B]) == scene.channel.points
    assert (599_000, 401_000) == scene.channel.balances
    assert (600_000, 400_000) == scene.channel.initial_balances


def test_no_update_before_the_funding_is_confirmed() -> None:
    """F02: a pending channel is stored, but not used."""
    scene = Scene().opened(0)
    scene.then(disconnected(scene.channel, block(FUNDED_AT), NOW))

    assert ChannelStatus.FUNDING_BROADCAST is scene.channel.status
    with pytest.raises(ChannelNotReady, match="not confirmed"):
        decide_update(scene.channel, scene.update(1))


def test_updates_go_on_when_the_funding_is_confirmed_again() -> None:
    """F03: a funding block that returns on another branch makes the channel usable again."""
    scene = Scene().opened(0)
    scene.then(disconnected(scene.channel, block(FUNDED_AT), NOW))
    scene.then(funding_confirmed(scene.channel, block(FUNDED_AT, branch=1), NOW))

    assert 1 == len(decide_update(scene.channel, scene.update(1)))


def test_no_update_before_the_funding_is_deep_enough() -> None:
    """The wanted confirmations are counted with the block itself."""
    scene = Scene().opened(0)
    command = scene.update(1, confirmations_wanted=3, tip_height=FUNDED_AT + 1)

    with pytest.raises(ChannelNotReady, match="2 of 3"):
        decide_update(scene.channel, command)
    assert 1 == len(decide_update(scene.channel, scene.update(1, confirmations_wanted=3, tip_height=FUNDED_AT + 2)))


def test_what_is_confirmed_has_one_confirmation() -> None:
    """Between the commit of a block and the next step of the cursor the channel is ahead of the tip."""
    scene = Scene().opened(0)

    assert 1 == len(decide_update(scene.channel, scene.update(1, tip_height=FUNDED_AT - 1)))
    with pytest.raises(ChannelNotReady, match="1 of 2"):
        decide_update(scene.channel, scene.update(1, confirmations_wanted=2, tip_height=FUNDED_AT - 1))


def test_F06_a_skipped_state_number_is_refused() -> None:
    """State 3 after state 1 leaves a gap."""
    scene = Scene().opened(1)

    with pytest.raises(SequenceGap, match="state 2 comes next, got 3"):
        decide_update(scene.channel, scene.update(3))


@pytest.mark.parametrize("sequence", [2, 1])
def test_F06_an_identical_repetition_changes_nothing(sequence: int) -> None:
    """The same bytes again are accepted without an event."""
    scene = Scene().opened(2)

    assert [] == decide_update(scene.channel, scene.update(sequence))


def test_F06_a_repetition_after_the_close_is_still_accepted() -> None:
    """A client that lost our answer may ask again at any time."""
    scene = Scene().opened(2)
    scene.mined(scene.commitment(Side.B, 2), block(200))

    assert [] == decide_update(scene.channel, scene.update(2))


def test_F06_another_content_for_a_known_number_is_equivocation() -> None:
    """The first content of a number stands (U5)."""
    scene = Scene().opened(2)
    other = scene.variant(2, state_data=b"another content")

    with pytest.raises(Equivocation, match="U5"):
        decide_update(scene.channel, scene.update(2, other))


def test_F06_other_signatures_for_a_known_number_are_equivocation() -> None:
    """Other bytes are other bytes, also if the header is the same."""
    scene = Scene().opened(1)
    state = scene.state(1)
    signatures = msgspec.structs.replace(state.sigs_b, commit_peer=bytes(64))

    with pytest.raises(Equivocation, match="U5"):
        decide_update(scene.channel, scene.update(1, msgspec.structs.replace(state, sigs_b=signatures)))


@pytest.mark.parametrize("published", [None, (Side.B, 1), (Side.A, 1)])
def test_a_state_without_its_last_signature_is_refused_until_it_is_on_chain(
    published: tuple[Side, int] | None,
) -> None:
    """The owner could not close with it; it is good for nothing but the settlement of that very commitment."""
    scene = Scene().opened(1)
    if published is not None:
        scene.mined(scene.commitment(*published), block(200))

    with pytest.raises((InvalidSignature, ChannelClosed)):
        decide_update(scene.channel, scene.update_in_flight(2, scene.cut_short(2)))


@pytest.mark.parametrize("name", ["state", "settle_a", "settle_b"])
def test_no_other_signature_of_a_published_state_may_be_missing(name: str) -> None:
    """Message 1 held the other three."""
    scene = Scene().opened(1)
    scene.mined(scene.commitment(Side.B, 2), block(200))
    state = scene.cut_short(2)
    lacking = msgspec.structs.replace(state.sigs_b, **{name: bytes(64)})

    with pytest.raises(InvalidSignature, match=f"{name.replace('_a', '_A').replace('_b', '_B')} of B"):
        decide_update(scene.channel, scene.update_in_flight(2, msgspec.structs.replace(state, sigs_b=lacking)))


def test_the_own_signature_of_a_published_state_may_not_be_missing() -> None:
    """The owner gave it away itself."""
    scene = Scene().opened(1)
    scene.mined(scene.commitment(Side.B, 2), block(200))
    state = scene.state(2)
    lacking = msgspec.structs.replace(state.sigs_a, commit_peer=bytes(64))

    with pytest.raises(InvalidSignature, match="commit_peer of A"):
        decide_update(scene.channel, scene.update_in_flight(2, msgspec.structs.replace(state, sigs_a=lacking)))


def test_a_published_state_that_is_completed_afterwards_is_no_equivocation() -> None:
    """The last signature comes too late for an update (U6), and accuses nobody."""
    scene = Scene().opened(1)
    scene.mined(scene.commitment(Side.B, 2), block(200))
    scene.then(decide_update(scene.channel, scene.update_in_flight(2, scene.cut_short(2))))

    assert [] == decide_update(scene.channel, scene.update_in_flight(2, scene.cut_short(2)))
    with pytest.raises(ChannelClosed, match="before it was complete"):
        decide_update(scene.channel, scene.update_in_flight(2))


def test_F15_a_second_header_for_a_number_in_flight_is_equivocation() -> None:
    """After an abandoned exchange the number cannot be given another content."""
    scene = Scene().opened(1)
    scene.then(decide_update(scene.channel, scene.update_in_flight(2)))
    other = scene.variant(2, balances=(500_000, 500_000))

    with pytest.raises(Equivocation, match="U5"):
        decide_update(scene.channel, scene.update(2, other))


def test_a_state_that_was_replaced_long_ago_is_not_taken_again() -> None:
    """Contents of older states are not compared: their numbers are used up."""
    scene = Scene().opened(3)

    with pytest.raises(Equivocation, match="replaced by 3"):
        decide_update(scene.channel, scene.update(1))


def test_F11_a_state_in_flight_leaves_two_publishable_states() -> None:
    """Without the secret both states stay publishable, and a third one is refused."""
    scene = Scene().opened(1)
    scene.then(decide_update(scene.channel, scene.update_in_flight(2)))

    assert [1, 2] == [record.sequence for record in scene.channel.states]
    assert (2, 0) == (scene.channel.sequence, scene.channel.highest_revoked)
    with pytest.raises(SequenceGap, match="state 1 is not revoked yet"):
        decide_update(scene.channel, scene.update_in_flight(3))


def test_F12_a_repeated_upload_may_bring_the_missing_revocation() -> None:
    """The state is known, the secret is new: only the revocation is stored."""
    scene = Scene().opened(1)
    scene.then(decide_update(scene.channel, scene.update_in_flight(2)))

    events = scene.then(decide_update(scene.channel, scene.update(2)))

    assert [StateRevoked] == [type(event) for event in events]
    assert 1 == scene.channel.highest_revoked
    assert [] == decide_update(scene.channel, scene.update(2))


Variant = Callable[[Scene], StateContent]


BROKEN_STATES: dict[str, tuple[Variant, type[DomainError], str]] = {
    "sum above the capacity": (
        lambda s: s.variant(2, balances=(700_000, 402_000)),
        InvalidState,
        "1102000 sat, the capacity is 1000000",
    ),
    "sum below the capacity": (lambda s: s.variant(2, balances=(597_999, 402_000)), InvalidState, "add up to 999999"),
    "sum with conditions": (
        lambda s: s.variant(2, balances=(598_000, 402_000), conditions=[HTLC]),
        InvalidState,
        "add up to 1020000",
    ),
    "balance A below the reserve": (
        lambda s: s.variant(2, balances=(9_999, 990_001)),
        InvalidState,
        "balance A of 9999 sat is below its reserve of 10000",
    ),
    "balance B below the reserve": (
        lambda s: s.variant(2, balances=(990_001, 9_999)),
        InvalidState,
        "balance B of 9999 sat is below its reserve of 10000",
    ),
    "another predecessor": (
        lambda s: s.variant(2, prev_state_hash=b"\x01" * 32),
        InvalidState,
        "prev_state_hash",
    ),
    "another application": (lambda s: s.variant(2, app_id=b"\x05" * 32), InvalidState, "app_id"),
    "another channel": (
        lambda s: s.variant(2, params=s.params.with_funding(b"\x09" * 32, 0)),
        InvalidState,
        "another channel",
    ),
    "another fee": (
        lambda s: s.variant(2, params=msgspec.structs.replace(s.params, static_feerate=3_000)),
        InvalidState,
        "another channel",
    ),
    "more dust than allowed": (
        lambda s: s.variant(
            2,
            balances=(590_000, 404_600),
            conditions=[msgspec.structs.replace(HTLC, id=i, amount=300) for i in range(18)],
        ),
        InvalidState,
        "conditions below dust add up to 5400 sat",
    ),
    "two conditions with one name": (
        lambda s: s.variant(2, balances=(558_000, 402_000), conditions=[HTLC, HTLC]),
        InvalidState,
        "same type and id",
    ),
    "more conditions than records": (
        lambda s: _change_header(s.variant(2, balances=(578_000, 402_000), conditions=[HTLC]), n_cond=2),
        InvalidState,
        "counts 2 conditions, got 1",
    ),
    "state data of another state": (
        lambda s: msgspec.structs.replace(s.state(2), state_data=b"else"),
        InvalidState,
        "state_data_hash",
    ),
    "too much state data": (
        lambda s: s.variant(2, state_data=bytes(65_537)),
        InvalidState,
        "65537 bytes are above 65536",
    ),
    "a commitment of other keys": (
        lambda s: _change_header(s.state(2), commit_txid_b=b"\x07" * 32),
        InvalidState,
        "commit_txid_B",
    ),
    "a settlement of other amounts": (
        lambda s: _change_header(s.state(2), settle_txid_a=b"\x07" * 32),
        InvalidState,
        "settle_txid_A",
    ),
    "own point off the curve": (
        lambda s: msgspec.structs.replace(s.state(2), own_point=b"\x02" + b"\xff" * 32),
        MalformedInput,
        "own_point",
    ),
    "own point of another state": (
        lambda s: msgspec.structs.replace(s.state(2), own_point=s.points(3)[Side.A]),
        InvalidState,
        "commit_txid_A",
    ),
}


def _change_header(state: StateContent, **changes: object) -> StateContent:
    return msgspec.structs.replace(state, header=msgspec.structs.replace(state.header, **changes))


@pytest.mark.parametrize("case", BROKEN_STATES)
def test_F07_a_state_against_the_rules_is_refused(case: str) -> None:
    """Every broken rule of 5.1 is named, and nothing is stored."""
    scene = Scene().opened(1)
    make, error, text = BROKEN_STATES[case]

    with pytest.raises(error, match=text):
        decide_update(scene.channel, scene.update(2, make(scene)))


def test_F07_a_negative_balance_is_refused() -> None:
    """A header with a negative amount never reaches the sums."""
    scene = Scene().opened(1)
    state = _change_header(scene.state(2), balance_a=-1_000, balance_b=1_001_000)

    with pytest.raises(InvalidState, match="must not be negative"):
        decide_update(scene.channel, scene.update(2, state))


def test_a_party_below_its_reserve_may_stay_there_but_not_fall() -> None:
    """B starts with nothing (single funding) and may keep nothing."""
    scene = Scene()
    scene.then(decide_register(None, scene.registration(scene.variant(0, balances=(1_000_000, 0)))))
    scene.then(funding_confirmed(scene.channel, block(FUNDED_AT), NOW))

    same = scene.variant(1, balances=(1_000_000, 0), prev_state_hash=scene.channel.state_hash)

    assert 1 == len(decide_update(scene.channel, scene.update(1, same)))


def test_the_limits_of_the_installation_count() -> None:
    """A stricter policy refuses what the default allows."""
    scene = Scene().opened(1)
    state = scene.variant(2, balances=(578_000, 402_000), conditions=[HTLC])

    assert 1 == len(decide_update(scene.channel, scene.update(2, state)))
    with pytest.raises(InvalidState, match="above the limit of 0"):
        decide_update(scene.channel, scene.update(2, state, policy=StatePolicy(max_conditions=0)))


@pytest.mark.parametrize("side", ["sigs_a", "sigs_b"])
@pytest.mark.parametrize("name", ["state", "settle_a", "settle_b", "commit_peer"])
def test_F08_each_of_the_eight_signatures_is_checked(side: str, name: str) -> None:
    """A flipped bit in any signature refuses the state and names the signature."""
    scene = Scene().opened(1)
    state = scene.state(2)
    signatures = getattr(state, side)
    good = getattr(signatures, name)
    broken = msgspec.structs.replace(signatures, **{name: bytes((good[0] ^ 1,)) + good[1:]})

    with pytest.raises(InvalidSignature, match=f"(?i){name} of {side[-1]}"):
        decide_update(scene.channel, scene.update(2, msgspec.structs.replace(state, **{side: broken})))


def test_signatures_of_wrong_length_are_refused() -> None:
    """A signature that is cut off is a bad signature, not a crash."""
    scene = Scene().opened(1)
    state = scene.state(2)
    broken = msgspec.structs.replace(state.sigs_a, commit_peer=b"\x01" * 63)

    with pytest.raises(DomainError, match="commit_peer"):
        decide_update(scene.channel, scene.update(2, msgspec.structs.replace(state, sigs_a=broken)))
