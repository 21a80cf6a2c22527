"""The Channel aggregate: what one channel's events add up to, and questions about it.

The fold of events is in `channel_fold`, the rules are in the deciders (`opening`, `updating`, `spending`,
`punishing`, `settling`). All values are immutable.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from domain.chain import BlockRef, OutPoint, make_outpoint
from domain.contract.commitment import contest_key
from domain.contract.conditions import Condition, ConditionKey, decode_conditions
from domain.contract.keys import public_key
from domain.contract.params import ChannelParams
from domain.contract.revocation import Buckets, derive_secret, index_of
from domain.contract.state import StateHeader
from domain.deadlines import depth
from domain.events import (
    AlertKind,
    BroadcastOutcome,
    ChallengeVerdict,
    ClaimPath,
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
    """One signed penalty at one feerate. `accepted` = the node held it in its mempool.

    `unconfirmed` = the breach was in no block when it was signed: the network may have refused it.
    """

    commit_txid: bytes
    number: int
    txid: bytes
    raw: bytes
    fee: int
    feerate_kvb: int
    remaining: int | None = None
    accepted: bool = False
    outcome: BroadcastOutcome = BroadcastOutcome.UNKNOWN
    rung: int | None = None
    unconfirmed: bool = False

    @property
    def is_rung(self) -> bool:
        """Whether it was signed before, as a rung of a ladder, and not here."""
        return self.rung is not None


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


class Claim(msgspec.Struct, frozen=True):
    """One signed claim of a conditional output at one fee. `accepted` = the node held it in its mempool."""

    settle_txid: bytes
    key: ConditionKey
    path: ClaimPath
    txid: bytes
    raw: bytes
    fee: int
    accepted: bool = False


class ClaimEnd(msgspec.Struct, frozen=True):
    """A confirmed spend of a conditional output; `missed` = the counterparty's, although we could have taken it."""

    settle_txid: bytes
    key: ConditionKey
    txid: bytes
    block: BlockRef
    ours: bool
    value: int
    missed: bool


class Closing(msgspec.Struct, frozen=True):
    """An intent of the owner to close.

    A cooperative close has its signed bytes and `final_balances`. Of an own commitment (`sequence`) only the txid is
    kept: its own signature is made at the broadcast and stored nowhere (protocol 3.2).
    """

    txid: bytes
    raw: bytes | None = None
    sequence: int | None = None
    final_balances: tuple[int, int] | None = None


class Challenge(msgspec.Struct, frozen=True):
    """A proof that was shown against a published commitment and accepted (`PNS1`, protocol 6.3)."""

    sequence: int
    proof: bytes
    verdict: ChallengeVerdict
    published_txid: bytes

    @property
    def accused(self) -> Side:
        """The side that is said to have published a revoked state."""
        return Side(self.proof[_ACCUSED_OFFSET])

    @property
    def secret(self) -> bytes | None:
        """The revocation secret of the published state, if the proof shows it."""
        return self.proof[_SECRET] if self.proof[_KIND_OFFSET] == _KIND_SECRET else None

    @property
    def has_ladder(self) -> bool:
        """Whether the proof holds penalties that were signed before."""
        return self.proof[_KIND_OFFSET] == _KIND_LADDER


_KIND_OFFSET, _ACCUSED_OFFSET, _SECRET = 4, 45, slice(78, 110)
"""Places in a proof; an accepted one was checked by `domain.contract.proofs`."""

_KIND_SECRET, _KIND_LADDER = 0, 1


class Channel(msgspec.Struct, frozen=True):
    """Everything the tower knows about one channel. `highest_revoked` is the counterparty's, -1 for none.

    `points` are the counterparty's per-commitment points of the states `highest_revoked` + 1 and + 2.
    `registered_at` is the height of the tower's cursor at the registration. `answer` is the last counter-proof
    against the newest challenge. `challenge_count` and `answer_count` are those of all stored ones.
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
    claims: tuple[Claim, ...] = ()
    claim_ends: tuple[ClaimEnd, ...] = ()
    alerts: frozenset[AlertKind] = frozenset()
    soft_final: bytes | None = None
    resolved: ResolvedAs | None = None
    erased: bool = False
    closings: tuple[Closing, ...] = ()
    challenges: tuple[Challenge, ...] = ()
    answer: bytes | None = None
    challenge_count: int = 0
    answer_count: int = 0
    equivocations: frozenset[int] = frozenset()

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

    def last_claim(self, settle_txid: bytes, key: ConditionKey) -> Claim | None:
        """Our latest claim of a condition's output in a settlement."""
        return next((c for c in reversed(self.claims) if (c.settle_txid, c.key) == (settle_txid, key)), None)

    def claim_end(self, settle_txid: bytes, key: ConditionKey) -> ClaimEnd | None:
        """The confirmed spend of a condition's output in a settlement."""
        return next((e for e in self.claim_ends if (e.settle_txid, e.key) == (settle_txid, key)), None)

    def state(self, sequence: int) -> StateRecord | None:
        """The stored content of a publishable state."""
        return next((s for s in self.states if s.sequence == sequence), None)

    def closing(self, txid: bytes) -> Closing | None:
        """The owner's intent to publish this spend of the funding outpoint."""
        return next((c for c in self.closings if c.txid == txid), None)

    def challenge_of(self, txid: bytes) -> Challenge | None:
        """The newest proof that makes this commitment punishable."""
        enforceable = (c for c in reversed(self.challenges) if c.verdict is ChallengeVerdict.VALID_ENFORCEABLE)
        return next((c for c in enforceable if c.published_txid == txid), None)

    def revealed_secret(self, sequence: int) -> bytes | None:
        """The counterparty's secret of a state: from its revocations, or from a proof that showed it."""
        known = derive_secret(self.buckets, index_of(sequence))
        if known is not None:
            return known
        shown = (c.secret for c in self.challenges if c.sequence == sequence and c.accused is self.counterparty)
        return next((secret for secret in shown if secret is not None), None)

    def revocation_key(self, side: Side, sequence: int) -> bytes | None:
        """R (33 bytes) of the commitment of a side, as far as its point is known."""
        secret = self.revealed_secret(sequence) if side is self.counterparty else None
        point = self.point(side, sequence) if secret is None else public_key(secret)
        return None if point is None else contest_key(self.params, side, point)

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

    def funding_depth(self, tip_height: int) -> int:
        """Confirmations of the funding output at a tip, 0 while it is in no block.

        A channel is ahead of the tip for the moment between a commit and the next step of the cursor: what is
        confirmed here has one confirmation at least.
        """
        return 0 if self.funding_block is None else max(1, depth(self.funding_block.height, tip_height))


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
