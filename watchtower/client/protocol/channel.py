"""One channel as its party sees it, made from the events in the party's own store (`fold`).

Own secrets are not here: they are derived from the seed whenever they are needed.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from domain.chain import BlockRef
from domain.contract.conditions import Condition, decode_conditions
from domain.contract.params import ChannelParams
from domain.contract.receipts import SignedReceipt
from domain.contract.revocation import NO_SECRETS, Buckets
from domain.contract.state import NOT_GIVEN, StateHeader, StateSignatures
from domain.events import FreezeReason
from domain.units import Side
from watchtower.client.protocol.fee_log import FeeChild


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
        return _conditions(self.conditions, self.descriptors)

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


@lru_cache(maxsize=256)
def _conditions(records: bytes, descriptors: tuple[tuple[int, str, bytes], ...]) -> tuple[Condition, ...]:
    """Kept, because a look at the payments of a channel asks for each of them again: 150 took a tenth of a second."""
    known = {number: (text, spk) for number, text, spk in descriptors}
    return tuple(
        condition if condition.is_htlc or not known else _described(condition, *known.get(condition.id, (None, None)))
        for condition in decode_conditions(records)
    )


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


class Rescue(msgspec.Struct, frozen=True):
    """A joint settlement (amounts of A and B) of a confirmed commitment; `raw` once both signed."""

    commit_txid: bytes
    amounts: tuple[int, int]
    signatures: tuple[tuple[Side, bytes], ...] = ()
    raw: bytes | None = None

    def signature(self, side: Side) -> bytes | None:
        """The signature of one side, if known."""
        return dict(self.signatures).get(side)


class PartyChannel(msgspec.Struct, frozen=True):
    """Everything a party knows about one of its channels.

    `own_released` and `peer_revoked` are the highest revoked states (-1 for none) of this side and of the
    counterparty; `acknowledged` the highest state that a tower holds, `receipts` the newest of each tower. `settled`
    is the content of the newest state that was ever `firm`. `had_spend` is true for good once a spend of the funding
    output was seen; `spend` is the one that counts now, as this party was told, `confirmed` the same in a block, and
    `rescue` a joint settlement of it. `handed_over` names the state whose turn was
    given away last and the side that has it now. `shown` holds the payment hashes of pending HTLCs whose preimage the
    counterparty has shown, or that are public. `old_copy` means that this log may lack what the party did later,
    whatever else froze the channel, `peer_doubted` that the peer then named another state than this log. `alarmed` is
    the state whose secret contradicted earlier ones last. `fee_children` holds the newest bid of each parent.
    `funding_tx` is signed, `prepared_tx` is what the wallet made of it before.
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
    receipts: tuple[tuple[bytes, SignedReceipt], ...] = ()
    frozen: FreezeReason | None = None
    old_copy: bool = False
    peer_doubted: bool = False
    alarmed: int = -1
    closes: tuple[Close, ...] = ()
    published: frozenset[int] = frozenset()
    had_spend: bool = False
    spend: bytes | None = None
    confirmed: tuple[bytes, BlockRef] | None = None
    rescue: Rescue | None = None
    fee_children: tuple[FeeChild, ...] = ()
    abandoned: bool = False
    funding_tx: bytes | None = None
    prepared_tx: bytes | None = None

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
    def is_cut_short(self) -> bool:
        """Whether the counterparty can publish two states: an update is in flight, or it owes the end of one."""
        return self.accepted is not None or (self.state is not None and self.firm is None)

    @property
    def signed_sequence(self) -> int:
        """Highest state that this side or the counterparty can publish, -1 for none; at most one above `sequence`."""
        accepted = self.accepted
        return self.sequence if accepted is None else accepted.seq

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
    def accepted(self) -> CompleteState | None:
        """The state in flight that its proposer can publish already: the counterparty, or this side once it signed to.

        Its settlements are signed by both; the one signature that the proposer did not give is `NOT_GIVEN`.
        """
        pending = self.pending
        if pending is None or pending.proposal is None or pending.acceptance is None:
            return None
        if pending.by is self.own_side and pending.content.seq not in self.published:
            return None
        first = pending.proposal
        proposed = StateSignatures(first.state, first.settle_a, first.settle_b, NOT_GIVEN)
        pair = (proposed, pending.acceptance) if pending.by is Side.A else (pending.acceptance, proposed)
        return CompleteState(pending.content, pending.by, *pair)

    @property
    def is_closing(self) -> bool:
        """Whether rule U6 forbids further updates."""
        return bool(self.closes or self.published) or self.had_spend

    @property
    def spend_seen(self) -> bool:
        """Whether the funding output is spent now; not by a close of both in the mempool, which another may replace."""
        is_joint = any(close.txid == self.spend for close in self.closes)
        return self.confirmed is not None or (self.spend is not None and not is_joint)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Conditions of the newest complete state."""
        return self.state.content.read_conditions() if self.state else ()

    @property
    def htlcs(self) -> frozenset[Condition]:
        """HTLCs of the newest state, of the one before while the counterparty can publish it, and of one in flight."""
        contents = (
            self.state.content if self.state else None,
            self.settled if self.firm is None else None,
            self.pending.content if self.pending else None,
        )
        return frozenset(c for content in contents if content for c in content.read_conditions() if c.is_htlc)

    @property
    def is_lost(self) -> bool:
        """Whether this log counts as an old copy for good: no further proof of it says more."""
        return self.old_copy and self.frozen is not FreezeReason.RESTORED

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
