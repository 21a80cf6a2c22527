"""Bodies about liquidity and costs, the same structs in the service and in the SDK. Amounts in satoshi, sizes in vB."""

from __future__ import annotations

from typing import Literal

import msgspec

from watchtower.wire.hexes import Hex32

SideLetter = Literal["A", "B"]
WayName = Literal["cooperative_key_path", "cooperative", "unilateral", "penalty"]
PathName = Literal["success", "timeout"]


class SideLiquidityBody(msgspec.Struct, frozen=True, kw_only=True):
    """One side. It must keep `reserve`; `htlc_*` is the largest HTLC that could be added to the newest state."""

    balance: int
    reserve: int
    spendable: int
    receivable: int
    htlc_spendable: int
    htlc_receivable: int
    pending_out: int
    pending_in: int


class PendingBody(msgspec.Struct, frozen=True, kw_only=True):
    """A condition of the newest state. `offerer` is null for a descriptor; a trimmed one has no output on chain."""

    type: int
    id: int
    offerer: SideLetter | None
    amount: int
    expiry: int
    trimmed: bool


class ClosingCostBody(msgspec.Struct, frozen=True, kw_only=True):
    """One way to close. `fee` is what nobody gets; `nets` is what A and B have afterwards, without pending conditions.

    `extra` is what `by` pays on top from its own wallet for fee children, if the static fee is below `feerate`.
    """

    way: WayName
    by: SideLetter
    vsize: int
    fee: int
    extra: int
    nets: tuple[int, int]


class ClaimCostBody(msgspec.Struct, frozen=True, kw_only=True):
    """What taking one HTLC output costs. `worth_it`: the tower pays this fee, half of the amount less dust at most."""

    type: int
    id: int
    path: PathName
    by: SideLetter
    amount: int
    vsize: int
    fee: int
    worth_it: bool


class StaticFeerateBody(msgspec.Struct, frozen=True, kw_only=True):
    """What the channel's static feerate buys now. Feerates in sat per 1000 vB.

    `relays` means that commitments enter mempools without a fee child; `blocks` is the shortest wait of which it is
    enough, null if of none that the node estimates. `recommended` is for new channels.
    """

    feerate: int
    relays: bool
    needed: int
    blocks: int | None
    recommended: int


class LiquidityBody(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/channels/{id}/liquidity`. `usable` means that updates are accepted; otherwise nothing can be spent.

    `overhead` is what A pays when one side closes alone. Costs are counted with `feerate` (sat/vB): that of
    the node's market, or the static one if `static` is null because the node was not asked or did not answer.
    """

    channel_id: Hex32
    sequence: int
    usable: bool
    capacity: int
    overhead: int
    a: SideLiquidityBody = msgspec.field(name="A")
    b: SideLiquidityBody = msgspec.field(name="B")
    pending: tuple[PendingBody, ...]
    dust_exposure: int
    max_dust_exposure: int
    max_conditions: int
    feerate: float
    closing: tuple[ClosingCostBody, ...]
    claims: tuple[ClaimCostBody, ...]
    static: StaticFeerateBody | None = None


class SideTotalBody(msgspec.Struct, frozen=True, kw_only=True):
    """Sums of one side over all channels."""

    balance: int
    spendable: int
    receivable: int
    pending_out: int
    pending_in: int


class TotalLiquidityBody(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/liquidity`: sums over the channels that are not over. `own` is the side that the tower protects."""

    channels: int
    usable: int
    capacity: int
    own: SideTotalBody
    counterparty: SideTotalBody
    dust_exposure: int
