"""One channel as its party sees it: a fold of the events in the party's own store.

`evolve` accepts every event that was ever written and never validates; the rules are in `proposer`, `acceptor`
and `closing`. Own secrets are not here: they are derived from the seed whenever they are needed.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from domain.chain import outpoint_txid, outpoint_vout
from domain.contract.conditions import Condition, decode_conditions
from domain.contract.params import ChannelParams
from domain.contract.revocation import NO_SECRETS, Buckets, index_of, insert_secret
from domain.contract.state import StateHeader, StateSignatures
from domain.errors import LogCorrupt
from domain.events import (
    ChannelAbandoned,
    ChannelFrozen,
    ChannelProposed,
    ChannelUnfrozen,
    CloseProposed,
    CloseSigned,
    CommitmentPublished,
    Envelope,
    EquivocationFound,
    FreezeReason,
    FundingBroadcast,
    FundingConfirmed,
    Payload,
    PreimageLearned,
    SignatureSet,
    Source,
    SpendSeen,
    StateAccepted,
    StateCommitted,
    StateOffered,
    StateProposed,
    StateRevoked,
    TowerAcknowledged,
    TurnYielded,
)
from domain.units import Side

KEPT_POINTS = 4
"""The counterparty's points that are still needed: of the current state, the next one, and one update in flight."""


def proposer_of(sequence: int) -> Side:
    """Whose turn it is to propose a state unless it is handed over: A for even numbers, B for odd ones (rule U3)."""
    return Side.A if sequence % 2 == 0 else Side.B


class Content(msgspec.Struct, frozen=True):
    """What a state says: encoded header, condition records, application data.

    `descriptors` holds what the records of descriptor outputs only hash: (id, descriptor, scriptPubKey).
    """

    header: bytes
    conditions: bytes
    state_data: bytes
    descriptors: tuple[tuple[int, str, bytes], ...] = ()

    def read_header(self) -> StateHeader:
        """The decoded header."""
        return StateHeader.decode(self.header)

    def read_conditions(self) -> tuple[Condition, ...]:
        """The decoded condition records, descriptor outputs with their text and script."""
        conditions = decode_conditions(self.conditions)
        if not self.descriptors:
            return conditions
        known = {number: (text, spk) for number, text, spk in self.descriptors}
        return tuple(
            condition if condition.is_htlc else _described(condition, *known.get(condition.id, (None, None)))
            for condition in conditions
        )

    @property
    def balances(self) -> tuple[int, int]:
        """Balances of A and B in satoshi."""
        return self.read_header().balances

    @property
    def seq(self) -> int:
        """State number (header offset 40)."""
        return int.from_bytes(self.header[40:48], "little")

    @property
    def state_hash(self) -> bytes:
        """Hash of the header."""
        return self.read_header().state_hash


def _described(condition: Condition, text: str | None, spk: bytes | None) -> Condition:
    return msgspec.structs.replace(condition, descriptor=text, spk=spk)


class Proposal(msgspec.Struct, frozen=True):
    """Signatures of message 1, by the proposer."""

    state: bytes
    settle_a: bytes
    settle_b: bytes


class Pending(msgspec.Struct, frozen=True):
    """A state that is not complete: offered, perhaps proposed, perhaps accepted."""

    content: Content
    by: Side
    proposal: Proposal | None = None
    acceptance: StateSignatures | None = None

    @property
    def is_bound(self) -> bool:
        """Whether a signature for this number exists: rule U5 forbids any other content from here."""
        return self.proposal is not None


class CompleteState(msgspec.Struct, frozen=True):
    """A state with the signatures that this party needs to close with it.

    `sigs_a` and `sigs_b` are complete sets: all eight signatures are stored.
    """

    content: Content
    by: Side
    sigs_a: StateSignatures
    sigs_b: StateSignatures

    @property
    def seq(self) -> int:
        """State number."""
        return self.content.seq

    def signatures(self, side: Side) -> StateSignatures:
        """The four signatures of one side."""
        return self.sigs_a if side is Side.A else self.sigs_b


class Close(msgspec.Struct, frozen=True):
    """A cooperative close that was proposed; `raw` is its complete transaction once both signed."""

    txid: bytes
    final_balances: tuple[int, int]
    fee: int
    lock_time: int
    by: Side
    signatures: tuple[tuple[Side, bytes], ...] = ()
    raw: bytes | None = None

    def signature(self, side: Side) -> bytes | None:
        """The leaf signature of one side, if known."""
        return dict(self.signatures).get(side)


class PartyChannel(msgspec.Struct, frozen=True):
    """Everything a party knows about one of its channels.

    `own_released` and `peer_revoked` are the highest revoked states (-1 for none) of this side and of the
    counterparty; `acknowledged` the highest state that a tower holds. `settled` is the content of the newest state
    that was ever `firm`. `handed_over` names the state whose turn
    was given away last and the side that has it now. `shown` holds the payment hashes of pending HTLCs whose
    preimage the counterparty has shown, or that are public.
    """

    stream: str
    version: int
    params: ChannelParams
    own_side: Side
    channel_index: int
    initial_balances: tuple[int, int]
    peer_points: tuple[tuple[int, bytes], ...] = ()
    state: CompleteState | None = None
    pending: Pending | None = None
    settled: Content | None = None
    handed_over: tuple[int, Side] | None = None
    shown: frozenset[bytes] = frozenset()
    own_released: int = -1
    peer_revoked: int = -1
    buckets: Buckets = NO_SECRETS
    acknowledged: tuple[tuple[bytes, int], ...] = ()
    frozen: FreezeReason | None = None
    closes: tuple[Close, ...] = ()
    published: frozenset[int] = frozenset()
    spend_seen: bool = False
    abandoned: bool = False
    funding_tx: bytes | None = None

    @property
    def peer(self) -> Side:
        """The counterparty's side."""
        return self.own_side.other

    @property
    def channel_id(self) -> bytes:
        """Channel id, or proposal id while the outpoint is unknown."""
        return self.params.channel_id if self.params.is_funding_known else self.params.proposal_id

    @property
    def sequence(self) -> int:
        """Number of the newest complete state, -1 for none."""
        return self.state.seq if self.state else -1

    @property
    def final_sequence(self) -> int:
        """Highest state that is final by rule U4, -1 for none."""
        held = max((sequence for _, sequence in self.acknowledged), default=-1)
        return min(self.sequence, self.peer_revoked + 1, held)

    @property
    def balances(self) -> tuple[int, int]:
        """Balances of A and B in the newest complete state, in satoshi."""
        return self.state.content.read_header().balances if self.state else self.initial_balances

    @property
    def is_closing(self) -> bool:
        """Whether rule U6 forbids further updates."""
        return bool(self.closes or self.published) or self.spend_seen

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Conditions of the newest complete state."""
        return self.state.content.read_conditions() if self.state else ()

    @property
    def firm(self) -> CompleteState | None:
        """The newest complete state, once the counterparty can publish no older one without being punished."""
        return self.state if self.state is not None and self.peer_revoked >= self.state.seq - 1 else None

    def was_handed_over(self, sequence: int) -> bool:
        """Whether the turn for this state was given away at least once."""
        return self.handed_over is not None and self.handed_over[0] == sequence

    def turn(self, sequence: int) -> Side:
        """Who proposes this state: by number, unless the turn was handed over."""
        if self.handed_over is not None and self.handed_over[0] == sequence:
            return self.handed_over[1]
        return proposer_of(sequence)

    def peer_point(self, sequence: int) -> bytes | None:
        """The counterparty's per-commitment point of a state, if it is among the kept ones."""
        return dict(self.peer_points).get(sequence)


def fold(channel: PartyChannel | None, events: Iterable[Envelope]) -> PartyChannel | None:
    """Apply events in order."""
    for event in events:
        channel = evolve(channel, event)
    return channel


def evolve(channel: PartyChannel | None, event: Envelope) -> PartyChannel:
    """State after one event; `ChannelProposed` creates it."""
    payload = event.payload
    if channel is None:
        if not isinstance(payload, ChannelProposed):
            raise LogCorrupt(f"stream {event.stream} of a party does not begin with its proposal")
        return _create(event, payload)
    for part in (_apply_opening, _apply_state, _apply_revocation, _apply_end):
        after = part(channel, payload)
        if after is not None:
            settled = after.firm.content if after.firm is not None else after.settled
            return msgspec.structs.replace(after, version=event.version, settled=settled)
    return msgspec.structs.replace(channel, version=event.version)


def _create(event: Envelope, payload: ChannelProposed) -> PartyChannel:
    points = payload.counterparty_points or ()
    return PartyChannel(
        stream=event.stream,
        version=event.version,
        params=ChannelParams.decode(payload.params),
        own_side=payload.own_side,
        channel_index=payload.channel_index,
        initial_balances=payload.initial_balances,
        peer_points=tuple(enumerate(points)),
    )


def _apply_opening(channel: PartyChannel, payload: Payload) -> PartyChannel | None:
    match payload:
        case FundingBroadcast():
            txid, vout = outpoint_txid(payload.outpoint), outpoint_vout(payload.outpoint)
            raw = payload.raw if payload.raw is not None else channel.funding_tx
            return msgspec.structs.replace(channel, params=channel.params.with_funding(txid, vout), funding_tx=raw)
        case FundingConfirmed():
            return channel
        case ChannelAbandoned():
            return msgspec.structs.replace(channel, abandoned=True)
    return None


def _apply_state(channel: PartyChannel, payload: Payload) -> PartyChannel | None:
    pending = channel.pending
    match payload:
        case StateOffered():
            content = Content(payload.header, payload.conditions, payload.state_data, payload.descriptors)
            return msgspec.structs.replace(channel, pending=Pending(content, payload.by))
        case TurnYielded():
            return msgspec.structs.replace(channel, handed_over=(payload.sequence, payload.by.other))
        case StateProposed() if pending:
            proposal = Proposal(payload.state_sig, payload.settle_a, payload.settle_b)
            return msgspec.structs.replace(channel, pending=msgspec.structs.replace(pending, proposal=proposal))
        case StateAccepted() if pending:
            accepted = StateSignatures(payload.state_sig, payload.settle_a, payload.settle_b, payload.commit_peer)
            return msgspec.structs.replace(channel, pending=msgspec.structs.replace(pending, acceptance=accepted))
        case StateCommitted() if pending and pending.proposal and pending.acceptance:
            first = pending.proposal
            proposer = StateSignatures(first.state, first.settle_a, first.settle_b, payload.commit_peer)
            by_a = pending.by is Side.A
            pair = (proposer, pending.acceptance) if by_a else (pending.acceptance, proposer)
            completed = CompleteState(pending.content, pending.by, *pair)
            shown = _still_shown(channel, pending.content) if channel.shown else channel.shown
            return msgspec.structs.replace(channel, state=completed, pending=None, shown=shown)
    return None


def _still_shown(channel: PartyChannel, content: Content) -> frozenset[bytes]:
    """Hashes of the state before stay for one state, so that what removed an HTLC is known when it is gone."""
    pending = (*channel.conditions, *content.read_conditions())
    return channel.shown & {condition.hash for condition in pending}


def _apply_revocation(channel: PartyChannel, payload: Payload) -> PartyChannel | None:
    match payload:
        case StateRevoked() if payload.party is channel.own_side:
            return msgspec.structs.replace(channel, own_released=max(channel.own_released, payload.sequence))
        case StateRevoked() if payload.secret is not None:
            points = (*channel.peer_points, (payload.sequence + 2, payload.next_point))[-KEPT_POINTS:]
            return msgspec.structs.replace(
                channel,
                peer_revoked=payload.sequence,
                peer_points=points,
                buckets=insert_secret(channel.buckets, payload.secret, index_of(payload.sequence)),
            )
        case TowerAcknowledged():
            known = dict(channel.acknowledged)
            known[payload.tower_id] = max(known.get(payload.tower_id, -1), payload.sequence)
            return msgspec.structs.replace(channel, acknowledged=tuple(sorted(known.items())))
        case PreimageLearned() if payload.source is not Source.CLIENT:
            return msgspec.structs.replace(channel, shown=channel.shown | {payload.payment_hash})
    return None


def _apply_end(channel: PartyChannel, payload: Payload) -> PartyChannel | None:
    match payload:
        case ChannelFrozen():
            lasting = channel.frozen is FreezeReason.EQUIVOCATION
            return channel if lasting else msgspec.structs.replace(channel, frozen=payload.reason)
        case ChannelUnfrozen():
            return msgspec.structs.replace(channel, frozen=None)
        case EquivocationFound():
            return channel
        case CloseProposed():
            return _apply_proposal(channel, payload)
        case CloseSigned():
            return msgspec.structs.replace(channel, closes=tuple(_signed(close, payload) for close in channel.closes))
        case CommitmentPublished():
            return msgspec.structs.replace(channel, published=channel.published | {payload.sequence})
        case SpendSeen():
            return msgspec.structs.replace(channel, spend_seen=True)
    return None


def _apply_proposal(channel: PartyChannel, payload: CloseProposed) -> PartyChannel:
    """The proposal is the newest close; if it repeats an older one, that one's complete transaction stays valid."""
    raw = next((known.raw for known in channel.closes if known.txid == payload.txid), None)
    close = Close(payload.txid, payload.final_balances, payload.fee, payload.lock_time, payload.by, raw=raw)
    others = tuple(known for known in channel.closes if known.txid != payload.txid)
    return msgspec.structs.replace(channel, closes=(*others, close))


def _signed(close: Close, payload: CloseSigned) -> Close:
    if close.txid != payload.txid:
        return close
    signatures = {**dict(close.signatures), payload.by: payload.signature}
    raw = payload.raw if payload.raw is not None else close.raw
    return msgspec.structs.replace(close, signatures=tuple(signatures.items()), raw=raw)


def signature_set(signatures: StateSignatures) -> SignatureSet:
    """The form in which events hold the four signatures of a party."""
    return SignatureSet(signatures.state, signatures.settle_a, signatures.settle_b, signatures.commit_peer)
