"""Claims on conditional outputs: success with a preimage, refund after the expiry.

Derived anew in every run from the channel, the preimages that are known anywhere in this tower, and the node's
mempool. What was signed is durable before it is sent; the same bytes are sent again until a block decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from domain.chain import OutPoint
from domain.channel import Channel, Claim
from domain.claiming import (
    Parent,
    WantedClaim,
    build_claim,
    claim_answered,
    claim_armed,
    claim_fee,
    claim_found,
    claim_prepared,
    claim_script,
    claim_unarmed,
    htlc_key_name,
    sign_claim,
    wanted_claims,
)
from domain.conditional import ConditionalOutput, conditional_outputs
from domain.events import AlertKind, BroadcastOutcome
from domain.punishing import Rival
from domain.settling import ReadySettlement, is_revoked_since
from domain.status import HONEST_KINDS
from watchtower.ports import Clock, Failpoint, Keystore, Node, ReadModels, Rng
from watchtower.repository import Channels
from watchtower.responder.broadcast import Broadcaster, Parcel
from watchtower.responder.journal import Journal
from watchtower.responder.runs import Run, View


class Claimant:
    """Takes what is ours of the conditional outputs. Called from the pass thread only."""

    def __init__(
        self,
        *,
        node: Node,
        channels: Channels,
        models: ReadModels,
        keystore: Keystore,
        clock: Clock,
        rng: Rng,
        failpoint: Failpoint,
        broadcaster: Broadcaster,
        journal: Journal,
        spendable: float,
    ) -> None:
        self._node = node
        self._channels = channels
        self._models = models
        self._keystore = keystore
        self._clock = clock
        self._rng = rng
        self._failpoint = failpoint
        self._broadcaster = broadcaster
        self._journal = journal
        self._spendable = spendable

    def has_work(self, channel: Channel, tip: int) -> bool:
        """Whether something is ours to take at this tip, or an alert about that stands."""
        return AlertKind.UNARMED_CLAIM in channel.alerts or bool(self._wanted(channel, tip))

    def places(self, channel: Channel, tip: int) -> list[OutPoint]:
        """What to ask the mempool about."""
        return [wanted.output.outpoint for wanted in self._wanted(channel, tip)]

    def claim(self, channel: Channel, view: View, run: Run, unpaid: ReadySettlement | None) -> tuple[Channel, bool]:
        """Send what is missing in the mempool. Returns whether `unpaid` entered the mempool with a claim as its child.

        `unpaid` is a settlement that was refused for its fee. While the settlement is in no block, mempools allow it
        one child: the most urgent claim; the others follow once it is mined.
        """
        wanted = self._wanted(channel, view.tip)
        if not wanted:
            return self._journal.record(channel, claim_armed(channel, view.tip, self._now)), False
        secret = self._keystore.get(htlc_key_name(channel.proposal_id))
        if secret is None:
            return self._journal.record(channel, claim_unarmed(channel, wanted, view.tip, self._now)), False
        channel = self._journal.record(channel, claim_armed(channel, view.tip, self._now))
        if _is_settled(channel):
            for each in wanted:
                channel, _ = self._take(channel, each, view, run, None, secret)
            return channel, False
        parent = self._parent(wanted[0].output.settle_txid, unpaid)
        if parent is None:
            return channel, False
        channel, entered = self._take(channel, _only_child(channel, wanted, view), view, run, parent, secret)
        return channel, entered and unpaid is not None

    def _wanted(self, channel: Channel, tip: int) -> list[WantedClaim]:
        return wanted_claims(channel, self._open_outputs(channel), self._models.preimage, tip)

    def _open_outputs(self, channel: Channel) -> Sequence[ConditionalOutput]:
        """Outputs that exist or may soon: nothing of a breach before its settlement won, the penalty takes it all."""
        spend = channel.confirmed_spend
        if spend is None or not (_is_settled(channel) or spend.kind in HONEST_KINDS):
            return ()
        if not _is_settled(channel) and is_revoked_since(channel, spend):
            return ()
        return conditional_outputs(channel, self._channels.closing_state(channel))

    def _parent(self, settle_txid: bytes, unpaid: ReadySettlement | None) -> Parent | None:
        """The settlement in the mempool, or the one that needs a child; None while there is neither."""
        if unpaid is not None:
            return Parent(unpaid.fee, unpaid.tx.vsize, is_standing=False)
        entry = self._node.mempool_entry(settle_txid)
        return None if entry is None else Parent(entry.fee, entry.vsize, is_standing=True)

    def _take(
        self, channel: Channel, wanted: WantedClaim, view: View, run: Run, parent: Parent | None, secret: bytes
    ) -> tuple[Channel, bool]:
        """Send the claim if it is missing or too cheap. Returns whether the node took it just now."""
        spender = view.spenders.get(wanted.output.outpoint)
        channel = self._note_presence(channel, wanted, spender, view.tip)
        last = _last(channel, wanted)
        fee = claim_fee(
            channel,
            wanted,
            tip=view.highest,
            market=view.market,
            rival=self._rival(channel, spender),
            parent=parent,
            spendable=self._spendable,
        )
        if fee is None:
            run.deferred += 1
            return channel, False
        if last is None or fee > last.fee:
            channel, last = self._prepare(channel, wanted, fee, secret)
        elif spender == last.txid:
            return channel, False
        return self._send(channel, last, view, run)

    def _prepare(self, channel: Channel, wanted: WantedClaim, fee: int, secret: bytes) -> tuple[Channel, Claim]:
        """Sign a claim and make the intent durable, before anybody hears of it."""
        unsigned = build_claim(channel.params, wanted, fee, claim_script(channel))
        tx = sign_claim(channel.params, wanted, unsigned, secret, self._rng(32))
        self._failpoint("claim_commit:before")
        channel = self._journal.record(channel, claim_prepared(wanted, tx, fee, self._now))
        self._failpoint("claim_commit:after")
        prepared = _last(channel, wanted)
        assert prepared is not None  # it was recorded a line ago, at least in memory
        return channel, prepared

    def _send(self, channel: Channel, claim: Claim, view: View, run: Run) -> tuple[Channel, bool]:
        close = channel.confirmed_spend
        settlement = None if close is None or _is_settled(channel) else channel.settlement_of(close.txid)
        parent = None if settlement is None else settlement.raw
        parcel = Parcel(channel.stream, claim.txid, claim.raw, parent)
        answer, _ = self._broadcaster.send(parcel, view.tip)
        run.claimed += answer.in_mempool
        run.outcomes.append(answer.outcome)
        answered = claim_answered(claim, answer.outcome, view.tip, self._now)
        self._failpoint("claim_result_commit:before")
        channel = self._journal.record(channel, answered)
        self._failpoint("claim_result_commit:after")
        return channel, answer.in_mempool

    def _note_presence(self, channel: Channel, wanted: WantedClaim, spender: bytes | None, tip: int) -> Channel:
        """Record our claim that stands in the mempool although the log does not say so."""
        if spender is None:
            return channel
        if all(spender != claim.txid for claim in channel.claims):
            raw = self._node.mempool_transaction(spender)
            found = [] if raw is None else claim_found(channel, wanted, raw, self._now)
            channel = self._journal.record(channel, found)
        standing = next((claim for claim in channel.claims if claim.txid == spender), None)
        if standing is None:
            return channel
        known = claim_answered(standing, BroadcastOutcome.ALREADY_KNOWN, tip, self._now)
        return self._journal.record(channel, known)

    def _rival(self, channel: Channel, spender: bytes | None) -> Rival | None:
        """The counterparty's transaction that takes the output in the mempool."""
        if spender is None or any(spender == claim.txid for claim in channel.claims):
            return None
        entry = self._node.mempool_entry(spender)
        return None if entry is None else Rival(entry.fee, entry.vsize)

    @property
    def _now(self) -> int:
        return self._clock.wall_microseconds()


def _is_settled(channel: Channel) -> bool:
    spend = channel.confirmed_spend
    end = channel.contest_spend(spend.txid) if spend is not None else None
    return end is not None and not end.is_penalty


def _last(channel: Channel, wanted: WantedClaim) -> Claim | None:
    return channel.last_claim(wanted.output.settle_txid, wanted.output.condition.key)


def _only_child(channel: Channel, wanted: Sequence[WantedClaim], view: View) -> WantedClaim:
    """The claim that has the place already, else the most urgent one."""
    ours = {claim.txid for claim in channel.claims}
    standing = (each for each in wanted if view.spenders.get(each.output.outpoint) in ours)
    return next(standing, wanted[0])
