"""One English sentence per event, for the history of a channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from domain.chain import display
from domain.events import (
    AlertCleared,
    AlertRaised,
    BreachDetected,
    ChallengeAnswered,
    ChallengeReceived,
    ChannelAbandoned,
    ChannelErased,
    ChannelFrozen,
    ChannelProposed,
    ChannelRegistered,
    ChannelResolved,
    ChannelUnfrozen,
    ClaimBroadcast,
    ClaimConfirmed,
    ClaimDisconnected,
    ClaimPrepared,
    CloseProposed,
    CloseSigned,
    CommitmentPublished,
    EquivocationFound,
    FeeChildPrepared,
    FundingBroadcast,
    FundingConfirmed,
    FundingDisconnected,
    FundingDoubleSpent,
    HoldingsConfirmed,
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
    Source,
    SpendConfirmed,
    SpendDisconnected,
    SpendKind,
    SpendReplaced,
    SpendSeen,
    StateAccepted,
    StateCommitted,
    StateOffered,
    StateProposed,
    StateRevoked,
    StateUpdated,
    TowerAcknowledged,
    TurnYielded,
)

_SPEND = {
    SpendKind.COOP: "cooperative close",
    SpendKind.OWN_CLOSE: "own commitment",
    SpendKind.SELF_BREACH: "own revoked commitment",
    SpendKind.BREACH: "revoked commitment",
    SpendKind.PEER_CLOSE: "counterparty's commitment",
    SpendKind.FUTURE_STATE: "commitment of a state that is not known here",
    SpendKind.UNKNOWN_SPEND: "unknown spend",
}


def sentence(payload: Payload) -> str:
    """What happened, in at most about 120 characters; transactions by their first eight digits."""
    describe = _SENTENCES.get(type(payload))
    return type(payload).__name__ if describe is None else describe(payload)


def _short(txid: bytes) -> str:
    return display(txid)[:8]


def _words(name: str) -> str:
    return name.lower().replace("_", " ")


def _sat(amount: int) -> str:
    return f"{amount:,} sat"


def _spend(event: SpendSeen | SpendConfirmed) -> str:
    kind = _SPEND.get(event.kind, "unknown spend")
    number = "" if event.sequence is None else f" of state {event.sequence}"
    return f"{kind}{number} ({_short(event.txid)})"


def _breach(event: BreachDetected) -> str:
    until = "unconfirmed" if event.deadline is None else f"deadline {event.deadline}"
    who = f"{event.side.name} published revoked state {event.sequence}"
    return f"BREACH: {who}, {_sat(event.contest_value)} contested, {until}"


def _bid(event: PenaltyPrepared) -> str:
    rate = event.feerate_kvb / 1000
    return f"Penalty {_short(event.txid)} prepared: bid {event.bid_no}, fee {_sat(event.fee)} ({rate:.1f} sat/vB)"


def _revoked(event: StateRevoked) -> str:
    return f"State {event.sequence} revoked by {event.party.name}"


def _update(event: StateUpdated) -> str:
    return f"State {event.sequence} complete: A {_sat(event.balance_a)}, B {_sat(event.balance_b)}"


def _replaced(what: str, event: SpendReplaced | PenaltyReplaced) -> str:
    by = "evicted from the mempool" if event.by is None else f"replaced by {_short(event.by)}"
    return f"{what} {_short(event.txid)} {by}"


def _settled(event: SettleConfirmed) -> str:
    lost = "LOST: settlement of a revoked state" if event.revoked else f"Settlement of state {event.sequence}"
    return f"{lost} confirmed ({_short(event.txid)}), {_sat(event.value)}"


def _swept(event: PenaltyConfirmed) -> str:
    return f"Penalty {_short(event.txid)} confirmed: {_sat(event.swept)} swept, fee {_sat(event.fee)}"


def _condition(event: ClaimPrepared | ClaimConfirmed) -> str:
    kind = {0: "HTLC A→B", 1: "HTLC B→A"}.get(event.condition_type, "descriptor output")
    return f"{kind} {event.condition_id}"


def _taken(event: ClaimConfirmed) -> str:
    who = "by us" if event.ours else "by the counterparty"
    late = " although it was ours to take" if event.missed else ""
    return f"{_condition(event)} taken {who}{late}: {_sat(event.value)}"


_SENTENCES: dict[type[Payload], Callable[[Any], str]] = {
    ChannelProposed: lambda e: f"Channel proposed by {e.own_side.name}'s side",
    ChannelRegistered: lambda e: f"Channel registered, watching {e.watched.name} ({_words(e.mode.name)})",
    ChannelAbandoned: lambda e: f"Opening given up: {_words(e.reason.name)}",
    FundingBroadcast: lambda e: (
        f"Funding transaction {'seen in the mempool' if e.source is Source.MEMPOOL else 'kept'}"
    ),
    FundingConfirmed: lambda _: "Funding confirmed",
    FundingDisconnected: lambda _: "Block with the funding left the active chain",
    FundingDoubleSpent: lambda e: f"Funding double-spent by {_short(e.conflict)}: the channel is void",
    StateOffered: lambda e: f"State {e.sequence} offered by {e.by.name}",
    StateProposed: lambda e: f"State {e.sequence} proposed by {e.by.name}",
    StateAccepted: lambda e: f"State {e.sequence} accepted by {e.by.name}",
    StateCommitted: lambda e: f"State {e.sequence} committed by {e.by.name}",
    StateRevoked: _revoked,
    StateUpdated: _update,
    TowerAcknowledged: lambda e: f"Tower acknowledged state {e.sequence}",
    ChannelFrozen: lambda e: f"Channel frozen: {_words(e.reason.name)}",
    TurnYielded: lambda e: f"{e.by.name} handed over the proposal of state {e.sequence}",
    HoldingsConfirmed: lambda e: f"Owner compared after restore {e.epoch}: all up to state {e.sequence} is here",
    ChannelUnfrozen: lambda e: f"Channel unfrozen: state {e.sequence} is the newest ({_words(e.reported_by.name)})",
    EquivocationFound: lambda e: f"Counterparty signed a second content for state {e.sequence}",
    CloseProposed: lambda e: f"Cooperative close proposed by {e.by.name}, fee {_sat(e.fee)}",
    CloseSigned: lambda e: f"Cooperative close signed by {e.by.name}",
    CommitmentPublished: lambda e: f"Own commitment of state {e.sequence} is about to be published",
    SpendSeen: lambda e: f"In the mempool: {_spend(e)}",
    SpendReplaced: lambda e: _replaced("Spend", e),
    SpendConfirmed: lambda e: f"Confirmed: {_spend(e)}",
    SpendDisconnected: lambda e: f"Block with spend {_short(e.txid)} left the active chain",
    FeeChildPrepared: lambda e: f"Child of {_short(e.parent_txid)} prepared, fee {_sat(e.fee)}",
    BreachDetected: _breach,
    PenaltyPrepared: _bid,
    PenaltyBroadcast: lambda e: f"Penalty {_short(e.txid)} accepted by the node",
    PenaltyRefused: lambda e: f"Penalty {_short(e.txid)} refused by the node: {_words(e.outcome.name)}",
    PenaltyReplaced: lambda e: _replaced("Penalty", e),
    PenaltyConfirmed: _swept,
    PenaltyDisconnected: lambda e: f"Block with penalty {_short(e.txid)} left the active chain",
    SettlePrepared: lambda e: f"Settlement {_short(e.txid)} prepared, valid from block {e.valid_from}",
    SettleBroadcast: lambda e: f"Settlement {_short(e.txid)} accepted by the node",
    SettleConfirmed: _settled,
    SettleDisconnected: lambda e: f"Block with settlement {_short(e.txid)} left the active chain",
    PreimageLearned: lambda e: (
        f"Preimage of payment {e.payment_hash.hex()[:8]} {'became public' if e.txid else 'is known'}"
    ),
    ClaimPrepared: lambda e: f"Claim {_short(e.txid)} of {_condition(e)} prepared, fee {_sat(e.fee)}",
    ClaimBroadcast: lambda e: f"Claim {_short(e.txid)} accepted by the node",
    ClaimConfirmed: _taken,
    ClaimDisconnected: lambda e: f"Block with claim {_short(e.txid)} left the active chain",
    RescueSigned: lambda e: f"Joint settlement of state {e.sequence} signed by {e.by.name}",
    ChallengeReceived: lambda e: f"Challenge of state {e.sequence}: {_words(e.verdict.name)}",
    ChallengeAnswered: lambda e: f"Challenge answered: {_words(e.outcome.name)}",
    SoftFinal: lambda e: f"Transaction {_short(e.txid)} is {e.depth} blocks deep",
    ChannelErased: lambda e: f"Keys erased: {_words(e.reason.name)}",
    ChannelResolved: lambda e: f"Resolved: {_words(e.outcome.name)}, {e.depth} blocks deep",
    AlertRaised: lambda e: f"ALERT: {_words(e.kind.name)}",
    AlertCleared: lambda e: f"Alert ended: {_words(e.kind.name)}",
}
