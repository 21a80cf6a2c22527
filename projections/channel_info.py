"""Current `ChannelInfo` of every channel: the documented public fields and what operators and deciders ask for."""

from __future__ import annotations

from typing import Any

import msgspec

from domain.deadlines import deadline
from domain.events import SpendKind
from domain.status import COMMITMENT_KINDS
from domain.units import Side
from projections.facts import BidFacts, ChannelFacts, EndFacts, SpendFacts
from projections.tables import Row, Table, as_row


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


TABLE = Table("channel_info", ChannelInfoRow, indexes=(("channel_id",), ("proposal_id",), ("status",), ("owner_key",)))


def rows(stream: str, facts: ChannelFacts) -> list[Row]:
    """The one row of a channel."""
    terms, spend = facts.terms, facts.present_spend
    end = facts.end_of(spend.txid) if spend is not None else None
    funding = facts.funding_block
    info = ChannelInfoRow(
        stream=stream,
        channel_id=terms.channel_id,
        proposal_id=terms.proposal_id,
        status=facts.status.value,
        mode=facts.mode,
        own_side=facts.own_side,
        capacity=terms.capacity,
        challenge_period=terms.challenge_period,
        static_feerate=terms.static_feerate,
        flags=terms.flags,
        pubkey_a=terms.pubkey_a,
        pubkey_b=terms.pubkey_b,
        owner_key=terms.auth_a if facts.own_side == Side.A else terms.auth_b,
        initial_balance_a=facts.initial_balances[0],
        initial_balance_b=facts.initial_balances[1],
        current_sequence=facts.sequence,
        final_sequence=min(facts.sequence, facts.highest_revoked + 1),
        balance_a=facts.balances[0],
        balance_b=facts.balances[1],
        state_hash=facts.state_hash,
        condition_count=facts.condition_count,
        highest_revoked=facts.highest_revoked,
        own_released=facts.own_released,
        funding_outpoint=terms.outpoint if terms.is_funding_known else None,
        funding_height=None if funding is None else funding.height,
        funding_hash=None if funding is None else funding.hash,
        **_spend_columns(facts, spend),
        **_penalty_columns(facts.last_bid(spend.txid) if spend is not None else None, end),
        **_settle_columns(facts, spend, end),
        lost_sat=end.value if end is not None and end.revoked and not end.is_penalty else 0,
        open_alerts=",".join(kind.name.lower() for kind in facts.alerts),
        soft_final=facts.soft_final is not None,
        resolved=facts.resolved,
        upload_sha256=facts.upload_sha256,
        version=facts.version,
        last_id=facts.last_id,
        recorded_at=facts.recorded_at,
    )
    return [as_row(info)]


def _spend_columns(facts: ChannelFacts, spend: SpendFacts | None) -> dict[str, Any]:
    block = spend.block if spend is not None else None
    is_breach = spend is not None and spend.kind is SpendKind.BREACH
    return {
        "spend_kind": spend and spend.kind,
        "spend_txid": spend and spend.txid,
        "spend_side": spend and spend.side,
        "spend_sequence": spend and spend.sequence,
        "spend_height": block and block.height,
        "spend_hash": block and block.hash,
        "contest_value": facts.terms.contest_value if spend is not None and spend.kind in COMMITMENT_KINDS else None,
        "deadline": deadline(block.height, facts.terms.challenge_period) if is_breach and block is not None else None,
    }


def _penalty_columns(bid: BidFacts | None, end: EndFacts | None) -> dict[str, Any]:
    confirmed = end if end is not None and end.is_penalty else None
    return {
        "penalty_txid": confirmed.txid if confirmed is not None else bid and bid.txid,
        "penalty_bid_no": bid and bid.number,
        "penalty_fee": bid and bid.fee,
        "penalty_feerate_kvb": bid and bid.feerate_kvb,
        "penalty_accepted": bid and bid.accepted,
        "penalty_height": confirmed and confirmed.block.height,
    }


def _settle_columns(facts: ChannelFacts, spend: SpendFacts | None, end: EndFacts | None) -> dict[str, Any]:
    prepared = facts.settlement_of(spend.txid) if spend is not None else None
    confirmed = end if end is not None and not end.is_penalty else None
    return {
        "settle_txid": confirmed.txid if confirmed is not None else prepared and prepared.txid,
        "settle_valid_from": prepared and prepared.valid_from,
        "settle_height": confirmed and confirmed.block.height,
    }
