"""What the views need to know of one channel, in a compact form.

It holds no signature, no raw transaction and no secret, so it stays small enough to be rewritten with every event.
All rows about a channel are functions of these facts; undoing a fact therefore undoes every row.
"""

from __future__ import annotations

from struct import Struct

import msgspec

from domain.chain import NULL_TXID, BlockRef, OutPoint, make_outpoint
from domain.contract.hashes import tagged_hash
from domain.contract.params import COMMITMENT_VSIZES, PARAMS_SIZE, SEGWIT, TAPROOT, ChannelParams
from domain.events import AlertKind, Mode, ResolvedAs, SpendKind
from domain.status import ChannelStatus, channel_status
from domain.units import Side, ceil_div

_FUNDING = slice(34, 70)
"""Place of funding_txid and funding_vout in `ChannelParams` (protocol 2.2)."""

_BLANK = bytes(32) + b"\xff" * 4
"""What stands there while the funding outpoint is unknown."""

_NUMBERS = Struct("<QHIQQI")
"""From offset 70: capacity, challenge period, static feerate, value of the anchor, reserve, flags."""

_KEYS_A, _KEYS_B, _AUTH = 104, 310, 131
"""Places of the two key blocks, and of the auth key in each; the funding key comes first."""


class Terms(msgspec.Struct, frozen=True, array_like=True):
    """Constants of a channel as far as views show them. Amounts in satoshi; `pubkey_*` are the funding keys.

    `auth_*` are the x-only keys with which each side signs requests to its tower.
    """

    channel_id: bytes
    proposal_id: bytes
    outpoint: bytes
    is_funding_known: bool
    capacity: int
    challenge_period: int
    static_feerate: int
    flags: int
    contest_value: int
    pubkey_a: bytes
    pubkey_b: bytes
    auth_a: bytes
    auth_b: bytes

    @classmethod
    def of(cls, encoded: bytes) -> Terms:
        """Read encoded `ChannelParams` (protocol 2.2) by their places; decoding it all takes three times as long."""
        if len(encoded) != PARAMS_SIZE or encoded[0] != 1 or encoded[1] not in (TAPROOT, SEGWIT):
            ChannelParams.decode(encoded)  # says what is wrong with it
        proposal_id = tagged_hash("SCT1/proposal", encoded[: _FUNDING.start] + _BLANK + encoded[_FUNDING.stop :])
        known = encoded[34:66] != NULL_TXID
        capacity, period, feerate, anchor, _, flags = _NUMBERS.unpack_from(encoded, 70)
        fee = ceil_div(feerate * COMMITMENT_VSIZES[encoded[1]], 1000)
        return cls(
            tagged_hash("SCT1/channel", encoded) if known else proposal_id,
            proposal_id,
            encoded[_FUNDING],
            known,
            capacity,
            period,
            feerate,
            flags,
            capacity - anchor - fee,
            encoded[_KEYS_A : _KEYS_A + 33],
            encoded[_KEYS_B : _KEYS_B + 33],
            encoded[_KEYS_A + _AUTH : _KEYS_A + _AUTH + 32],
            encoded[_KEYS_B + _AUTH : _KEYS_B + _AUTH + 32],
        )


class SpendFacts(msgspec.Struct, frozen=True, array_like=True):
    """One known spend of the funding outpoint: in the mempool, in a block, or neither any more.

    `was_mined` stays when the block is gone. `answer_from` (Unix microseconds) is when the clock of our answer to a
    breach began: with the event that recorded it, or, if nothing was bid on it in the mempool, with its block.
    """

    txid: bytes
    kind: SpendKind
    side: int | None
    sequence: int | None
    in_mempool: bool
    block: BlockRef | None
    contest_value: int = 0
    contest_spk: bytes = b""
    was_mined: bool = False
    answer_from: int = 0

    @property
    def contest(self) -> OutPoint:
        """Output 0: the contest output of a commitment."""
        return make_outpoint(self.txid, 0)

    @property
    def is_present(self) -> bool:
        """In the mempool or on the active chain."""
        return self.in_mempool or self.block is not None


class BidFacts(msgspec.Struct, frozen=True, array_like=True):
    """One prepared penalty. Fee in satoshi, feerate in sat per 1000 vB."""

    commit_txid: bytes
    number: int
    txid: bytes
    fee: int
    feerate_kvb: int
    accepted: bool = False


class EndFacts(msgspec.Struct, frozen=True, array_like=True):
    """A confirmed spend of a contest output, or of a funding input (`commit_txid` empty); a penalty has a `fee`."""

    commit_txid: bytes
    txid: bytes
    block: BlockRef
    is_penalty: bool
    revoked: bool
    value: int
    fee: int = 0


class ClaimFacts(msgspec.Struct, frozen=True, array_like=True):
    """A confirmed spend of a conditional output, by either side."""

    settle_txid: bytes
    key: tuple[int, int]
    txid: bytes
    block: BlockRef
    ours: bool
    value: int


class SettlementFacts(msgspec.Struct, frozen=True, array_like=True):
    """Our settlement of an honest close."""

    commit_txid: bytes
    txid: bytes
    valid_from: int
    accepted: bool = False


class ChannelFacts(msgspec.Struct, array_like=True):
    """State of the fold, changed by `folding.advance` only: fields are set, what they hold is never changed.

    `highest_revoked` is the counterparty's; -1 means none, for sequences too. `counted` are the ends of breaches that
    stand in sums of money: penalties that were 6 deep, revoked settlements that were in a block. A reorg leaves them.
    """

    terms: Terms
    own_side: Side
    version: int = 0
    last_id: int = 0
    recorded_at: int = 0
    mode: Mode = Mode.UNKNOWN
    registered: bool = False
    abandoned: bool = False
    upload_sha256: bytes = b""
    initial_balances: tuple[int, int] = (0, 0)
    balances: tuple[int, int] = (0, 0)
    sequence: int = -1
    state_hash: bytes = b""
    condition_count: int = 0
    highest_revoked: int = -1
    own_released: int = -1
    funding_inputs: tuple[bytes, ...] = ()
    funding_seen: bool = False
    funding_block: BlockRef | None = None
    double_spend: EndFacts | None = None
    close_signed: bool = False
    frozen: bool = False
    spends: tuple[SpendFacts, ...] = ()
    bids: tuple[BidFacts, ...] = ()
    ends: tuple[EndFacts, ...] = ()
    settlements: tuple[SettlementFacts, ...] = ()
    claims: tuple[ClaimFacts, ...] = ()
    alerts: tuple[AlertKind, ...] = ()
    soft_final: bytes | None = None
    resolved: ResolvedAs | None = None
    close_complete: bool = False
    counted: tuple[bytes, ...] = ()

    @property
    def present_spend(self) -> SpendFacts | None:
        """The spend of the funding outpoint that counts now: the confirmed one, else the one in the mempool."""
        if not self.spends:
            return None
        confirmed = next((s for s in self.spends if s.block is not None), None)
        return confirmed or next((s for s in self.spends if s.in_mempool), None)

    def end_of(self, commit_txid: bytes) -> EndFacts | None:
        """The confirmed spend of a commitment's contest output."""
        return next((e for e in self.ends if e.commit_txid == commit_txid), None)

    def last_bid(self, commit_txid: bytes) -> BidFacts | None:
        """Our latest penalty for a commitment."""
        return next((b for b in reversed(self.bids) if b.commit_txid == commit_txid), None)

    def standing_bid(self, commit_txid: bytes) -> BidFacts | None:
        """Our latest penalty for a commitment that a node took."""
        return next((b for b in reversed(self.bids) if b.commit_txid == commit_txid and b.accepted), None)

    def settlement_of(self, commit_txid: bytes) -> SettlementFacts | None:
        """Our latest settlement of a commitment."""
        return next((s for s in reversed(self.settlements) if s.commit_txid == commit_txid), None)

    @property
    def final(self) -> EndFacts | None:
        """The confirmed transaction that ends the channel unless a reorg removes it."""
        if self.double_spend is not None:
            return self.double_spend
        spend = self.present_spend
        if spend is None or spend.block is None:
            return None
        if spend.kind is SpendKind.COOP:
            return EndFacts(b"", spend.txid, spend.block, is_penalty=False, revoked=False, value=0)
        return self.end_of(spend.txid)

    @property
    def status(self) -> ChannelStatus:
        """Status of protocol 6.1; ACTIVE means confirmed once, the depth is the caller's policy."""
        return channel_status(self, self.present_spend, self.end_of)
