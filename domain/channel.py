"""The Channel aggregate: what one channel's events add up to, and questions about it.

The fold of events is in `channel_fold`, the rules are in the deciders (`opening`, `updating`, `spending`,
`punishing`, `settling`). All values are immutable.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from domain.chain import BlockRef, OutPoint, make_outpoint
from domain.contract.conditions import Condition, decode_conditions
from domain.contract.keys import public_key
from domain.contract.params import ChannelParams
from domain.contract.revocation import Buckets, derive_secret, index_of
from domain.contract.state import StateHeader
from domain.events import (
    AlertKind,
    BroadcastOutcome,
    ResolvedAs,
    SignatureSet,
    SpendKind,
)
from domain.status import ChannelStatus, channel_status
from domain.units import Side


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
        return channel_status(self, self.present_spend, self.contest_spend)


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
