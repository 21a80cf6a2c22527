"""Which state may follow which: rules 1 to 5 of protocol 5.1."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from domain.contract.conditions import Condition, check_condition, cond_root
from domain.contract.header import NO_HASH, PreviousState, StateHeader, onchain_state_hash, state_data_hash
from domain.contract.params import ChannelParams
from domain.contract.settlement import MAX_VSIZE, plan_settlement
from domain.errors import InvalidState, SequenceGap
from domain.units import MAX_SEQUENCE, Side


class StatePolicy(msgspec.Struct, frozen=True):
    """Limits that an installation sets: records, satoshi of trimmed conditions, bytes of state data."""

    max_conditions: int = 200
    max_dust_exposure_sat: int = 5000
    max_state_data: int = 65_536


DEFAULT_STATE_POLICY = StatePolicy()


def check_state(
    params: ChannelParams,
    header: StateHeader,
    conditions: Sequence[Condition],
    state_data: bytes | None,
    prev: PreviousState | None,
    policy: StatePolicy = DEFAULT_STATE_POLICY,
) -> None:
    """Rules 1 to 5 of protocol 5.1; raises `SequenceGap` or `InvalidState` naming what is wrong.

    `prev` is None for state 0. `state_data` None means that only its hash is known here. The transactions that
    the header names are checked with the signatures (`state.verify_state_signatures`).
    """
    _check_place(params, header, prev)
    _check_conditions(header, conditions, policy)
    _check_state_data(header, state_data, policy)
    _check_sum(params, header, conditions)
    _check_reserve(params, header, prev)
    onchain = onchain_state_hash(header) if params.has_onchain_state else None
    plan = plan_settlement(params, header.balance_a, header.balance_b, conditions, onchain)
    if plan.vsize > MAX_VSIZE:
        raise InvalidState(f"the settlement would have {plan.vsize} vB, above {MAX_VSIZE}; use fewer conditions")
    if plan.trimmed_sat > policy.max_dust_exposure_sat:
        raise InvalidState(
            f"conditions below dust add up to {plan.trimmed_sat} sat, above the limit of "
            f"{policy.max_dust_exposure_sat} sat"
        )


def _check_place(params: ChannelParams, header: StateHeader, prev: PreviousState | None) -> None:
    expected = 0 if prev is None else prev.seq + 1
    if header.seq != expected:
        raise SequenceGap(f"state {expected} comes next, got {header.seq}")
    if header.seq > MAX_SEQUENCE:
        raise SequenceGap("the channel has used its last state number 2^48-2; close it")
    if header.channel_id != params.channel_id:
        raise InvalidState("the header belongs to another channel")
    if header.prev_state_hash != (NO_HASH if prev is None else prev.state_hash):
        raise InvalidState("prev_state_hash is not the hash of the state before")
    if prev is not None and header.app_id != prev.app_id:
        raise InvalidState("app_id differs from that of the state before; it is constant in a channel")


def _check_conditions(header: StateHeader, conditions: Sequence[Condition], policy: StatePolicy) -> None:
    if header.n_cond != len(conditions):
        raise InvalidState(f"the header counts {header.n_cond} conditions, got {len(conditions)} records")
    if len(conditions) > policy.max_conditions:
        raise InvalidState(f"{len(conditions)} conditions are above the limit of {policy.max_conditions}")
    for condition in conditions:
        check_condition(condition)
    if len({condition.key for condition in conditions}) != len(conditions):
        raise InvalidState("two conditions have the same type and id")
    if header.cond_root != cond_root(conditions):
        raise InvalidState("cond_root does not match the condition records")


def _check_state_data(header: StateHeader, state_data: bytes | None, policy: StatePolicy) -> None:
    if state_data is None:
        return
    if len(state_data) > policy.max_state_data:
        raise InvalidState(f"state data of {len(state_data)} bytes are above {policy.max_state_data}")
    if header.state_data_hash != state_data_hash(state_data):
        raise InvalidState("state_data_hash does not match the state data")


def _check_sum(params: ChannelParams, header: StateHeader, conditions: Sequence[Condition]) -> None:
    if min(header.balances) < 0:
        raise InvalidState(f"balances must not be negative, got {header.balance_a} and {header.balance_b} sat")
    total = sum(header.balances) + sum(condition.amount for condition in conditions)
    if total != params.capacity:
        pending = f"; {len(conditions)} pending hold {total - sum(header.balances)} sat" if conditions else ""
        raise InvalidState(
            f"balances and conditions add up to {total} sat, the capacity is {params.capacity} sat{pending}"
        )


def _check_reserve(params: ChannelParams, header: StateHeader, prev: PreviousState | None) -> None:
    if prev is None:
        if header.balance_a < params.reserve_sat:
            raise InvalidState(
                f"the opener must start with its reserve of {params.reserve_sat} sat, got {header.balance_a} sat"
            )
        return
    before = (prev.balance_a, prev.balance_b)
    for side in Side:
        least = min(params.reserve_sat, before[side])
        if header.balances[side] < least:
            raise InvalidState(
                f"balance {side.name} of {header.balances[side]} sat is below its reserve of {least} sat"
            )
