"""The classifier: rules 1 to 6 of protocol 7.2 in their order, and what must never accuse anybody."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.chain import make_outpoint
from domain.classifier import Verdict, classify, encoded_number, possible_spends, revoked_txid
from domain.contract.closing import build_cooperative_close
from domain.contract.commitment import build_commitment, obscure
from domain.contract.scripts import ANCHOR
from domain.events import SpendKind
from domain.transaction import Transaction, TxIn, TxOut
from domain.units import MAX_SEQUENCE, Side
from domain.updating import RevokeState, decide_revoke, decide_update
from tests.support.scenes import NOW, Scene, block, payout

SCENES = {own: Scene(own).opened(5) for own in Side}
"""Five updates, all revoked: the counterparty's states 0 … 4 are punishable, 5 is the newest."""

IN_FLIGHT = Scene().opened(4)
IN_FLIGHT.then(decide_update(IN_FLIGHT.channel, IN_FLIGHT.update_in_flight(5)))
"""State 5 is complete, the revocation of state 4 has not arrived: between messages 2 and 4."""


def spend_of(scene: Scene, number: int, *outputs: TxOut, version: int = 3) -> Transaction:
    """A spend of the funding output that encodes a state number."""
    sequence, lock_time = obscure(scene.params, number)
    return Transaction(version, (TxIn(scene.funding, sequence),), outputs or (TxOut(1_000, payout(Side.A)),), lock_time)


# ── rule 1 ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("own", list(Side))
def test_rule_1_a_cooperative_close(own: Side) -> None:
    """Version 2 and nothing but payouts."""
    scene = SCENES[own]

    assert Verdict(SpendKind.COOP) == scene.verdict(scene.coop_close())


@pytest.mark.parametrize("number", [0, 3, 4, 5, 6, 1_000])
def test_B14_a_cooperative_close_that_decodes_to_a_known_number(number: int) -> None:
    """The number alone accuses nobody: rule 1 comes first."""
    scene = SCENES[Side.A]
    tx = spend_of(scene, number, *scene.coop_close().outputs, version=2)

    assert number == encoded_number(scene.params, tx)
    assert Verdict(SpendKind.COOP) == scene.verdict(tx)


def test_a_cooperative_close_to_one_side_only() -> None:
    """A balance below dust has no output."""
    scene = SCENES[Side.A]
    tx = build_cooperative_close(scene.params, (1_000_000, 0), Side.A, 300)

    assert Verdict(SpendKind.COOP) == scene.verdict(tx)


def test_version_2_to_a_stranger_is_unknown() -> None:
    """One foreign output and it is no agreed close."""
    scene = SCENES[Side.A]
    tx = spend_of(scene, 3, *scene.coop_close().outputs, TxOut(330, b"\x51\x20" + bytes(32)), version=2)

    assert Verdict(SpendKind.UNKNOWN_SPEND) == scene.verdict(tx)


def test_version_3_to_the_payouts_is_no_cooperative_close() -> None:
    """The template asks for version 2."""
    scene = SCENES[Side.A]
    tx = spend_of(scene, 3, *scene.coop_close().outputs)

    assert Verdict(SpendKind.UNKNOWN_SPEND) == scene.verdict(tx)


# ── rule 2 ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("own", list(Side))
def test_rule_2_the_newest_own_commitment(own: Side) -> None:
    """Our own close of the newest state."""
    scene = SCENES[own]

    assert Verdict(SpendKind.OWN_CLOSE, own, 5) == scene.verdict(scene.commitment(own, 5))


@pytest.mark.parametrize("own", list(Side))
@pytest.mark.parametrize("sequence", [0, 4])
def test_B15_an_own_old_commitment_is_a_self_breach(own: Side, sequence: int) -> None:
    """The counterparty's release of n means that ours went as well."""
    scene = SCENES[own]

    assert Verdict(SpendKind.SELF_BREACH, own, sequence) == scene.verdict(scene.commitment(own, sequence))


def test_B15_an_own_release_alone_makes_a_self_breach() -> None:
    """Our secret went out first (message 3); the counterparty's has not arrived."""
    scene = Scene().opened(4)
    scene.then(decide_update(scene.channel, scene.update_in_flight(5)))
    scene.then(decide_revoke(scene.channel, RevokeState(NOW, Side.A, 4, None, scene.points(6)[Side.A])))

    assert SpendKind.SELF_BREACH is scene.verdict(scene.commitment(Side.A, 4)).kind
    assert SpendKind.OWN_CLOSE is scene.verdict(scene.commitment(Side.A, 5)).kind


@pytest.mark.parametrize("sequence", [4, 5])
def test_B12_both_own_states_in_flight_are_honest(sequence: int) -> None:
    """Nothing was released: we may publish either."""
    assert Verdict(SpendKind.OWN_CLOSE, Side.A, sequence) == IN_FLIGHT.verdict(IN_FLIGHT.commitment(Side.A, sequence))


def test_rule_2_needs_the_same_txid() -> None:
    """An own commitment that the log does not know is not ours to judge."""
    scene = SCENES[Side.A]

    assert Verdict(SpendKind.UNKNOWN_SPEND) == classify(scene.channel, scene.commitment(Side.A, 3), None)


# ── rule 3 ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("own", list(Side))
@pytest.mark.parametrize("sequence", range(5))
def test_rule_3_B10_a_revoked_commitment_is_a_breach(own: Side, sequence: int) -> None:
    """Every revoked state of the counterparty, state 0 included."""
    scene = SCENES[own]

    assert Verdict(SpendKind.BREACH, own.other, sequence) == scene.verdict(scene.commitment(own.other, sequence))


def test_rule_3_does_not_look_at_the_witness() -> None:
    """The txid decides; a witness can be changed on the way."""
    scene = SCENES[Side.A]
    bare = scene.commitment(Side.B, 3).with_witness(0, ())

    assert SpendKind.BREACH is scene.verdict(bare).kind


@pytest.mark.parametrize("number", [0, 4])
def test_B14_a_revoked_number_with_another_txid_is_no_breach(number: int) -> None:
    """A stranger that encodes a revoked number is unknown, not a breach."""
    scene = SCENES[Side.A]

    assert Verdict(SpendKind.UNKNOWN_SPEND) == scene.verdict(scene.stranger(number))


def test_a_revoked_commitment_of_another_contest_key_is_no_breach() -> None:
    """The template fits and the number is revoked, but no key of ours could punish it."""
    scene = SCENES[Side.A]
    tx = build_commitment(scene.params, Side.B, 3, scene.points(99)[Side.B])

    assert Verdict(SpendKind.UNKNOWN_SPEND) == scene.verdict(tx)


def test_revoked_txids_are_recomputed_from_the_shachain() -> None:
    """All revoked commitments, and none that is not."""
    scene = SCENES[Side.A]
    expected = [scene.commitment(Side.B, n).txid for n in range(5)]

    assert expected == [revoked_txid(scene.channel, n) for n in range(5)]
    assert revoked_txid(scene.channel, 5) is None


# ── rules 4, 5, 6 ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("own", list(Side))
def test_rule_4_B11_the_newest_unrevoked_commitment_is_honest(own: Side) -> None:
    """n = highest revoked + 1: no breach."""
    scene = SCENES[own]

    assert Verdict(SpendKind.PEER_CLOSE, own.other, 5) == scene.verdict(scene.commitment(own.other, 5))


@pytest.mark.parametrize("sequence", [4, 5])
def test_rule_4_B12_both_states_in_flight_are_honest(sequence: int) -> None:
    """Between messages 2 and 4 the counterparty may publish n or n + 1."""
    verdict = IN_FLIGHT.verdict(IN_FLIGHT.commitment(Side.B, sequence))

    assert Verdict(SpendKind.PEER_CLOSE, Side.B, sequence) == verdict


def test_rule_4_knows_the_state_behind_the_newest() -> None:
    """n + 1 whose upload was lost: its point was announced, so it is recognized."""
    scene = SCENES[Side.A]

    assert Verdict(SpendKind.PEER_CLOSE, Side.B, 6) == scene.verdict(scene.commitment(Side.B, 6))


@pytest.mark.parametrize("sequence", [7, 8, 4_000])
def test_rule_5_B13_a_state_ahead_of_our_data_is_a_future_state(sequence: int) -> None:
    """More than two ahead: alert only, and nobody is named."""
    scene = SCENES[Side.A]
    tx = build_commitment(scene.params, Side.B, sequence, scene.points(sequence)[Side.B])

    assert Verdict(SpendKind.FUTURE_STATE, None, sequence) == scene.verdict(tx)


def test_rule_5_at_the_highest_number() -> None:
    """F13: number 2^48-2 is a state, 2^48-1 is none."""
    scene = SCENES[Side.A]
    last = build_commitment(scene.params, Side.B, MAX_SEQUENCE, scene.points(9)[Side.B])
    beyond = msgspec.structs.replace(last, lock_time=last.lock_time ^ 1)

    assert Verdict(SpendKind.FUTURE_STATE, None, MAX_SEQUENCE) == scene.verdict(last)
    assert MAX_SEQUENCE + 1 == encoded_number(scene.params, beyond)
    assert Verdict(SpendKind.UNKNOWN_SPEND) == scene.verdict(beyond)


@pytest.mark.parametrize("number", [5, 6, 7, 4_000])
def test_rule_6_everything_else_is_unknown(number: int) -> None:
    """The number fits, the outputs do not."""
    scene = SCENES[Side.A]

    assert Verdict(SpendKind.UNKNOWN_SPEND) == scene.verdict(
        spend_of(scene, number, TxOut(777, payout(Side.A)), ANCHOR)
    )


@pytest.mark.parametrize("sequence", [5, 6])
def test_a_number_whose_point_is_known_with_another_key_is_unknown(sequence: int) -> None:
    """The template fits, but these commitments can be recomputed: no future state."""
    scene = SCENES[Side.A]
    tx = build_commitment(scene.params, Side.B, sequence, scene.points(99)[Side.B])

    assert Verdict(SpendKind.UNKNOWN_SPEND) == scene.verdict(tx)


def test_a_late_secret_turns_an_honest_close_into_a_breach() -> None:
    """The same transaction, classified before and after its secret arrived."""
    scene = Scene().opened(4)
    commit = scene.commitment(Side.B, 4)
    scene.mined(commit, block(200))
    before = scene.verdict(commit)

    scene.then(decide_revoke(scene.channel, scene.revocation(4)))

    assert (SpendKind.PEER_CLOSE, SpendKind.BREACH) == (before.kind, scene.verdict(commit).kind)


# ── garbage ──────────────────────────────────────────────────────────────────────────────────────────────

OUTPUTS = st.lists(
    st.builds(
        TxOut,
        st.sampled_from([0, 240, 330, 777, SCENES[Side.A].params.contest_value]),
        st.sampled_from([payout(Side.A), payout(Side.B), ANCHOR.spk, b"\x51\x20" + bytes(32), b"\x6a"]),
    ),
    min_size=1,
    max_size=4,
)


@given(
    version=st.sampled_from([1, 2, 3, 0xFFFFFFFF]),
    sequence=st.integers(0, 2**32 - 1),
    lock_time=st.integers(0, 2**32 - 1),
    outputs=OUTPUTS,
    extra=st.integers(0, 2),
    own_txid=st.none() | st.binary(min_size=32, max_size=32),
)
def test_random_spends_accuse_nobody(
    version: int, sequence: int, lock_time: int, outputs: list[TxOut], extra: int, own_txid: bytes | None
) -> None:
    """Whatever spends the funding output: without a recomputed txid it is at most a close or a future state."""
    scene = SCENES[Side.A]
    inputs = [TxIn(scene.funding, sequence), *(TxIn(make_outpoint(b"\x42" * 32, i), sequence) for i in range(extra))]
    tx = Transaction(version, tuple(inputs), tuple(outputs), lock_time)

    verdict = classify(scene.channel, tx, own_txid)

    assert verdict.kind in (SpendKind.COOP, SpendKind.FUTURE_STATE, SpendKind.UNKNOWN_SPEND)


@given(number=st.integers(0, MAX_SEQUENCE + 1), outputs=OUTPUTS)
def test_random_outputs_under_any_number_accuse_nobody(number: int, outputs: list[TxOut]) -> None:
    """The same with well-formed numbers, which random fields rarely hit."""
    scene = SCENES[Side.A]
    hidden = number ^ scene.params.mask48
    coin = TxIn(scene.funding, 0x80000000 | hidden >> 24)
    tx = Transaction(3, (coin,), tuple(outputs), 0x20000000 | hidden & 0xFFFFFF)

    assert scene.verdict(tx).kind in (SpendKind.FUTURE_STATE, SpendKind.UNKNOWN_SPEND)


@pytest.mark.parametrize("own", list(Side))
def test_every_commitment_that_may_appear_can_be_computed(own: Side) -> None:
    """Our newest, the counterparty's publishable ones, then its revoked ones, newest first."""
    scene = SCENES[own]
    txids = [tx.txid for tx in possible_spends(scene.channel)]

    assert scene.commitment(own, 5).txid == txids[0]
    assert [scene.commitment(own.other, number).txid for number in (5, 4, 3, 2, 1, 0)] == [
        txid for txid in txids if txid in {scene.commitment(own.other, number).txid for number in range(6)}
    ]
