"""Which transactions of closing channels may need a child that pays for them, and the children that were made."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from domain.chain import OutPoint, make_outpoint
from domain.contract.settlement import SettlementPlan, plan_settlement
from domain.contract.state import onchain_state_hash
from domain.deadlines import settle_valid_from
from domain.events import FeeChildPrepared
from domain.fee_child import PATIENT_TARGET, Parent, confirm_by, pressing, settled_by
from domain.transaction import Transaction
from domain.units import Side
from watchtower.client.party.on_chain import PartyOnChain
from watchtower.client.protocol.channel import Content, PartyChannel
from watchtower.client.protocol.fee_log import FeeChild
from watchtower.client.protocol.seat import Step

WAITED_FOR = 2_016
"""Blocks from which on nobody looks after a settlement that is not in a block, unless a child was made for it."""


class Stake(msgspec.Struct, frozen=True):
    """Own balance and HTLCs that press, in satoshi, and the height at which those want the transaction confirmed."""

    balance: int
    at_risk: int
    confirm_by: int | None


class FeeParent(msgspec.Struct, frozen=True, kw_only=True):
    """A commitment, or the settlement of a commitment of `side`, that should get into a block.

    It takes `outpoint`, and its output `vout` is the anchor. A commitment of the peer can only be paid for once a
    mempool has it (`is_own` is False): the peer's witness is not known here. `is_unseen`: it was signed to be
    published, and the tower has seen it nowhere.
    """

    channel_id: bytes
    sequence: int
    side: Side
    is_settlement: bool
    is_own: bool
    is_unseen: bool
    txid: bytes
    outpoint: OutPoint
    vout: int
    size: Parent
    stake: Stake

    @property
    def anchor(self) -> OutPoint:
        """The output that anybody may spend."""
        return make_outpoint(self.txid, self.vout)


class PartyFees(PartyOnChain):
    """The part of `ChannelParty` that knows what a close needs to get into a block."""

    @property
    def has_closes(self) -> bool:
        """Whether any channel closes or has been closed."""
        with self._mutex:
            return any(_is_closing(each) for each in self._channels.values())

    def fee_parents(self, height: int, *, preemptive: bool = False) -> tuple[FeeParent, ...]:
        """What may wait for a block at this height: published commitments, and settlements from h_c + T - 1 on.

        Commitments of the peer only for the sake of HTLCs that leave `PATIENT_TARGET` blocks at most: else it could
        choose a dear day and let this side pay.
        Never anything of a state that was revoked, or may have been: an old copy of the log pays for nothing. Whether
        one is in a mempool or in a block already is not known here.
        """
        with self._mutex:
            closing = [each for each in self._channels.values() if _is_closing(each) and not each.old_copy]
            found = (parent for each in closing for parent in self._parents(each, height, preemptive=preemptive))
            return tuple(parent for parent in found if parent.stake.balance or parent.stake.at_risk)

    def fee_parent_raw(self, parent: FeeParent) -> bytes:
        """The complete parent, ready for broadcast. Of commitments the own one only."""
        if parent.is_settlement:
            return self.settlement(parent.channel_id, parent.sequence, parent.side)
        return self.sign_commitment(parent.channel_id, parent.sequence)

    def fee_children(self) -> tuple[FeeChild, ...]:
        """The newest bid of every parent."""
        with self._mutex:
            return tuple(child for each in self._channels.values() for child in each.fee_children)

    def fee_child(self, parent_txid: bytes) -> FeeChild | None:
        """The newest bid of a parent."""
        return next((child for child in self.fee_children() if child.parent_txid == parent_txid), None)

    def funding_coins(self) -> frozenset[OutPoint]:
        """Coins of the wallet that fund channels, or will: no child may spend them, nor give their locks back."""
        with self._mutex:
            chosen = [
                each.funding_tx or (None if each.abandoned else each.prepared_tx) for each in self._channels.values()
            ]
        return frozenset(spent.outpoint for raw in chosen if raw is not None for spent in Transaction.parse(raw).inputs)

    def note_fee_child(self, parent: FeeParent, raw: bytes, fee: int, height: int) -> FeeChild:
        """Record the bytes of a child; durable on return, and only then it may be sent."""
        with self._mutex:
            channel = self.channel(parent.channel_id)
            size = parent.size.vsize + Transaction.parse(raw).vsize
            event = FeeChildPrepared(
                recorded_at=self._clock.wall_microseconds(),
                parent_txid=parent.txid,
                outpoint=parent.outpoint,
                raw=raw,
                fee=fee,
                feerate_kvb=1000 * (parent.size.fee + fee) // size,
                height=height,
            )
            self._take(channel, Step((event,)))
            return self._channels[channel.stream].fee_children[-1]

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    def _parents(self, channel: PartyChannel, height: int, *, preemptive: bool) -> Iterator[FeeParent]:
        if channel.confirmed is None:
            found = next((each for each in _publishable(channel) if _may_stand(channel, *each)), None)
            if found is not None:
                yield self._commitment(channel, *found, height, preemptive=preemptive)
            return
        txid, block = channel.confirmed
        waited = height - settle_valid_from(block.height, channel.params.challenge_period)
        begun = any(child.outpoint == make_outpoint(txid, 0) for child in channel.fee_children)
        if waited < -1 or (waited > WAITED_FOR and not begun):
            return
        for content, side in _publishable(channel):
            if content.read_header().commit_txid(side) == txid:
                yield self._settlement(channel, content, side, preemptive=preemptive)
                return

    def _commitment(
        self, channel: PartyChannel, content: Content, side: Side, height: int, *, preemptive: bool
    ) -> FeeParent:
        params, stake = channel.params, self._stake(channel, content, preemptive=preemptive)
        if side is channel.peer:
            is_near = stake.confirm_by is not None and stake.confirm_by - height <= PATIENT_TARGET
            stake = msgspec.structs.replace(stake, balance=0, at_risk=stake.at_risk if is_near else 0)
        return FeeParent(
            channel_id=channel.channel_id,
            sequence=content.seq,
            side=side,
            is_settlement=False,
            is_own=side is channel.own_side,
            is_unseen=channel.spend is None,
            txid=content.read_header().commit_txid(side),
            outpoint=params.funding_outpoint,
            vout=1,
            size=Parent(params.commitment_fee, params.commitment_vsize),
            stake=stake,
        )

    def _settlement(self, channel: PartyChannel, content: Content, side: Side, *, preemptive: bool) -> FeeParent:
        header, params = content.read_header(), channel.params
        stake, plan = self._stake(channel, content, preemptive=preemptive), _plan(channel, content)
        return FeeParent(
            channel_id=channel.channel_id,
            sequence=content.seq,
            side=side,
            is_settlement=True,
            is_own=True,
            is_unseen=False,
            txid=header.settle_txid(side),
            outpoint=make_outpoint(header.commit_txid(side), 0),
            vout=len(plan.outputs) - 1,
            size=Parent(params.contest_value - sum(each.value for each in plan.outputs), plan.vsize),
            stake=msgspec.structs.replace(stake, confirm_by=settled_by(stake.confirm_by, params.challenge_period)),
        )

    def _stake(self, channel: PartyChannel, content: Content, *, preemptive: bool) -> Stake:
        """For the commitment. An HTLC without an output on chain is lost either way."""
        own, paid = channel.own_side, _plan(channel, content).condition_vouts
        htlcs = [c for c in pressing(content.read_conditions(), own, self._known.keys()) if c.key in paid]
        wanted = confirm_by(htlcs, own, channel.params.challenge_period, preemptive=preemptive)
        return Stake(content.balances[own], sum(each.amount for each in htlcs), wanted)


def _is_closing(channel: PartyChannel) -> bool:
    return bool(channel.published) or channel.spend is not None


def _plan(channel: PartyChannel, content: Content) -> SettlementPlan:
    header = content.read_header()
    onchain = onchain_state_hash(header) if channel.params.has_onchain_state else None
    return plan_settlement(channel.params, *header.balances, content.read_conditions(), onchain)


def _may_stand(channel: PartyChannel, content: Content, side: Side) -> bool:
    """Whether this commitment is in the mempool as the tower says, or is the own one that was signed to be there."""
    if channel.spend is None:
        return side is channel.own_side and content.seq in channel.published
    return content.read_header().commit_txid(side) == channel.spend


def _publishable(channel: PartyChannel) -> Iterator[tuple[Content, Side]]:
    """States that either side may have published without being punished, the newest first."""
    pending = channel.pending.content if channel.pending is not None and channel.pending.is_bound else None
    newest = channel.state.content if channel.state is not None else None
    for content in (pending, newest, channel.settled):
        if content is None:
            continue
        for side in Side:
            revoked = channel.own_released if side is channel.own_side else channel.peer_revoked
            if content.seq > revoked:
                yield content, side
