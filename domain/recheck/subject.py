"""What is known of one channel while its events are checked again, and what is found on the way."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from domain.chain import BlockRef
from domain.channel import Channel, StateRecord
from domain.contract.conditions import ConditionKey
from domain.contract.settlement import condition_vouts
from domain.contract.state import StateHeader, onchain_state_hash
from domain.events import CloseProposed, StateAccepted, StateOffered, StateProposed
from domain.units import Side

HASH = 32


class Flaw(msgspec.Struct, frozen=True):
    """One thing that is wrong with an event. `is_forged`: a signature or a revealed secret does not fit."""

    sentence: str
    is_forged: bool = False


Flaws = Iterator[Flaw]


class Tally(msgspec.Struct):
    """How much was computed again: signatures verified, secrets compared with points, transactions rebuilt."""

    signatures: int = 0
    secrets: int = 0
    transactions: int = 0


class Subject(msgspec.Struct):
    """A channel as its events so far make it.

    `own_commits` are the txids of the owner's commitments by state number, 32 bytes each: spends of old states are
    compared with them. A party's log has no registration; there `offer`, `proposal` and `acceptance` are the state in
    flight, and `own_points` the last points of the party as (state, point).
    """

    channel: Channel
    own_commits: bytearray = msgspec.field(default_factory=bytearray)
    offer: StateOffered | None = None
    proposal: StateProposed | None = None
    acceptance: StateAccepted | None = None
    own_points: tuple[tuple[int, bytes], ...] = ()
    closes: dict[bytes, CloseProposed] = {}

    @property
    def is_party(self) -> bool:
        """Whether this is the log of a party, which knows its own channel without a registration."""
        return not self.channel.registered

    def own_commit(self, sequence: int) -> bytes | None:
        """Txid of the owner's commitment of a state, if that state was stored."""
        return bytes(self.own_commits[HASH * sequence : HASH * (sequence + 1)]) or None

    def own_commit_in_flight(self, sequence: int) -> bytes | None:
        """The same for the state that the other side has accepted: it can be published before it is complete."""
        offer = self.offer
        if offer is None or self.acceptance is None or offer.sequence != sequence:
            return None
        return StateHeader.decode(offer.header).commit_txid(self.channel.own_side)

    def own_point(self, sequence: int) -> bytes | None:
        """The owner's point of a state, if it is still known."""
        return dict(self.own_points).get(sequence)

    def points_of(self, sequence: int, own_point: bytes) -> tuple[bytes, bytes] | None:
        """Points of A and B for a state; None while the counterparty's is not known."""
        peer_point = self.channel.point(self.channel.counterparty, sequence)
        if peer_point is None:
            return None
        return (own_point, peer_point) if self.channel.own_side is Side.A else (peer_point, own_point)

    def vouts(self, record: StateRecord) -> dict[ConditionKey, int]:
        """Output numbers of the conditions in the settlements of a state."""
        params, header = self.channel.params, record.read_header()
        onchain = onchain_state_hash(header) if params.has_onchain_state else None
        return condition_vouts(params, *header.balances, record.read_conditions(), onchain)


class ChainView:
    """The blocks that the log's cursor stands on, by height."""

    def __init__(self) -> None:
        self.tip: BlockRef | None = None
        self._hashes: dict[int, bytes] = {}

    def start(self, block: BlockRef) -> None:
        """The cursor begins at this block."""
        self.tip = block
        self._hashes = {block.height: block.hash}

    def connect(self, block: BlockRef) -> None:
        """The cursor goes on to this block."""
        self.tip = block
        self._hashes[block.height] = block.hash

    def disconnect(self, block: BlockRef, parent: BlockRef) -> None:
        """The cursor goes back to the parent of this block."""
        self._hashes.pop(block.height, None)
        self._hashes.setdefault(parent.height, parent.hash)
        self.tip = parent

    def contradicts(self, block: BlockRef) -> bool:
        """Whether another block stands at this height, or none yet. Below its first block it is silent."""
        known = self._hashes.get(block.height)
        if known is None:
            return self.tip is not None and block.height > self.tip.height
        return known != block.hash

    def has(self, block: BlockRef) -> bool:
        """Whether the cursor stands on this very block or on its descendants."""
        return self._hashes.get(block.height) == block.hash


class Glance(msgspec.Struct, frozen=True):
    """What a check is given beside the event: the channel before it, the chain at that moment, where to count."""

    subject: Subject
    chain: ChainView
    tally: Tally
    signatures: bool

    @property
    def channel(self) -> Channel:
        """The channel before the event."""
        return self.subject.channel
