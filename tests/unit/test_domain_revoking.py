"""Revocations of the counterparty, late secrets, and releases of own states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from domain.channel import Channel
from domain.contract.revocation import commitment_secret
from domain.errors import (
    DomainError,
    Equivocation,
    InvalidSecret,
    MalformedInput,
    Refusal,
    SequenceGap,
)
from domain.events import (
    StateRevoked,
)
from domain.units import Side
from domain.updating import RevokeState, UpdateState, decide_revoke, decide_update
from tests.support.scenes import FUNDED_AT, NOW, Scene, block, secrets_of

UpdateChange = dict[str, Any]


BROKEN_REVOCATIONS: dict[str, tuple[Callable[[Scene], UpdateChange], type[DomainError], str]] = {
    "F09 secret of another state": (lambda s: {"revoked_secret": s.secret(Side.B, 5)}, InvalidSecret, "point"),
    "F09 own secret": (lambda s: {"revoked_secret": s.secret(Side.A, 1)}, InvalidSecret, "point"),
    "secret zero": (lambda _: {"revoked_secret": bytes(32)}, InvalidSecret, "point"),
    "secret too short": (lambda s: {"revoked_secret": s.secret(Side.B, 1)[:31]}, MalformedInput, "32 bytes, got 31"),
    "next point off the curve": (lambda _: {"next_point": b"\x02" + b"\xff" * 32}, MalformedInput, "next_point"),
    "next point too short": (lambda s: {"next_point": s.points(3)[Side.B][:32]}, MalformedInput, "next_point"),
    "secret without point": (lambda _: {"next_point": None}, MalformedInput, "belong together"),
    "point without secret": (lambda _: {"revoked_secret": None}, MalformedInput, "belong together"),
}


@pytest.mark.parametrize("case", BROKEN_REVOCATIONS)
def test_an_update_with_a_bad_revocation_is_refused(case: str) -> None:
    """The state is good, the revocation is not: nothing of it is stored."""
    scene = Scene().opened(1)
    change, error, text = BROKEN_REVOCATIONS[case]

    with pytest.raises(error, match=text):
        decide_update(scene.channel, scene.update(2, **change(scene)))


@pytest.mark.parametrize("case", ["secret without point", "point without secret"])
def test_half_a_revocation_beside_a_repeated_state_is_refused(case: str) -> None:
    """The pair is checked before anything is called a repetition."""
    scene = Scene().opened(2)
    change, error, text = BROKEN_REVOCATIONS[case]

    with pytest.raises(error, match=text):
        decide_update(scene.channel, scene.update(2, **change(scene)))


def test_F10_a_secret_outside_the_shachain_is_refused() -> None:
    """Secret 1 fits its announced point, but does not explain secret 0."""
    scene = Scene(secrets={(Side.B, 1): b"\x31" * 32}).opened(1)

    with pytest.raises(InvalidSecret, match="contradicts an earlier one"):
        decide_update(scene.channel, scene.update(2))
    assert 0 == scene.channel.highest_revoked


def test_a_revocation_alone_is_stored_once() -> None:
    """The separate call gives the same fold as the secret inside the update."""
    one_call, two_calls = Scene().opened(2), Scene().opened(1)
    two_calls.then(decide_update(two_calls.channel, two_calls.update_in_flight(2)))

    events = two_calls.then(decide_revoke(two_calls.channel, two_calls.revocation(1)))

    assert [StateRevoked] == [type(event) for event in events]
    assert [] == decide_revoke(two_calls.channel, two_calls.revocation(1))
    assert msgspec.structs.replace(one_call.channel, version=0) == msgspec.structs.replace(two_calls.channel, version=0)


def test_another_secret_for_a_revoked_state_is_refused() -> None:
    """A secret is unique: the stored one stands."""
    scene = Scene().opened(2)

    with pytest.raises(InvalidSecret, match="another secret is stored for state 0"):
        decide_revoke(scene.channel, scene.revocation(0, secret=scene.secret(Side.B, 1)))


@pytest.mark.parametrize("sequence", [0, 1, 2])
def test_another_next_point_for_a_revoked_state_is_equivocation(sequence: int) -> None:
    """A repetition is compared as a whole, also when its point was revealed meanwhile."""
    scene = Scene().opened(3)
    command = scene.revocation(sequence, next_point=scene.points(9)[Side.B])

    with pytest.raises(Equivocation, match=f"point is stored for state {sequence + 2}"):
        decide_revoke(scene.channel, command)


@pytest.mark.parametrize("sequence", [2, 3, 2**48 - 2])
def test_the_newest_state_is_not_revoked_while_the_channel_is_open(sequence: int) -> None:
    """Without a stored successor there is nothing to fall back to."""
    scene = Scene().opened(2)
    command = RevokeState(NOW, Side.B, sequence, scene.secret(Side.B, 2), scene.points(4)[Side.B])

    with pytest.raises(SequenceGap, match="no stored successor"):
        decide_revoke(scene.channel, command)


def test_revocations_come_in_order() -> None:
    """State 1 cannot be revoked before state 0."""
    scene = Scene().opened(0)
    scene.then(decide_update(scene.channel, scene.update_in_flight(1)))
    early = UpdateState(NOW, scene.state(2), scene.secret(Side.B, 1), scene.points(3)[Side.B], FUNDED_AT + 9)

    with pytest.raises(SequenceGap, match="state 0 is not revoked yet"):
        decide_update(scene.channel, early)


def test_a_revocation_of_the_counterparty_needs_its_secret() -> None:
    """A bare number is what the own side sends, not the counterparty."""
    scene = Scene().opened(1)

    with pytest.raises(MalformedInput, match="carries its secret"):
        decide_revoke(scene.channel, scene.revocation(1, secret=None))


def test_a_late_secret_of_the_published_state_is_taken() -> None:
    """B revokes state 2 and publishes it before the upload of state 3: the secret alone makes it a breach."""
    scene = Scene().opened(2)
    scene.mined(scene.commitment(Side.B, 2), block(200))

    events = scene.then(decide_revoke(scene.channel, scene.revocation(2)))

    assert [StateRevoked] == [type(event) for event in events]
    assert 2 == scene.channel.highest_revoked


def test_late_secrets_catch_up_with_a_future_state() -> None:
    """Old data: the missing secrets are taken one by one up to the published state, not further."""
    scene = Scene().opened(1)
    scene.mined(scene.commitment(Side.B, 4), block(200))

    for sequence in range(1, 5):
        scene.then(decide_revoke(scene.channel, scene.revocation(sequence)))

    assert 4 == scene.channel.highest_revoked
    with pytest.raises(SequenceGap, match="no stored successor"):
        decide_revoke(scene.channel, scene.revocation(5))


def test_a_late_secret_is_checked_like_any_other() -> None:
    """The secret of another state does not arm the tower."""
    scene = Scene().opened(2)
    scene.mined(scene.commitment(Side.B, 2), block(200))

    with pytest.raises(InvalidSecret, match="point"):
        decide_revoke(scene.channel, scene.revocation(2, secret=scene.secret(Side.B, 3)))


def test_an_own_close_opens_no_late_secrets() -> None:
    """Only the counterparty's close makes the newest state punishable."""
    scene = Scene().opened(2)
    scene.mined(scene.commitment(Side.A, 2), block(200))

    with pytest.raises(SequenceGap, match="no stored successor"):
        decide_revoke(scene.channel, scene.revocation(2))


def test_an_own_release_is_a_number() -> None:
    """The release of an own state is recorded without its secret, once."""
    scene = Scene().opened(2)
    command = RevokeState(NOW, Side.A, 1, None, scene.points(3)[Side.A])

    events = scene.then(decide_revoke(scene.channel, command))

    assert [None] == [event.secret for event in events if isinstance(event, StateRevoked)]
    assert 1 == scene.channel.own_released
    assert [] == decide_revoke(scene.channel, command)


def test_an_own_secret_is_refused() -> None:
    """The error says so without repeating the secret."""
    scene = Scene().opened(2)
    secret = commitment_secret(secrets_of(Side.A).seed, 1)

    with pytest.raises(Refusal, match="must not be uploaded") as refused:
        decide_revoke(scene.channel, RevokeState(NOW, Side.A, 1, secret, scene.points(3)[Side.A]))
    assert secret.hex() not in str(refused.value)


def test_the_newest_own_state_is_not_released() -> None:
    """Without a successor its owner could close with nothing else."""
    scene = Scene().opened(2)

    with pytest.raises(SequenceGap, match="must not be released"):
        decide_revoke(scene.channel, RevokeState(NOW, Side.A, 2, None, scene.points(4)[Side.A]))


@pytest.mark.parametrize("party", list(Side))
def test_a_next_point_off_the_curve_is_refused_from_both_sides(party: Side) -> None:
    """Points are checked before anything else is looked at."""
    scene = Scene().opened(2)
    command = RevokeState(NOW, party, 1, None, b"\x02" + b"\xff" * 32)

    with pytest.raises(MalformedInput, match="next_point"):
        decide_revoke(scene.channel, command)


def test_a_refusal_leaves_the_channel_as_it_was() -> None:
    """Deciders return or raise; the fold of the same history is unchanged."""
    scene = Scene().opened(2)
    before: Channel = scene.channel

    with pytest.raises(SequenceGap):
        decide_update(before, scene.update(4))

    assert before == scene.channel
