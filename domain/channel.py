"""The Channel aggregate: what one channel's events add up to.

`evolve` is total: it accepts every event that was ever written and never validates; rules live in the
deciders (`opening`, `updating`, `spending`, `punishing`, `settling`). All values are immutable.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from domain.chain import BlockRef, OutPoint, make_outpoint
from domain.contract.conditions import Condition, decode_conditions
from domain.contract.keys import public_key
from domain.contract.params import ChannelParams
from domain.contract.revocation import Buckets, derive_secret, index_of, insert_secret
from domain.contract.state import StateHeader
from domain.events import (
    AlertCleared,
    AlertKind,
    AlertRaised,
    BreachDetected,
    BroadcastOutcome,
    ChannelAbandoned,
    ChannelFrozen,
    ChannelProposed,
    ChannelRegistered,
    ChannelResolved,
    CloseSigned,
    Envelope,
    FundingBroadcast,
    FundingConfirmed,
    FundingDisconnected,
    FundingDoubleSpent,
    Payload,
    PenaltyBroadcast,
    PenaltyConfirmed,
    PenaltyDisconnected,
    PenaltyPrepared,
    PenaltyRefused,
    PenaltyReplaced,
    PreimageLearned,
    ResolvedAs,
    SettleBroadcast,
    SettleConfirmed,
    SettleDisconnected,
    SettlePrepared,
    SignatureSet,
    SoftFinal,
    SpendConfirmed,
    SpendDisconnected,
    SpendKind,
    SpendReplaced,
    SpendSeen,
    StateRevoked,
    StateUpdated,
)
from domain.units import Side

KEPT_STATES = 2
"""Two states can be publishable at a time: between messages 2 and 4 of an update (protocol 5.3, U4)."""


class ChannelStatus(StrEnum):
    """The states of protocol 6.1."""

    PROPOSED = "PROPOSED"
    FUNDING_BROADCAST = "FUNDING_BROADCAST"
    ACTIVE = "ACTIVE"
    FROZEN = "FROZEN"
    COOP_CLOSING = "COOP_CLOSING"
    UNILATERAL = "UNILATERAL"
    SETTLED = "SETTLED"
    PUNISHED = "PUNISHED"
    LOST = "LOST"
    DOUBLE_SPENT = "DOUBLE_SPENT"
    UNKNOWN_SPEND = "UNKNOWN_SPEND"
    RESOLVED = "RESOLVED"


COMMITMENT_KINDS = frozenset(
    {SpendKind.OWN_CLOSE, SpendKind.SELF_BREACH, SpendKind.BREACH, SpendKind.PEER_CLOSE, SpendKind.FUTURE_STATE}
)
"""Kinds whose first output is a contest output of this channel."""

HONEST_KINDS = frozenset({SpendKind.OWN_CLOSE, SpendKind.PEER_CLOSE})
"""Closes that the tower settles."""


class StateRecord(msgspec.Struct, frozen=True):
    """A complete state as far as a settlement needs it."""

    header: bytes
    conditions: bytes
    sigs_a: SignatureSet
    sigs_b: SignatureSet
    own_point: bytes
    descriptors: tuple[tuple[int, str, bytes], ...] = ()

    def read_header(self) -> StateHeader:
        """The decoded header."""
        return StateHeader.decode(self.header)

    def read_conditions(self) -> list[Condition]:
        """The decoded condition records, descriptor outputs with their text and script."""
        return attach_descriptors(decode_conditions(self.conditions), self.descriptors)

    @property
    def sequence(self) -> int:
        """State number (header offset 40)."""
        return int.from_bytes(self.header[40:48], "little")


class Spend(msgspec.Struct, frozen=True):
    """One known spend of the funding outpoint: in the mempool, in a block, or neither any more."""

    txid: bytes
    kind: SpendKind
    side: Side | None
    sequence: int | None
    raw: bytes | None
    in_mempool: bool
    block: BlockRef | None

    @property
    def contest(self) -> OutPoint:
        """Output 0: the contest output of a commitment."""
        return make_outpoint(self.txid, 0)

    @property
    def is_present(self) -> bool:
        """In the mempool or on the active chain, as far as we know."""
        return self.in_mempool or self.block is not None


class Bid(msgspec.Struct, frozen=True):
    """One signed penalty at one feerate. `accepted` = the node held it in its mempool."""

    commit_txid: bytes
    number: int
    txid: bytes
    raw: bytes
    fee: int
    feerate_kvb: int
    remaining: int | None = None
    accepted: bool = False
    outcome: BroadcastOutcome = BroadcastOutcome.UNKNOWN


class ContestSpend(msgspec.Struct, frozen=True):
    """A confirmed spend of a contest output: our penalty, or a settlement (`revoked` = of a stale state)."""

    commit_txid: bytes
    txid: bytes
    block: BlockRef
    is_penalty: bool
    revoked: bool
    value: int


class Settlement(msgspec.Struct, frozen=True):
    """Our intent to settle an honest close."""

    commit_txid: bytes
    txid: bytes
    raw: bytes
    fee: int
    valid_from: int
    accepted: bool = False


class Channel(msgspec.Struct, frozen=True):
    """Everything the tower knows about one channel. `highest_revoked` is the counterparty's, -1 for none.

    `points` are the counterparty's per-commitment points of the states `highest_revoked` + 1 and + 2.
    `registered_at` is the height of the tower's cursor at the registration.
    """

    stream: str
    version: int
    params: ChannelParams
    own_side: Side
    registered: bool = False
    registered_at: int = 0
    sweep_spk: bytes = b""
    client_key: bytes = b""
    upload_sha256: bytes = b""
    initial_balances: tuple[int, int] = (0, 0)
    highest_revoked: int = -1
    points: tuple[bytes, bytes] | None = None
    buckets: Buckets = ()
    own_released: int = -1
    states: tuple[StateRecord, ...] = ()
    sequence: int = -1
    state_hash: bytes = b""
    balances: tuple[int, int] = (0, 0)
    funding_tx: bytes | None = None
    funding_seen: bool = False
    funding_block: BlockRef | None = None
    double_spend: ContestSpend | None = None
    abandoned: bool = False
    close_signed: bool = False
    frozen: bool = False
    spends: tuple[Spend, ...] = ()
    bids: tuple[Bid, ...] = ()
    contest_spends: tuple[ContestSpend, ...] = ()
    settlements: tuple[Settlement, ...] = ()
    preimages: tuple[tuple[bytes, bytes], ...] = ()
    alerts: frozenset[AlertKind] = frozenset()
    soft_final: bytes | None = None
    resolved: ResolvedAs | None = None

    @property
    def counterparty(self) -> Side:
        """The side that the tower watches."""
        return self.own_side.other

    @property
    def proposal_id(self) -> bytes:
        """Names the channel before the funding outpoint is known; natural key of its stream."""
        return self.params.proposal_id

    def spend(self, txid: bytes) -> Spend | None:
        """The spend of the funding outpoint with this txid, if known."""
        return next((s for s in self.spends if s.txid == txid), None)

    @property
    def confirmed_spend(self) -> Spend | None:
        """The spend of the funding outpoint on the active chain."""
        return next((s for s in self.spends if s.block is not None), None)

    @property
    def mempool_spend(self) -> Spend | None:
        """The spend of the funding outpoint in the mempool."""
        return next((s for s in self.spends if s.in_mempool), None)

    @property
    def present_spend(self) -> Spend | None:
        """The spend that counts now: the confirmed one, else the one in the mempool."""
        return self.confirmed_spend or self.mempool_spend

    def contest_spend(self, commit_txid: bytes) -> ContestSpend | None:
        """The confirmed spend of a commitment's contest output."""
        return next((c for c in self.contest_spends if c.commit_txid == commit_txid), None)

    def bids_on(self, commit_txid: bytes) -> tuple[Bid, ...]:
        """Our bids on a commitment's contest output, oldest first."""
        return tuple(b for b in self.bids if b.commit_txid == commit_txid)

    def settlement_of(self, commit_txid: bytes) -> Settlement | None:
        """Our latest settlement of a commitment."""
        return next((s for s in reversed(self.settlements) if s.commit_txid == commit_txid), None)

    def state(self, sequence: int) -> StateRecord | None:
        """The stored content of a publishable state."""
        return next((s for s in self.states if s.sequence == sequence), None)

    def point(self, side: Side, sequence: int) -> bytes | None:
        """Per-commitment point of a state: announced, of a stored own state, or of a revealed secret."""
        if side is self.own_side:
            record = self.state(sequence)
            return record.own_point if record else None
        offset = sequence - self.highest_revoked - 1
        if offset >= 0:
            return self.points[offset] if self.points and offset < 2 else None
        secret = derive_secret(self.buckets, index_of(sequence))
        return None if secret is None else public_key(secret)

    @property
    def status(self) -> ChannelStatus:
        """Status of protocol 6.1; ACTIVE here means confirmed (the depth is the caller's policy)."""
        if self.resolved is not None:
            return ChannelStatus.RESOLVED
        if self.double_spend is not None:
            return ChannelStatus.DOUBLE_SPENT
        spend = self.present_spend
        if spend is not None:
            return _close_status(self, spend)
        if self.close_signed:
            return ChannelStatus.COOP_CLOSING
        if self.frozen:
            return ChannelStatus.FROZEN
        if self.funding_block is not None:
            return ChannelStatus.ACTIVE
        return ChannelStatus.FUNDING_BROADCAST if self.funding_seen else ChannelStatus.PROPOSED


def _close_status(channel: Channel, spend: Spend) -> ChannelStatus:
    if spend.kind is SpendKind.COOP:
        return ChannelStatus.SETTLED if spend.block else ChannelStatus.COOP_CLOSING
    if spend.kind not in COMMITMENT_KINDS:
        return ChannelStatus.UNKNOWN_SPEND
    end = channel.contest_spend(spend.txid)
    if end is None:
        return ChannelStatus.UNILATERAL
    if end.is_penalty:
        return ChannelStatus.PUNISHED
    return ChannelStatus.LOST if end.revoked else ChannelStatus.SETTLED


def attach_descriptors(
    conditions: Iterable[Condition], descriptors: tuple[tuple[int, str, bytes], ...]
) -> list[Condition]:
    """Give descriptor records (which carry only a hash) their descriptor and script, by id."""
    known = {number: (text, spk) for number, text, spk in descriptors}
    return [
        msgspec.structs.replace(c, descriptor=known[c.id][0], spk=known[c.id][1])
        if not c.is_htlc and c.id in known
        else c
        for c in conditions
    ]


def fold(channel: Channel | None, events: Iterable[Envelope]) -> Channel | None:
    """Apply events in order."""
    for event in events:
        channel = evolve(channel, event)
    return channel


def evolve(channel: Channel | None, event: Envelope) -> Channel:
    """State after one event; the first event of a channel's stream creates it."""
    payload = event.payload
    if channel is None:
        channel = _create(event.stream, payload)
    after = _apply(channel, payload)
    return msgspec.structs.replace(after, version=event.version)


def _create(stream: str, payload: Payload) -> Channel:
    match payload:
        case ChannelProposed():
            return Channel(stream, 0, ChannelParams.decode(payload.params), payload.own_side)
        case ChannelRegistered():
            return Channel(stream, 0, ChannelParams.decode(payload.params), Side(payload.watched).other)
        case _:
            raise AssertionError(f"stream {stream} does not begin with a proposal or a registration")


def _apply(channel: Channel, payload: Payload) -> Channel:
    for part in (_apply_opening, _apply_state, _apply_spend, _apply_penalty, _apply_end):
        after = part(channel, payload)
        if after is not None:
            return after
    return channel


def _apply_opening(channel: Channel, payload: Payload) -> Channel | None:
    match payload:
        case ChannelProposed():
            return msgspec.structs.replace(
                channel, initial_balances=payload.initial_balances, points=payload.counterparty_points
            )
        case ChannelRegistered():
            return msgspec.structs.replace(
                channel,
                params=ChannelParams.decode(payload.params),
                registered=True,
                registered_at=payload.tip_height,
                sweep_spk=payload.sweep_spk,
                client_key=payload.client_key,
                upload_sha256=payload.upload_sha256,
                highest_revoked=payload.highest_revoked,
                points=payload.points,
                buckets=payload.buckets,
                funding_tx=payload.funding_tx,
            )
        case FundingBroadcast():
            raw = payload.raw if payload.raw is not None else channel.funding_tx
            return msgspec.structs.replace(channel, funding_seen=True, funding_tx=raw)
        case FundingConfirmed():
            return msgspec.structs.replace(channel, funding_seen=True, funding_block=payload.block)
        case FundingDisconnected():
            void = channel.double_spend
            if void is not None and void.block == payload.block:
                return msgspec.structs.replace(channel, double_spend=None, soft_final=_without(channel, void.txid))
            return msgspec.structs.replace(channel, funding_block=None)
        case FundingDoubleSpent():
            conflict = ContestSpend(b"", payload.conflict, payload.block, is_penalty=False, revoked=False, value=0)
            return msgspec.structs.replace(channel, double_spend=conflict)
        case ChannelAbandoned():
            return msgspec.structs.replace(channel, abandoned=True)
    return None


def _without(channel: Channel, txid: bytes) -> bytes | None:
    """The soft-final transaction, unless it is the one that just left the chain."""
    return None if channel.soft_final == txid else channel.soft_final


def _apply_state(channel: Channel, payload: Payload) -> Channel | None:
    match payload:
        case StateUpdated():
            return _update(channel, payload)
        case StateRevoked():
            if payload.party is channel.own_side:
                return msgspec.structs.replace(channel, own_released=max(channel.own_released, payload.sequence))
            return _revoke(channel, payload.sequence, payload.secret, payload.next_point)
        case CloseSigned():
            return msgspec.structs.replace(channel, close_signed=True)
        case ChannelFrozen():
            return msgspec.structs.replace(channel, frozen=True)
    return None


def _update(channel: Channel, payload: StateUpdated) -> Channel:
    header = StateHeader.decode(payload.header)
    record = StateRecord(
        payload.header,
        payload.conditions,
        payload.sigs_a,
        payload.sigs_b,
        payload.own_point,
        payload.descriptors,
    )
    first = payload.sequence == 0
    updated = msgspec.structs.replace(
        channel,
        states=(*channel.states, record)[-KEPT_STATES:],
        sequence=payload.sequence,
        state_hash=header.state_hash,
        balances=(payload.balance_a, payload.balance_b),
        initial_balances=(payload.balance_a, payload.balance_b) if first else channel.initial_balances,
    )
    if payload.revoked_secret is None or payload.next_point is None:
        return updated
    return _revoke(updated, payload.sequence - 1, payload.revoked_secret, payload.next_point)


def _revoke(channel: Channel, sequence: int, secret: bytes | None, next_point: bytes) -> Channel:
    if secret is None or sequence != channel.highest_revoked + 1 or channel.points is None:
        return channel
    return msgspec.structs.replace(
        channel,
        highest_revoked=sequence,
        points=(channel.points[1], next_point),
        buckets=insert_secret(channel.buckets, secret, index_of(sequence)),
    )


def _apply_spend(channel: Channel, payload: Payload) -> Channel | None:
    match payload:
        case SpendSeen():
            seen = Spend(
                payload.txid,
                payload.kind,
                payload.side,
                payload.sequence,
                payload.raw,
                in_mempool=True,
                block=None,
            )
            return _with_spend(channel, seen)
        case SpendReplaced():
            return _change_spend(channel, payload.txid, in_mempool=False)
        case SpendConfirmed():
            known = channel.spend(payload.txid)
            raw = payload.raw if payload.raw is not None else (known.raw if known else None)
            confirmed = Spend(
                payload.txid,
                payload.kind,
                payload.side,
                payload.sequence,
                raw,
                in_mempool=False,
                block=payload.block,
            )
            return _with_spend(channel, confirmed)
        case SpendDisconnected():
            undone = _change_spend(channel, payload.txid, block=None)
            return msgspec.structs.replace(undone, soft_final=_without(channel, payload.txid))
        case BreachDetected():
            breach = {"kind": SpendKind.BREACH, "side": payload.side, "sequence": payload.sequence}
            return _change_spend(channel, payload.txid, **breach)
    return None


def _with_spend(channel: Channel, spend: Spend) -> Channel:
    others = tuple(s for s in channel.spends if s.txid != spend.txid)
    return msgspec.structs.replace(channel, spends=(*others, spend))


def _change_spend(channel: Channel, txid: bytes, **changes: object) -> Channel:
    spends = tuple(msgspec.structs.replace(s, **changes) if s.txid == txid else s for s in channel.spends)
    return msgspec.structs.replace(channel, spends=spends)


def _apply_penalty(channel: Channel, payload: Payload) -> Channel | None:
    match payload:
        case PenaltyPrepared():
            bid = Bid(
                payload.commit_txid,
                payload.bid_no,
                payload.txid,
                payload.raw,
                payload.fee,
                payload.feerate_kvb,
                payload.remaining,
            )
            others = tuple(b for b in channel.bids if b.txid != payload.txid)
            return msgspec.structs.replace(channel, bids=(*others, bid))
        case PenaltyBroadcast():
            return _change_bid(channel, payload.txid, accepted=True, outcome=payload.outcome)
        case PenaltyRefused():
            return _change_bid(channel, payload.txid, outcome=payload.outcome)
        case PenaltyReplaced():
            return _change_bid(channel, payload.txid, outcome=BroadcastOutcome.UNKNOWN)
        case PenaltyConfirmed():
            end = ContestSpend(
                payload.commit_txid,
                payload.txid,
                payload.block,
                is_penalty=True,
                revoked=True,
                value=payload.swept,
            )
            return msgspec.structs.replace(channel, contest_spends=(*channel.contest_spends, end))
        case PenaltyDisconnected() | SettleDisconnected():
            kept = tuple(c for c in channel.contest_spends if not (c.txid == payload.txid and c.block == payload.block))
            return msgspec.structs.replace(channel, contest_spends=kept, soft_final=_without(channel, payload.txid))
    return None


def _change_bid(channel: Channel, txid: bytes, **changes: object) -> Channel:
    bids = tuple(msgspec.structs.replace(b, **changes) if b.txid == txid else b for b in channel.bids)
    return msgspec.structs.replace(channel, bids=bids)


def _apply_end(channel: Channel, payload: Payload) -> Channel | None:
    match payload:
        case SettlePrepared():
            settlement = Settlement(payload.commit_txid, payload.txid, payload.raw, payload.fee, payload.valid_from)
            others = tuple(s for s in channel.settlements if s.txid != payload.txid)
            return msgspec.structs.replace(channel, settlements=(*others, settlement))
        case SettleBroadcast():
            settlements = tuple(
                msgspec.structs.replace(s, accepted=True) if s.txid == payload.txid else s for s in channel.settlements
            )
            return msgspec.structs.replace(channel, settlements=settlements)
        case SettleConfirmed():
            end = ContestSpend(
                payload.commit_txid,
                payload.txid,
                payload.block,
                is_penalty=False,
                revoked=payload.revoked,
                value=payload.value,
            )
            earlier = tuple(c for c in channel.contest_spends if c.txid != payload.txid)  # judged anew, late secret
            return msgspec.structs.replace(channel, contest_spends=(*earlier, end))
        case PreimageLearned():
            pair = (payload.payment_hash, payload.preimage)
            return msgspec.structs.replace(channel, preimages=(*channel.preimages, pair))
        case SoftFinal():
            return msgspec.structs.replace(channel, soft_final=payload.txid)
        case ChannelResolved():
            return msgspec.structs.replace(channel, resolved=payload.outcome)
        case AlertRaised():
            return msgspec.structs.replace(channel, alerts=channel.alerts | {payload.kind})
        case AlertCleared():
            return msgspec.structs.replace(channel, alerts=channel.alerts - {payload.kind})
    return None


def final_transaction(channel: Channel) -> tuple[bytes, BlockRef, ResolvedAs] | None:
    """The confirmed transaction that ends the channel, if nothing but a reorg can change the outcome."""
    if channel.double_spend is not None:
        return channel.double_spend.txid, channel.double_spend.block, ResolvedAs.DOUBLE_SPENT
    spend = channel.confirmed_spend
    if spend is None or spend.block is None:
        return None
    if spend.kind is SpendKind.COOP:
        return spend.txid, spend.block, ResolvedAs.COOP
    end = channel.contest_spend(spend.txid)
    if end is None:
        return None
    if end.is_penalty:
        return end.txid, end.block, ResolvedAs.PUNISHED
    return end.txid, end.block, ResolvedAs.LOST if end.revoked else ResolvedAs.SETTLED
