"""One event of a channel's stream: its checks, then the channel behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from domain.chain import outpoint_txid, outpoint_vout
from domain.channel import Channel
from domain.channel_fold import evolve
from domain.errors import DomainError
from domain.events import (
    AlertCleared,
    AlertRaised,
    BreachDetected,
    ChallengeAnswered,
    ChallengeReceived,
    ChannelProposed,
    ChannelRegistered,
    ChannelResolved,
    ClaimBroadcast,
    ClaimConfirmed,
    ClaimDisconnected,
    ClaimPrepared,
    CloseProposed,
    CloseSigned,
    CommitmentPublished,
    Envelope,
    EquivocationFound,
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
    RescueSigned,
    SettleBroadcast,
    SettleConfirmed,
    SettleDisconnected,
    SettlePrepared,
    SoftFinal,
    SpendConfirmed,
    SpendDisconnected,
    SpendReplaced,
    SpendSeen,
    StateAccepted,
    StateCommitted,
    StateOffered,
    StateProposed,
    StateRevoked,
    StateUpdated,
    TowerAcknowledged,
)
from domain.recheck import bids, disputes, ends, messages, opening, spends, states
from domain.recheck.subject import HASH, ChainView, Flaw, Flaws, Glance, Subject, Tally

Check = Callable[[Glance, Any], Flaws]

CHECKS: dict[type[Payload], tuple[Check, ...]] = {
    ChannelProposed: (opening.check_proposed,),
    ChannelRegistered: (opening.check_registered,),
    FundingBroadcast: (opening.check_funding_broadcast,),
    FundingConfirmed: (opening.check_funding_confirmed,),
    FundingDisconnected: (opening.check_funding_disconnected,),
    FundingDoubleSpent: (opening.check_double_spent,),
    StateUpdated: (opening.check_first_state, states.check_update),
    StateRevoked: (states.check_revoked,),
    EquivocationFound: (states.check_equivocation,),
    StateOffered: (messages.check_offered,),
    StateProposed: (messages.check_proposed_state,),
    StateAccepted: (messages.check_accepted_state,),
    StateCommitted: (messages.check_committed_state,),
    TowerAcknowledged: (disputes.check_acknowledged,),
    CloseProposed: (spends.check_close_proposed,),
    CloseSigned: (spends.check_close_signed,),
    CommitmentPublished: (spends.check_published,),
    SpendSeen: (spends.check_seen,),
    SpendConfirmed: (spends.check_confirmed,),
    SpendReplaced: (spends.check_replaced,),
    SpendDisconnected: (spends.check_spend_undone,),
    BreachDetected: (spends.check_breach,),
    PenaltyPrepared: (bids.check_prepared,),
    PenaltyBroadcast: (bids.check_sent,),
    PenaltyRefused: (bids.check_sent,),
    PenaltyReplaced: (bids.check_sent,),
    PenaltyConfirmed: (bids.check_confirmed,),
    PenaltyDisconnected: (bids.check_disconnected,),
    SettlePrepared: (ends.check_settle_prepared,),
    SettleBroadcast: (ends.check_settle_sent,),
    SettleConfirmed: (ends.check_settle_confirmed,),
    SettleDisconnected: (ends.check_settle_undone,),
    PreimageLearned: (ends.check_preimage,),
    ClaimPrepared: (ends.check_claim_prepared,),
    ClaimBroadcast: (ends.check_claim_sent,),
    ClaimConfirmed: (ends.check_claim_confirmed,),
    ClaimDisconnected: (ends.check_claim_undone,),
    RescueSigned: (messages.check_rescue,),
    ChallengeReceived: (disputes.check_challenge,),
    ChallengeAnswered: (disputes.check_answer,),
    SoftFinal: (ends.check_soft_final,),
    ChannelResolved: (ends.check_resolved,),
    AlertRaised: (ends.check_alert,),
    AlertCleared: (ends.check_alert,),
}
"""What is looked at in which event; the others hold nothing that could be checked from the log."""

KEPT_POINTS = 4


def begin(event: Envelope, chain: ChainView, tally: Tally, *, signatures: bool) -> tuple[Subject | None, list[Flaw]]:
    """The channel of the first event of a stream; None, and why, if no channel begins with such an event."""
    payload = event.payload
    if not isinstance(payload, ChannelProposed | ChannelRegistered):
        return None, [Flaw("the stream of a channel begins with its proposal")]
    try:
        subject = Subject(evolve(None, event))
    except DomainError as error:
        return None, [Flaw(str(error))]
    if isinstance(payload, ChannelProposed):
        subject.own_points = tuple(enumerate(payload.own_points))
    return subject, list(_checked(Glance(subject, chain, tally, signatures), payload))


def recheck(glance: Glance, event: Envelope) -> Flaws:
    """What is wrong with an event; afterwards the subject stands behind it."""
    subject, payload = glance.subject, event.payload
    if subject.channel.erased:
        yield Flaw("nothing may follow on the erasure of a channel")
    yield from _checked(glance, payload)
    yield from _go_on(glance, event)


def _checked(glance: Glance, payload: Payload) -> Flaws:
    for check in CHECKS.get(type(payload), ()):
        try:
            yield from check(glance, payload)
        except DomainError as error:
            yield Flaw(str(error))


def _go_on(glance: Glance, event: Envelope) -> Flaws:
    subject, payload = glance.subject, event.payload
    if isinstance(payload, StateCommitted):
        whole = messages.completed(glance, payload)
        subject.offer = subject.proposal = subject.acceptance = None
        if whole is not None:
            event = Envelope(event.stream, event.version, whole.TOPIC, whole)
            payload = whole
    before = subject.channel
    try:
        subject.channel = evolve(before, event)
    except DomainError as error:  # a revealed secret that contradicts the earlier ones
        yield Flaw(str(error).split(";", maxsplit=1)[0], is_forged=True)
        subject.channel = msgspec.structs.replace(_without_secret(before, payload), version=event.version)
    if isinstance(payload, StateUpdated):
        _note_own_commit(subject, payload)
    elif isinstance(payload, CloseProposed):
        subject.closes[payload.txid] = payload
    if subject.is_party:
        _note_exchange(subject, payload)


def _without_secret(channel: Channel, payload: Payload) -> Channel:
    """The fold as if the counterparty's secret had not been revealed, but its next point had."""
    if isinstance(payload, StateUpdated) and payload.next_point is not None:
        bare = msgspec.structs.replace(payload, revoked_secret=None, next_point=None)
        return _shifted(evolve(channel, Envelope(channel.stream, 0, bare.TOPIC, bare)), payload.next_point)
    if isinstance(payload, StateRevoked):
        return _shifted(channel, payload.next_point)
    return channel


def _shifted(channel: Channel, next_point: bytes) -> Channel:
    if channel.points is None:
        return channel
    points = (channel.points[1], next_point)
    return msgspec.structs.replace(channel, highest_revoked=channel.highest_revoked + 1, points=points)


def _note_own_commit(subject: Subject, payload: StateUpdated) -> None:
    """The txid of the own commitment, at the place of its number."""
    if len(subject.own_commits) == HASH * payload.sequence:
        subject.own_commits += subject.channel.states[-1].read_header().commit_txid(subject.channel.own_side)


def _note_exchange(subject: Subject, payload: Payload) -> None:
    match payload:
        case FundingBroadcast() if not subject.channel.params.is_funding_known:
            txid, vout = outpoint_txid(payload.outpoint), outpoint_vout(payload.outpoint)
            named = subject.channel.params.with_funding(txid, vout)
            subject.channel = msgspec.structs.replace(subject.channel, params=named)
        case StateOffered():
            subject.offer, subject.proposal, subject.acceptance = payload, None, None
        case StateProposed():
            subject.proposal = payload
        case StateAccepted():
            subject.acceptance = payload
        case StateRevoked() if payload.party is subject.channel.own_side:
            points = (*subject.own_points, (payload.sequence + 2, payload.next_point))
            subject.own_points = points[-KEPT_POINTS:]
