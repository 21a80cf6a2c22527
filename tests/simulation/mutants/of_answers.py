"""Planted bugs of the responder: when it answers, how often, whom, and what it makes of a refusal."""

from __future__ import annotations

from collections.abc import Sequence

import watchtower.responder.punish as punishing
import watchtower.responder.resend as resending
import watchtower.responder.respond as responding
import watchtower.responder.settle as settling
from domain.channel import Channel, Spend
from domain.events import BroadcastOutcome, SpendKind
from domain.punishing import Price, breach_to_answer
from tests.simulation.mutants.planting import Mutant
from watchtower.responder.punish import Case, Due, Punisher
from watchtower.responder.respond import Responder
from watchtower.responder.runs import Run, View

DEFINITE = frozenset(BroadcastOutcome) - {
    BroadcastOutcome.ACCEPTED,
    BroadcastOutcome.ALREADY_KNOWN,
    BroadcastOutcome.UNKNOWN,
}

_next, _send, _durable = Punisher._next, Punisher._send, Punisher._make_durable
_wants_answer = Responder._wants_answer


def _once(punisher: Punisher, case: Case, wanted: Price, view: View) -> Due | None:
    bids = case.channel.bids_on(case.breach.txid)
    return None if any(bid.accepted for bid in bids) else _next(punisher, case, wanted, view)


def _on_a_change(responder: Responder, channel: Channel, tip: int) -> bool:
    answered: dict[str, int] = vars(responder).setdefault("answered", {})
    is_news = answered.get(channel.stream) != channel.sequence + len(channel.spends)
    answered[channel.stream] = channel.sequence + len(channel.spends)
    return is_news and _wants_answer(responder, channel, tip)


def _deleted(punisher: Punisher) -> set[bytes]:
    """What the tower has given up, in the only thing that outlives a process."""
    found: set[bytes] = vars(punisher._journal._store).setdefault("given_up", set())
    return found


def _delete_the_refused(punisher: Punisher, cases: Sequence[Case], view: View, run: Run) -> list[Case]:
    raised = _send(punisher, cases, view, run)
    for case in cases:
        bids = punisher._journal._channels.load(case.stream).bids_on(case.breach.txid)
        if bids and bids[-1].outcome is BroadcastOutcome.REJECTED:
            _deleted(punisher).add(case.breach.txid)
    return raised


def _none_for_the_deleted(punisher: Punisher, case: Case, wanted: Price, view: View) -> Due | None:
    return None if case.breach.txid in _deleted(punisher) else _next(punisher, case, wanted, view)


def _never_after_a_refusal(punisher: Punisher, case: Case, wanted: Price, view: View) -> Due | None:
    bids = case.channel.bids_on(case.breach.txid)
    refused = bids and bids[-1].outcome in DEFINITE
    return None if refused else _next(punisher, case, wanted, view)


def _send_first(punisher: Punisher, due: Sequence[Due]) -> list[Case]:
    for one in due:
        if one.signed is not None:
            punisher._broadcaster._alone(one.signed.tx.serialize())
    return _durable(punisher, due)


def _the_first_one_seen(channel: Channel) -> Spend | None:
    first = next((spend for spend in channel.spends if spend.kind is SpendKind.BREACH), None)
    return first if breach_to_answer(channel) is not None else None


def _the_least_urgent(responder: Responder, tip: int, run: Run) -> list[Channel]:
    return _work(responder, tip, run)[-1:]


_work = Responder._work


ANSWERS: Sequence[Mutant] = (
    Mutant(
        "published-once",
        "a penalty that the node took once is never sent or raised again",
        "lnd tower",
        ("O1",),
        ((Punisher, "_next", _once), (responding, "parcels_of", lambda channel: ([], []))),
    ),
    Mutant(
        "edge-triggered",
        "a breach is answered when it is found, and not looked at again",
        "lnd tower",
        ("O1",),
        ((Responder, "_wants_answer", _on_a_change),),
    ),
    Mutant(
        "refusal-deletes",
        "a refusal that is not understood removes the case for good",
        "TEOS",
        ("O1",),
        ((Punisher, "_send", _delete_the_refused), (Punisher, "_next", _none_for_the_deleted)),
    ),
    Mutant(
        "refusal-is-final",
        "after any refusal a bid is neither repeated nor raised",
        "lnd sweeper's TxFatal",
        ("O1",),
        ((Punisher, "_next", _never_after_a_refusal),),
    ),
    Mutant(
        "sent-before-durable",
        "a penalty is sent before the intent is in the log",
        "own",
        ("O5",),
        ((Punisher, "_make_durable", _send_first),),
    ),
    Mutant(
        "first-commitment-counts",
        "the first stale commitment that was seen is answered, whichever is in the block",
        "own",
        ("O1", "O7"),
        (
            (punishing, "breach_to_answer", _the_first_one_seen),
            (responding, "breach_to_answer", _the_first_one_seen),
        ),
    ),
    Mutant(
        "least-urgent-alone",
        "of several open cases a run serves the one with the most time left",
        "own",
        ("O1",),
        ((Responder, "_work", _the_least_urgent),),
    ),
    Mutant(
        "settled-for-the-cheater",
        "a close whose secret came late is settled all the same",
        "own",
        ("O6",),
        (
            (settling, "is_revoked_since", lambda channel, close: False),
            (resending, "is_revoked_since", lambda channel, close: False),
        ),
    ),
)

__all__ = ["ANSWERS"]
