"""How much each side of a channel can pay and be paid in the next state (rules of protocol 5.1 and 3.4).

A, the opener, pays for the settlement: every conditional output and B's own output cost A some satoshi. So what a side
can spend depends on more than its balance. All functions are exact: the amount that they name gives a valid state, one
satoshi more is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from domain.contract.conditions import Condition, ConditionType, is_trimmed
from domain.contract.params import ChannelParams
from domain.contract.scripts import dust_limit
from domain.contract.settlement import MAX_VSIZE, overhead, plan_settlement
from domain.contract.state_rules import DEFAULT_STATE_POLICY, StatePolicy
from domain.units import MAX_MONEY, Side

_HTLC_SPK_SIZE = 34
"""A P2TR or P2WSH output, whatever the profile."""

HTLC_DUST = dust_limit(bytes(_HTLC_SPK_SIZE))
"""Below it an HTLC has no output of its own: 330 sat."""


class Holdings(msgspec.Struct, frozen=True):
    """The newest complete state of a channel: balances of A and B in satoshi, and the conditions beside them."""

    params: ChannelParams
    balances: tuple[int, int]
    conditions: tuple[Condition, ...] = ()
    policy: StatePolicy = DEFAULT_STATE_POLICY


class PendingOutput(msgspec.Struct, frozen=True):
    """A condition of the newest state. `offerer` is None for a descriptor; a trimmed one has no output on chain."""

    type: int
    id: int
    offerer: Side | None
    amount: int
    expiry: int
    is_trimmed: bool


class SideLiquidity(msgspec.Struct, frozen=True):
    """One side, in satoshi. `reserve` is what it must keep; the HTLC figures are for one HTLC added to the state."""

    balance: int
    reserve: int
    spendable: int
    receivable: int
    htlc_spendable: int
    htlc_receivable: int
    pending_out: int
    pending_in: int


class Liquidity(msgspec.Struct, frozen=True):
    """The whole channel, in satoshi. `overhead` is what A pays if the channel is closed by one side alone."""

    capacity: int
    overhead: int
    a: SideLiquidity
    b: SideLiquidity
    pending: tuple[PendingOutput, ...]
    dust_exposure: int
    max_dust_exposure: int
    max_conditions: int

    def of(self, side: Side) -> SideLiquidity:
        """The figures of one side."""
        return self.a if side is Side.A else self.b


def liquidity(holdings: Holdings) -> Liquidity:
    """All figures of a channel."""
    pending = tuple(_pending(holdings.params, condition) for condition in holdings.conditions)
    moved = {side: spendable(holdings, side) for side in Side}
    added = {side: htlc_spendable(holdings, side) for side in Side}
    a, b = (_side(holdings, side, moved, added, pending) for side in Side)
    return Liquidity(
        capacity=holdings.params.capacity,
        overhead=_overhead(holdings, holdings.balances[Side.B], holdings.conditions)[0],
        a=a,
        b=b,
        pending=pending,
        dust_exposure=dust_exposure(holdings),
        max_dust_exposure=holdings.policy.max_dust_exposure_sat,
        max_conditions=holdings.policy.max_conditions,
    )


def without_updates(figures: Liquidity) -> Liquidity:
    """The same channel while updates are refused: nothing can be spent or received."""
    nothing = {"spendable": 0, "receivable": 0, "htlc_spendable": 0, "htlc_receivable": 0}
    a, b = (msgspec.structs.replace(side, **nothing) for side in (figures.a, figures.b))
    return msgspec.structs.replace(figures, a=a, b=b)


def spendable(holdings: Holdings, payer: Side) -> int:
    """The most that `payer` can give to the other side's balance in the next state."""
    balance_b, dust_b = holdings.balances[Side.B], dust_limit(holdings.params.keys_b.payout)
    limit = holdings.balances[payer] - kept(holdings, payer)
    if payer is Side.B:
        # A receives and B's output can only fall away: A's overhead is covered as it is now.
        return limit

    def room(amount: int) -> int:
        cost, size = _overhead(holdings, balance_b + amount, holdings.conditions)
        return holdings.balances[Side.A] - amount - cost if size <= MAX_VSIZE else -1

    return _largest(0, limit, (dust_b - balance_b,), room)


def htlc_spendable(holdings: Holdings, offerer: Side) -> int:
    """The most that one HTLC added by `offerer` can hold in the next state; 0 if none can be added."""
    if len(holdings.conditions) >= holdings.policy.max_conditions:
        return 0
    balance_a, balance_b = holdings.balances
    dust_b = dust_limit(holdings.params.keys_b.payout)
    exposed = dust_exposure(holdings)

    def room(amount: int) -> int:
        left_b = balance_b - (amount if offerer is Side.B else 0)
        cost, size = _overhead(holdings, left_b, (*holdings.conditions, _added(holdings, offerer, amount)))
        left = balance_a - cost - (amount if offerer is Side.A else 0)
        if size > MAX_VSIZE or left < 0:
            return -1
        more = left if offerer is Side.A else MAX_MONEY
        return more if amount >= HTLC_DUST else min(more, holdings.policy.max_dust_exposure_sat - exposed - amount)

    # B's own output is dropped when its balance falls below dust, and that changes what A pays.
    dropped = (balance_b - dust_b + 1,) if offerer is Side.B else ()
    return _largest(1, holdings.balances[offerer] - kept(holdings, offerer), (HTLC_DUST, *dropped), room)


def kept(holdings: Holdings, side: Side) -> int:
    """What a side must keep: its reserve, or all it has if that is less."""
    return min(holdings.params.reserve_sat, holdings.balances[side])


def dust_exposure(holdings: Holdings) -> int:
    """Sum of the conditions without an output, in satoshi: they become fee if the channel is closed now."""
    return sum(c.amount for c in holdings.conditions if is_trimmed(holdings.params, c))


def _largest(start: int, limit: int, borders: Iterable[int], room: Callable[[int], int]) -> int:
    """The largest allowed amount in start … limit, 0 if there is none.

    Between two borders the settlement has the same outputs. `room(first)` says how much more than the first amount of
    such a stretch is possible there, negative if not even that one.
    """
    end = limit
    for first in sorted({start, *(border for border in borders if start < border <= limit)}, reverse=True):
        more = room(first) if first <= limit else -1
        if more >= 0:
            return min(end, first + more)
        end = first - 1
    return 0


def _overhead(holdings: Holdings, balance_b: int, conditions: Sequence[Condition]) -> tuple[int, int]:
    """(what A pays, size of the settlement in vB) with this balance of B; A's own balance plays no role."""
    note = bytes(32) if holdings.params.has_onchain_state else None
    plan = plan_settlement(holdings.params, MAX_MONEY, balance_b, conditions, note)
    return overhead(holdings.params, plan.fee), plan.vsize


def _added(holdings: Holdings, offerer: Side, amount: int) -> Condition:
    """A stand-in for an HTLC that is not there yet; its output has the size of any other."""
    kind = ConditionType.HTLC_A_TO_B if offerer is Side.A else ConditionType.HTLC_B_TO_A
    taken = {condition.id for condition in holdings.conditions if condition.type == kind}
    free = next(number for number in range(len(taken) + 1) if number not in taken)
    return Condition(kind, free, 1, amount, bytes(32))


def _pending(params: ChannelParams, condition: Condition) -> PendingOutput:
    return PendingOutput(
        type=int(condition.type),
        id=condition.id,
        offerer=condition.offerer if condition.is_htlc else None,
        amount=condition.amount,
        expiry=condition.expiry,
        is_trimmed=is_trimmed(params, condition),
    )


def _side(
    holdings: Holdings,
    side: Side,
    moved: dict[Side, int],
    added: dict[Side, int],
    pending: Sequence[PendingOutput],
) -> SideLiquidity:
    return SideLiquidity(
        balance=holdings.balances[side],
        reserve=kept(holdings, side),
        spendable=moved[side],
        receivable=moved[side.other],
        htlc_spendable=added[side],
        htlc_receivable=added[side.other],
        pending_out=sum(each.amount for each in pending if each.offerer is side),
        pending_in=sum(each.amount for each in pending if each.offerer is side.other),
    )
