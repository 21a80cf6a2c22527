"""Current `ChannelInfo` of every channel: the documented public fields and what operators and deciders ask for."""

from __future__ import annotations

from typing import Any

import msgspec

from domain.deadlines import deadline
from domain.events import SpendKind
from domain.status import COMMITMENT_KINDS
from domain.units import Side
from projections.facts import BidFacts, ChannelFacts, EndFacts, SettlementFacts, SpendFacts
from projections.tables import Row, Scalar, Table


class ChannelInfoRow(msgspec.Struct, frozen=True):
    """One channel. Hashes and ids in internal byte order, amounts in satoshi, -1 = no state yet.

    `status` is that of protocol 6.1 with ACTIVE = confirmed once; whether it is deep enough is a policy.
    `owner_key` is the auth key (x-only) of the side that is watched for. `final_sequence` is the highest state that
    nobody can go back behind (U4): its predecessor is revoked.
    """

    stream: str
    channel_id: bytes
    proposal_id: bytes
    status: str
    mode: int
    own_side: int
    capacity: int
    challenge_period: int
    static_feerate: int
    flags: int
    pubkey_a: bytes
    pubkey_b: bytes
    owner_key: bytes
    initial_balance_a: int
    initial_balance_b: int
    current_sequence: int
    final_sequence: int
    balance_a: int
    balance_b: int
    state_hash: bytes
    condition_count: int
    highest_revoked: int
    own_released: int
    funding_outpoint: bytes | None
    funding_height: int | None
    funding_hash: bytes | None
    spend_kind: int | None
    spend_txid: bytes | None
    spend_side: int | None
    spend_sequence: int | None
    spend_height: int | None
    spend_hash: bytes | None
    contest_value: int | None
    deadline: int | None
    penalty_txid: bytes | None
    penalty_bid_no: int | None
    penalty_fee: int | None
    penalty_feerate_kvb: int | None
    penalty_accepted: int | None
    penalty_height: int | None
    settle_txid: bytes | None
    settle_valid_from: int | None
    settle_height: int | None
    lost_sat: int
    open_alerts: str
    soft_final: int
    resolved: int | None
    upload_sha256: bytes
    version: int
    last_id: int
    recorded_at: int


TABLE = Table(
    "channel_info",
    ChannelInfoRow,
    indexes=(
        ("channel_id",),
        ("status", "capacity", "highest_revoked"),
        ("owner_key", "resolved"),
        ("funding_height",),
        ("funding_hash",),
    ),
)


_NO_SPEND: tuple[Scalar, ...] = (None,) * 17 + (0,)
"""The columns from `spend_kind` to `lost_sat` while the funding output is unspent."""


def rows(stream: str, facts: ChannelFacts) -> list[Row]:
    """The one row of a channel: column by column in the order of the struct, which is faster than by name.

    Numbers are plain ones: the database takes the members of enumerations ten times as slowly.
    """
    terms, spend, funding = facts.terms, facts.present_spend, facts.funding_block
    row: Row = (
        stream,
        terms.channel_id,
        terms.proposal_id,
        facts.status.value,
        int(facts.mode),
        int(facts.own_side),
        terms.capacity,
        terms.challenge_period,
        terms.static_feerate,
        terms.flags,
        terms.pubkey_a,
        terms.pubkey_b,
        terms.auth_a if facts.own_side == Side.A else terms.auth_b,
        *facts.initial_balances,
        facts.sequence,
        min(facts.sequence, facts.highest_revoked + 1),
        *facts.balances,
        facts.state_hash,
        facts.condition_count,
        facts.highest_revoked,
        facts.own_released,
        terms.outpoint if terms.is_funding_known else None,
        None if funding is None else funding.height,
        None if funding is None else funding.hash,
        *(_NO_SPEND if spend is None else _spend_columns(facts, spend)),
        ",".join([kind.name.lower() for kind in facts.alerts]) if facts.alerts else "",
        0 if facts.soft_final is None else 1,
        None if facts.resolved is None else int(facts.resolved),
        facts.upload_sha256,
        facts.version,
        facts.last_id,
        facts.recorded_at,
    )
    return [row]


def _spend_columns(facts: ChannelFacts, spend: SpendFacts) -> tuple[Any, ...]:
    """`spend_kind` to `lost_sat`."""
    block, end = spend.block, facts.end_of(spend.txid)
    period = facts.terms.challenge_period
    is_breach = spend.kind is SpendKind.BREACH
    lost = end is not None and end.revoked and not end.is_penalty
    return (
        spend.kind,
        spend.txid,
        spend.side,
        spend.sequence,
        block and block.height,
        block and block.hash,
        facts.terms.contest_value if spend.kind in COMMITMENT_KINDS else None,
        deadline(block.height, period) if is_breach and block is not None else None,
        *_penalty_columns(facts.last_bid(spend.txid), end),
        *_settle_columns(facts.settlement_of(spend.txid), end),
        end.value if end is not None and lost else 0,
    )


def _penalty_columns(bid: BidFacts | None, end: EndFacts | None) -> tuple[Any, ...]:
    """`penalty_txid` to `penalty_height`."""
    confirmed = end if end is not None and end.is_penalty else None
    return (
        confirmed.txid if confirmed is not None else bid and bid.txid,
        bid and bid.number,
        bid and bid.fee,
        bid and bid.feerate_kvb,
        bid and bid.accepted,
        confirmed and confirmed.block.height,
    )


def _settle_columns(prepared: SettlementFacts | None, end: EndFacts | None) -> tuple[Any, ...]:
    """`settle_txid` to `settle_height`."""
    confirmed = end if end is not None and not end.is_penalty else None
    return (
        confirmed.txid if confirmed is not None else prepared and prepared.txid,
        prepared and prepared.valid_from,
        confirmed and confirmed.block.height,
    )
