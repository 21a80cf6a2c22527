"""Routes: which channels a payment goes through, what every hop gets and holds, until when (protocol 3.5).

    route = plan_route([RouteChannel(mine, 144), RouteChannel(theirs, 144, terms)], 50_000, height)

The payer plans from the end: the last HTLC holds the amount of the invoice and expires last claim margin from now,
every hop before it adds the fee of its forwarder and the blocks that the forwarder needs. Each HTLC carries a note for
its receiver with the rest of the route. The notes are not onions: a forwarder reads where the payment ends.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from domain.errors import MalformedInput
from domain.expiry import CONFIRM_BLOCKS, GRACE_BLOCKS, REORG_BLOCKS, claim_margin, closing_blocks
from domain.liquidity import HTLC_DUST
from domain.units import MAX_MONEY, ceil_div
from watchtower.client.protocol.messages import NoteHex
from watchtower.wire.hexes import Hex32, from_json, to_json

MAX_HOPS = 20
"""As many as Lightning allows; the notes of more would not fit."""

FINAL_BLOCKS = 18
"""Blocks that a payment may take on its way before its receiver must go on chain: three hours."""

MAX_LOCK_BLOCKS = 4032
"""Four weeks: how far away the expiry of an HTLC may be that a forwarder or a receiver still takes."""


def least_delta(period_in: int, period_out: int, *, preemptive: bool = False) -> int:
    """Blocks between the expiries of an incoming HTLC and of the outgoing one that forwards it, at least.

    In the worst case the forwarder closes the outgoing channel behind the expiry, learns the preimage in the last
    block, and then has to close the incoming one: 370 for two channels with T = 144. `preemptive` forwarders close the
    outgoing channel before its expiry instead: 202.
    """
    waiting = 0 if preemptive else closing_blocks(period_out)
    return waiting + closing_blocks(period_in) + 2 * CONFIRM_BLOCKS + 2 * GRACE_BLOCKS + 3 * REORG_BLOCKS


def least_expiry(height: int, period: int, blocks: int = FINAL_BLOCKS) -> int:
    """Lowest expiry of an HTLC that leaves its receiver `blocks` before it must go on chain; now + 184 + blocks."""
    return height + claim_margin(period) + blocks


class ForwardingPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a forwarder asks for and accepts. Satoshi, millionths of the forwarded amount, blocks.

    `expiry_delta` None means the least safe one for the two channels; a number is used as it is and must not be below.
    `preemptive` closes an outgoing channel before the expiry of its HTLC, which allows a shorter delta. `min_amount`
    keeps HTLCs out that would have no output of their own.
    """

    base_fee: int = 1
    fee_rate: int = 1_000
    expiry_delta: int | None = None
    preemptive: bool = False
    min_amount: int = 1_000
    max_amount: int = 10_000_000
    max_lock_blocks: int = MAX_LOCK_BLOCKS

    def __post_init__(self) -> None:
        if self.min_amount < HTLC_DUST:
            raise MalformedInput(f"min_amount is {self.min_amount} sat; below {HTLC_DUST} an HTLC has no output")
        if self.base_fee < 0 or self.fee_rate < 0 or self.max_amount < self.min_amount:
            raise MalformedInput("fees are not negative, and max_amount is not below min_amount")

    def fee(self, amount: int) -> int:
        """Satoshi for forwarding `amount`, rounded up."""
        return self.base_fee + ceil_div(amount * self.fee_rate, 1_000_000)

    def delta(self, period_in: int, period_out: int) -> int:
        """Blocks between the two expiries; `MalformedInput` for a configured number that is not safe."""
        least = least_delta(period_in, period_out, preemptive=self.preemptive)
        if self.expiry_delta is None:
            return least
        if self.expiry_delta < least:
            raise MalformedInput(
                f"expiry_delta is {self.expiry_delta} blocks; these two channels need at least {least}"
            )
        return self.expiry_delta


class RouteChannel(msgspec.Struct, frozen=True):
    """One channel of a route: its id, its T, and the terms of the party that forwards into it (None for the first)."""

    channel_id: bytes
    challenge_period: int
    terms: ForwardingPolicy | None = None


class Hop(msgspec.Struct, frozen=True):
    """One HTLC of a route: channel id, satoshi, expiry height."""

    channel_id: bytes
    amount: int
    expiry: int


class Route(msgspec.Struct, frozen=True):
    """The hops in order, the payer's channel first."""

    hops: tuple[Hop, ...]

    @property
    def amount(self) -> int:
        """What the payer gives, satoshi."""
        return self.hops[0].amount

    @property
    def fee(self) -> int:
        """What the forwarders keep, satoshi."""
        return self.hops[0].amount - self.hops[-1].amount

    @property
    def note(self) -> bytes | None:
        """What goes with the first HTLC; None if its receiver is the end."""
        return encode_note(self.hops[1:])


def plan_route(channels: Sequence[RouteChannel], amount: int, height: int, *, final_expiry: int | None = None) -> Route:
    """Amounts and expiries from the end to the start; the last HTLC holds `amount`.

    `final_expiry` is the height that the receiver asks for, by default `least_expiry` of the last channel. Raises
    `MalformedInput` for a route that no receiver could claim, loops, or lacks the terms of a forwarder.
    """
    _check_channels(channels, amount)
    last = channels[-1]
    least = least_expiry(height, last.challenge_period, 1)
    expiry = least_expiry(height, last.challenge_period) if final_expiry is None else final_expiry
    if expiry < least:
        raise MalformedInput(f"the last HTLC expires at height {expiry}; its receiver needs at least {least}")
    hops = [Hop(last.channel_id, amount, expiry)]
    for before, after in zip(reversed(channels[:-1]), reversed(channels[1:]), strict=True):
        if after.terms is None:
            raise MalformedInput(f"the terms of the forwarder into channel {after.channel_id.hex()[:16]} are missing")
        amount += after.terms.fee(amount)
        expiry += after.terms.delta(before.challenge_period, after.challenge_period)
        hops.append(Hop(before.channel_id, amount, expiry))
    if amount > MAX_MONEY:
        raise MalformedInput(f"the route costs {amount} sat, more than there is")
    return Route(tuple(reversed(hops)))


class NoteHop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The form of a hop in a note."""

    channel: Hex32
    amount: int
    expiry: int


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an HTLC tells its receiver: the rest of the route."""

    v: int
    hops: tuple[NoteHop, ...]


def encode_note(hops: Sequence[Hop]) -> bytes | None:
    """The note for the receiver of an HTLC behind which `hops` follow; None for the end of the route."""
    if not hops:
        return None
    raw = to_json(Note(1, tuple(NoteHop(Hex32(hop.channel_id), hop.amount, hop.expiry) for hop in hops)))
    if len(raw) > NoteHex.LIMIT:
        raise MalformedInput(f"the rest of the route takes {len(raw)} bytes, a note has at most {NoteHex.LIMIT}")
    return raw


def decode_note(raw: bytes) -> tuple[Hop, ...]:
    """The rest of a route; `MalformedInput` for anything else."""
    if len(raw) > NoteHex.LIMIT:
        raise MalformedInput(f"a note has at most {NoteHex.LIMIT} bytes, got {len(raw)}")
    note = from_json(raw, Note)
    if note.v != 1 or not 1 <= len(note.hops) <= MAX_HOPS:
        raise MalformedInput(f"a note of version 1 names 1 … {MAX_HOPS} hops")
    if any(not 1 <= hop.amount <= MAX_MONEY or hop.expiry < 1 for hop in note.hops):
        raise MalformedInput("a hop of a note has an amount or an expiry out of range")
    return tuple(Hop(bytes(hop.channel), hop.amount, hop.expiry) for hop in note.hops)


def _check_channels(channels: Sequence[RouteChannel], amount: int) -> None:
    if not 1 <= len(channels) <= MAX_HOPS:
        raise MalformedInput(f"a route has 1 … {MAX_HOPS} channels, got {len(channels)}")
    if len({channel.channel_id for channel in channels}) != len(channels):
        raise MalformedInput("a route goes through every channel at most once")
    if not 1 <= amount <= MAX_MONEY:
        raise MalformedInput(f"a payment has at least 1 sat and at most {MAX_MONEY}, got {amount}")
