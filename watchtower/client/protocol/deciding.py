"""Which decision a message of the peer asks for."""

from __future__ import annotations

from contextlib import suppress

from domain.contract.state import StateHeader
from domain.errors import DomainError, MalformedInput
from watchtower.client.protocol import acceptor, closing, freezing, htlcs, opening, proposer, reestablish, rescuing
from watchtower.client.protocol.messages import (
    AnyMessage,
    CloseAccept,
    ClosePropose,
    CloseProposeMusig,
    CloseSignedMusig,
    FundingFixed,
    HtlcFail,
    HtlcFulfil,
    HtlcNote,
    Reestablish,
    RescueAccept,
    RescuePropose,
    UpdateAccept,
    UpdateCommit,
    UpdateOffer,
    UpdateOfferOk,
    UpdatePropose,
    UpdateReject,
    UpdateRevoke,
    UpdateYield,
)
from watchtower.client.protocol.resend import reject_message
from watchtower.client.protocol.seat import NOTHING, Seat, Step

UPDATES = (
    UpdateOffer,
    UpdateOfferOk,
    UpdateYield,
    UpdateReject,
    UpdatePropose,
    UpdateAccept,
    UpdateCommit,
    UpdateRevoke,
)

OLD_COPY_HIDES = (*UPDATES, HtlcFulfil, HtlcFail, ClosePropose, CloseProposeMusig)
"""Messages whose ordinary answer depends on which state the log holds."""


def decide(seat: Seat, message: AnyMessage) -> Step:
    """The step that a message causes; `MalformedInput` for one that has no place in an open channel.

    `CloseAcceptMusig` is not among them: it needs the signing session, which lives in the party's memory.
    """
    if seat.channel.old_copy and isinstance(message, OLD_COPY_HIDES):
        return _unsaid(seat, message)
    return _decided(seat, message)


def _decided(seat: Seat, message: AnyMessage) -> Step:  # noqa: C901, PLR0911, PLR0912 - one line per message
    match message:
        case FundingFixed():
            return opening.on_funding_fixed(seat, message)
        case UpdateOffer():
            return acceptor.on_offer(seat, message)
        case UpdateOfferOk():
            return proposer.on_offer_ok(seat, message)
        case UpdateYield():
            return proposer.on_yield(seat, message)
        case HtlcFulfil():
            return htlcs.on_fulfil(seat, message)
        case HtlcFail():
            return htlcs.on_fail(seat, message)
        case HtlcNote():
            return htlcs.on_note(seat, message)
        case UpdateReject():
            return proposer.on_reject(seat, message)
        case UpdatePropose():
            return acceptor.on_propose(seat, message)
        case UpdateAccept():
            return proposer.on_accept(seat, message)
        case UpdateCommit():
            return acceptor.on_commit(seat, message)
        case UpdateRevoke():
            return proposer.on_revoke(seat, message)
        case Reestablish():
            return reestablish.on_reestablish(seat, message)
        case ClosePropose():
            return closing.on_close_propose(seat, message)
        case CloseAccept():
            return closing.on_close_accept(seat, message)
        case CloseProposeMusig():
            return closing.on_close_propose_musig(seat, message)
        case CloseSignedMusig():
            return closing.on_close_signed_musig(seat, message)
        case RescuePropose():
            return rescuing.on_rescue_propose(seat, message)
        case RescueAccept():
            return rescuing.on_rescue_accept(seat, message)
    raise MalformedInput(f"{type(message).__name__} is not expected in an open channel")


def _unsaid(seat: Seat, message: AnyMessage) -> Step:
    """The answer of an old copy, the same for every number: no repetition and no other error betrays its own.

    HTLCs betray it as well, for each stands in some states only: what is said about them meets silence, and a preimage
    that fits is kept. Only equivocation is said: whoever finds the number that way has frozen the channel for good.
    """
    refusal = freezing.refuse_quietly(seat)
    match message:
        case UpdateOffer():
            found = acceptor.on_offer(seat, message)
            if found.refusal is not None:
                return found
            return Step(messages=(reject_message(seat, StateHeader.decode(message.header), str(refusal)),))
        case HtlcFulfil() | HtlcFail():
            with suppress(DomainError):
                return _decided(seat, message)
            return NOTHING
        case ClosePropose() | CloseProposeMusig() if seat.approved_close == message.final_balances:
            return _decided(seat, message)
        case ClosePropose() | CloseProposeMusig():
            return Step(refusal=closing.unapproved(seat))
    return Step(refusal=refusal)
