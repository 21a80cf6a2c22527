"""What a side can spend is exact: that amount gives a valid state, one satoshi more is refused."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from domain.contract.conditions import Condition, ConditionType, cond_root
from domain.contract.header import NO_HASH, PreviousState, StateHeader, state_data_hash
from domain.contract.params import FLAG_ONCHAIN_STATE, ChannelParams
from domain.contract.state_rules import StatePolicy, check_state
from domain.errors import InvalidState
from domain.liquidity import Holdings, dust_exposure, htlc_spendable, liquidity, spendable
from domain.units import Side
from tests.contract_vectors.load import PARAMS
from tests.contract_vectors.segwit import SEGWIT
from tests.support.examples import examples

P2TR, P2WPKH, LONG = PARAMS.keys_a.payout, b"\x00\x14" + bytes(20), b"\x52\x28" + bytes(40)
amounts = st.one_of(st.integers(1, 700), st.integers(1, 60_000))


@st.composite
def channels(draw: st.DrawFn) -> ChannelParams:
    """Constants with any reserve, fee, flag, profile and payout script."""
    base = draw(st.sampled_from([PARAMS, SEGWIT]))
    payout_a, payout_b = draw(st.sampled_from([P2TR, P2WPKH])), draw(st.sampled_from([P2TR, P2WPKH, LONG]))
    return msgspec.structs.replace(
        base,
        capacity=draw(st.integers(10_000, 120_000)),
        reserve_sat=draw(st.one_of(st.integers(0, 600), st.integers(0, 5_000))),
        static_feerate=draw(st.sampled_from([1000, 2000, 7_777, 50_000])),
        flags=draw(st.sampled_from([0, FLAG_ONCHAIN_STATE])),
        keys_a=msgspec.structs.replace(base.keys_a, payout=payout_a),
        keys_b=msgspec.structs.replace(base.keys_b, payout=payout_b),
    )


@st.composite
def holdings(draw: st.DrawFn) -> Holdings:
    """A state that the rules accept, with its channel."""
    params = draw(channels())
    conditions = tuple(
        Condition(draw(st.sampled_from([0, 1])), number, 900_000, draw(amounts), bytes(32))
        for number in range(draw(st.integers(0, 4)))
    )
    rest = params.capacity - sum(condition.amount for condition in conditions)
    assume(rest > 0)
    few = draw(st.integers(0, min(rest, 3_000)))
    balance_b = draw(st.sampled_from([few, rest - few, draw(st.integers(0, rest))]))
    policy = StatePolicy(max_conditions=draw(st.sampled_from([4, 5])), max_dust_exposure_sat=draw(amounts))
    made = Holdings(params, (rest - balance_b, balance_b), conditions, policy)
    assume(is_valid(made, made.balances, made.conditions))
    return made


def header(params: ChannelParams, seq: int, balances: tuple[int, int], conditions: Sequence[Condition]) -> StateHeader:
    """A header with the right hashes; its transactions are not looked at by the rules."""
    known = {"cond_root": cond_root(conditions), "state_data_hash": state_data_hash(b""), "app_id": NO_HASH}
    txids = dict.fromkeys(("commit_txid_a", "commit_txid_b", "settle_txid_a", "settle_txid_b"), NO_HASH)
    return StateHeader(
        n_cond=len(conditions),
        channel_id=params.channel_id,
        seq=seq,
        balance_a=balances[0],
        balance_b=balances[1],
        prev_state_hash=NO_HASH,
        **known,
        **txids,
    )


def is_valid(holdings: Holdings, balances: tuple[int, int], conditions: Sequence[Condition]) -> bool:
    """What `check_state` says about this successor of the present state."""
    before = PreviousState(4, NO_HASH, *holdings.balances, NO_HASH)
    try:
        after = header(holdings.params, 5, balances, conditions)
        check_state(holdings.params, after, conditions, b"", before, holdings.policy)
    except InvalidState:
        return False
    return True


def after_payment(holdings: Holdings, payer: Side, amount: int) -> bool:
    """Whether the payer can give this amount to the other side's balance."""
    a, b = holdings.balances
    moved = (a - amount, b + amount) if payer is Side.A else (a + amount, b - amount)
    return is_valid(holdings, moved, holdings.conditions)


def after_htlc(holdings: Holdings, offerer: Side, amount: int) -> bool:
    """Whether the offerer can add an HTLC of this amount."""
    a, b = holdings.balances
    kind = ConditionType.HTLC_A_TO_B if offerer is Side.A else ConditionType.HTLC_B_TO_A
    added = (*holdings.conditions, Condition(kind, 500, 900_000, amount, bytes(32)))
    ordered = sorted(added, key=lambda condition: condition.key)
    return is_valid(holdings, (a - amount, b) if offerer is Side.A else (a, b - amount), ordered)


@given(holdings(), st.sampled_from(list(Side)))
@settings(max_examples=examples(400), deadline=None)
def test_spendable_is_exact(state: Holdings, payer: Side) -> None:
    """The named amount passes the rules, one satoshi more does not."""
    most = spendable(state, payer)
    assert (True, False) == (after_payment(state, payer, most), after_payment(state, payer, most + 1))


@given(holdings(), st.sampled_from(list(Side)))
@settings(max_examples=examples(400), deadline=None)
def test_htlc_spendable_is_exact(state: Holdings, offerer: Side) -> None:
    """The largest HTLC passes the rules (or none does, not even 1 satoshi), one satoshi more does not."""
    most = htlc_spendable(state, offerer)
    assert (most > 0, False) == (after_htlc(state, offerer, max(most, 1)), after_htlc(state, offerer, most + 1))


@given(holdings(), st.sampled_from(list(Side)), st.integers(1, 130_000))
@settings(max_examples=examples(300), deadline=None)
def test_nothing_above_is_allowed(state: Holdings, side: Side, more: int) -> None:
    """No amount above the named one passes, however far above."""
    found = after_payment(state, side, spendable(state, side) + more)
    added = after_htlc(state, side, htlc_spendable(state, side) + more)
    assert (False, False) == (found, added)


@given(holdings())
@settings(max_examples=examples(100), deadline=None)
def test_the_view_adds_up(state: Holdings) -> None:
    """Balances and pending amounts are the capacity, one side's spendable is the other's receivable."""
    view = liquidity(state)
    assert view.capacity == view.a.balance + view.b.balance + sum(each.amount for each in view.pending)
    assert (view.a.spendable, view.a.htlc_spendable) == (view.b.receivable, view.b.htlc_receivable)
    assert (view.a.pending_out, view.a.pending_in) == (view.b.pending_in, view.b.pending_out)
    assert view.dust_exposure == sum(each.amount for each in view.pending if each.is_trimmed) <= view.max_dust_exposure


EMPTY = Holdings(PARAMS, (600_000, 400_000))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (590_000, 390_000, 590_000, 390_000)),
        # B has no output yet: receiving dust costs A nothing, receiving more costs A an output of 43 vB.
        ({"balances": (1_000_000, 0)}, (990_000, 0, 990_000, 0)),
        # A below its reserve keeps all it has.
        ({"balances": (9_000, 991_000)}, (0, 981_000, 0, 981_000)),
        # A cannot pay for another output: no HTLC in either direction except trimmed ones, and A cannot offer at all.
        ({"balances": (1_250, 998_750)}, (0, 988_750, 0, 329)),
        # Without a reserve B may put all it has into one HTLC: its own output falls away and pays for the new one.
        (
            {"params": msgspec.structs.replace(PARAMS, reserve_sat=0), "balances": (1_232, 998_768)},
            (0, 998_768, 0, 998_768),
        ),
        ({"policy": StatePolicy(max_conditions=0)}, (590_000, 390_000, 0, 0)),
    ],
)
def test_examples(changes: dict[str, object], expected: tuple[int, ...]) -> None:
    """Capacity 1,000,000, reserve 10,000, overhead 1,232 (1,318 with an HTLC)."""
    state = msgspec.structs.replace(EMPTY, **changes)
    found = [amount(state, side) for amount in (spendable, htlc_spendable) for side in Side]
    assert list(expected) == found


@given(st.integers(0, 5_001))
@example(4_999)
def test_dust_exposure_limits_small_htlcs(held: int) -> None:
    """With A too poor for another output, a trimmed HTLC of B is limited by what the exposure leaves."""
    parts = tuple(Condition(1, number, 900_000, 329, bytes(32)) for number in range(held // 329))
    last = (Condition(1, 99, 900_000, held % 329, bytes(32)),) if held % 329 else ()
    state = Holdings(PARAMS, (1_250, 998_750 - held), (*parts, *last))

    assert held == dust_exposure(state)
    assert max(0, min(329, 5_000 - held)) == htlc_spendable(state, Side.B)
