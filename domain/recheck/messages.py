"""The exchange of a state in the log of a party, message by message; its end is the same as one `StateUpdated`."""

from __future__ import annotations

from domain.channel import attach_descriptors
from domain.contract.conditions import decode_conditions
from domain.contract.form import form_of
from domain.contract.header import StateHeader
from domain.contract.rescue import build_rescue, rescue_sighash
from domain.contract.state import StateTransactions
from domain.events import (
    RescueSigned,
    SignatureSet,
    StateAccepted,
    StateCommitted,
    StateOffered,
    StateProposed,
    StateUpdated,
)
from domain.recheck.states import (
    before,
    check_commit_signature,
    check_content,
    check_header_signature,
    check_numbers,
    check_settle_signatures,
    rebuilt,
)
from domain.recheck.subject import Flaw, Flaws, Glance
from domain.transaction import Transaction, TxOut
from domain.units import Side

_BLANK = bytes(64)


def check_offered(glance: Glance, event: StateOffered) -> Flaws:
    """Sums and hashes of an offer; it binds nobody yet."""
    header = StateHeader.decode(event.header)
    yield from check_numbers(event.sequence, (event.balance_a, event.balance_b), header)
    conditions = attach_descriptors(decode_conditions(event.conditions), event.descriptors)
    yield from check_content(glance.channel.params, header, conditions, event.state_data, before(glance.channel))


def check_proposed_state(glance: Glance, event: StateProposed) -> Flaws:
    """Three signatures of the proposer on the offered content."""
    offer = glance.subject.offer
    if offer is None or offer.sequence != event.sequence:
        yield Flaw(f"state {event.sequence} was proposed without an offer")
        return
    header = StateHeader.decode(offer.header)
    if event.state_hash != header.state_hash:
        yield Flaw(f"the proposal names another content for state {event.sequence} than was offered")
    signed = SignatureSet(event.state_sig, event.settle_a, event.settle_b, _BLANK)
    yield from _check_three(glance, header, event.by, signed)


def check_accepted_state(glance: Glance, event: StateAccepted) -> Flaws:
    """All four signatures of the acceptor."""
    offer, proposal = glance.subject.offer, glance.subject.proposal
    if offer is None or proposal is None or (offer.sequence, proposal.by) != (event.sequence, event.by.other):
        yield Flaw(f"state {event.sequence} was accepted without a proposal of the other side")
        return
    header = StateHeader.decode(offer.header)
    signed = SignatureSet(event.state_sig, event.settle_a, event.settle_b, event.commit_peer)
    yield from _check_three(glance, header, event.by, signed)
    built, _ = _transactions(glance, header)
    if built is not None and glance.signatures:
        yield from check_commit_signature(glance, built, event.by, event.commit_peer)


def check_committed_state(glance: Glance, event: StateCommitted) -> Flaws:
    """The proposer's signature on the acceptor's commitment: now all eight are there."""
    subject = glance.subject
    if subject.offer is None or subject.acceptance is None or subject.acceptance.by is not event.by.other:
        yield Flaw(f"state {event.sequence} was completed before the other side had accepted it")
        return
    built, _ = _transactions(glance, StateHeader.decode(subject.offer.header))
    if built is not None and glance.signatures:
        yield from check_commit_signature(glance, built, event.by, event.commit_peer)


def completed(glance: Glance, event: StateCommitted) -> StateUpdated | None:
    """The whole exchange as one event; None if a message of it is missing."""
    subject = glance.subject
    offer, first, second = subject.offer, subject.proposal, subject.acceptance
    own_point = subject.own_point(event.sequence)
    if offer is None or first is None or second is None or own_point is None:
        return None
    proposer = SignatureSet(first.state_sig, first.settle_a, first.settle_b, event.commit_peer)
    acceptor = SignatureSet(second.state_sig, second.settle_a, second.settle_b, second.commit_peer)
    pair = (proposer, acceptor) if event.by is Side.A else (acceptor, proposer)
    return StateUpdated(
        recorded_at=event.recorded_at,
        sequence=offer.sequence,
        header=offer.header,
        balance_a=offer.balance_a,
        balance_b=offer.balance_b,
        conditions=offer.conditions,
        state_data=offer.state_data,
        sigs_a=pair[0],
        sigs_b=pair[1],
        revoked_secret=None,
        next_point=None,
        tip_height=0,
        own_point=own_point,
        descriptors=offer.descriptors,
    )


def _check_three(glance: Glance, header: StateHeader, by: Side, signed: SignatureSet) -> Flaws:
    built, flaws = _transactions(glance, header)
    yield from flaws
    if not glance.signatures:
        return
    yield from check_header_signature(glance, header, by, signed.state)
    if built is not None:
        yield from check_settle_signatures(glance, built, ((by, signed),))


def _transactions(glance: Glance, header: StateHeader) -> tuple[StateTransactions | None, tuple[Flaw, ...]]:
    offer, own_point = glance.subject.offer, glance.subject.own_point(header.seq)
    if offer is None or own_point is None:
        return None, (Flaw(f"the own point of state {header.seq} is not in the log"),)
    points = glance.subject.points_of(header.seq, own_point)
    if points is None:
        return None, (Flaw(f"the counterparty's point of state {header.seq} was not announced before"),)
    conditions = tuple(attach_descriptors(decode_conditions(offer.conditions), offer.descriptors))
    built, flaws = rebuilt(glance, header, conditions, points)
    return built, tuple(flaws)


def check_rescue(glance: Glance, event: RescueSigned) -> Flaws:
    """A joint settlement rebuilt from its amounts, and signed by the one it names."""
    params = glance.channel.params
    key = glance.channel.revocation_key(event.side, event.sequence)
    outputs = [TxOut(event.amounts[side], params.keys(side).payout) for side in Side if event.amounts[side]]
    tx = build_rescue(params, event.commit_txid, outputs)
    glance.tally.transactions += 1
    if event.raw is not None and Transaction.parse(event.raw).txid != tx.txid:
        yield Flaw("the joint settlement rebuilt from its amounts is another transaction")
    if key is None or not glance.signatures:
        return
    glance.tally.signatures += 1
    message = rescue_sighash(params, tx, key)
    if not form_of(params).verify_settle(params.keys(event.by).settle, message, event.signature):
        yield Flaw(f"the signature of {event.by.name} on the joint settlement does not verify", is_forged=True)
