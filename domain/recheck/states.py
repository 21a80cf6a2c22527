"""States, revocations and the signatures of both: the checks of acceptance, made again (protocol 5.1, 5.3, 6.2)."""

from __future__ import annotations

from collections.abc import Sequence

from domain.channel import Channel, attach_descriptors
from domain.contract.conditions import Condition, decode_conditions
from domain.contract.form import form_of
from domain.contract.header import PreviousState, StateHeader
from domain.contract.keys import is_public_key, verify_schnorr
from domain.contract.params import ChannelParams
from domain.contract.revocation import check_secret, derive_secret, index_of, insert_secret
from domain.contract.state import NOT_GIVEN, StateTransactions, check_state, state_transactions
from domain.contract.state_rules import StatePolicy
from domain.errors import DomainError, InvalidSecret
from domain.events import EquivocationFound, SignatureSet, SpendKind, StateRevoked, StateUpdated
from domain.recheck.subject import Flaw, Flaws, Glance
from domain.units import Side

ANY_POLICY = StatePolicy(max_conditions=65_535, max_dust_exposure_sat=2**51, max_state_data=65_536)
"""Limits are the installation's; what it once allowed stays right."""


def check_update(glance: Glance, event: StateUpdated) -> Flaws:
    """A complete state: place, sums and hashes, both commitments and settlements rebuilt, eight signatures."""
    channel = glance.channel
    header = StateHeader.decode(event.header)
    yield from check_numbers(event.sequence, (event.balance_a, event.balance_b), header)
    conditions = tuple(attach_descriptors(decode_conditions(event.conditions), event.descriptors))
    previous = before(channel)
    yield from check_content(channel.params, header, conditions, event.state_data, previous)
    if previous is not None and channel.highest_revoked < previous.seq - 1:
        yield Flaw(f"state {event.sequence} was stored before state {previous.seq - 1} was revoked")
    if not is_public_key(event.own_point):
        yield Flaw("own_point is not a point on the curve")
        return
    points = glance.subject.points_of(event.sequence, event.own_point)
    if points is None:
        yield Flaw(f"the counterparty's point of state {event.sequence} was not announced before")
    signed = ((Side.A, event.sigs_a), (Side.B, event.sigs_b))
    if glance.signatures:
        for side, signatures in signed:
            yield from check_header_signature(glance, header, side, signatures.state)
        if points is not None:
            built, flaws = rebuilt(glance, header, conditions, points)
            yield from flaws
            yield from () if built is None else _check_transactions(glance, built, signed, event.sequence)
    if event.revoked_secret is not None and event.next_point is not None:
        yield from check_revocation(glance, event.sequence - 1, event.revoked_secret, event.next_point)
    elif event.revoked_secret is not None or event.next_point is not None:
        yield Flaw("revoked_secret and next_point belong together, the event has one of them only")


def before(channel: Channel) -> PreviousState | None:
    """What the next state is compared with, with the hash that the fold has worked out already."""
    if not channel.states:
        return None
    newest = channel.states[-1].read_header()
    return PreviousState(newest.seq, channel.state_hash, newest.balance_a, newest.balance_b, newest.app_id)


def check_numbers(sequence: int, balances: tuple[int, int], header: StateHeader) -> Flaws:
    """The integers beside the header repeat what it says."""
    if (sequence, *balances) != (header.seq, *header.balances):
        yield Flaw(
            f"the header says state {header.seq} with {header.balance_a} and {header.balance_b} sat, the event says "
            f"state {sequence} with {balances[0]} and {balances[1]} sat"
        )


def check_content(
    params: ChannelParams,
    header: StateHeader,
    conditions: Sequence[Condition],
    state_data: bytes,
    previous: PreviousState | None,
) -> Flaws:
    """Rules 1 to 5 of protocol 5.1."""
    try:
        check_state(params, header, conditions, state_data, previous, ANY_POLICY)
    except DomainError as error:
        yield Flaw(f"state {header.seq}: {error}")


def rebuilt(
    glance: Glance, header: StateHeader, conditions: Sequence[Condition], points: tuple[bytes, bytes]
) -> tuple[StateTransactions | None, Sequence[Flaw]]:
    """The four transactions of a state, or why the header names others."""
    glance.tally.transactions += 4
    try:
        return state_transactions(glance.channel.params, header, conditions, points), ()
    except DomainError as error:
        return None, (Flaw(f"state {header.seq}: {error}"),)


def check_header_signature(glance: Glance, header: StateHeader, side: Side, signature: bytes) -> Flaws:
    """`state_sig` of one side."""
    glance.tally.signatures += 1
    if not verify_schnorr(glance.channel.params.keys(side).auth, header.state_hash, signature):
        yield forged("state", side, header.seq)


def check_settle_signatures(
    glance: Glance, built: StateTransactions, given: Sequence[tuple[Side, SignatureSet]]
) -> Flaws:
    """Signatures of one or both sides on both settlements."""
    params = glance.channel.params
    form = form_of(params)
    for of_side in Side:
        message = form.settle_message(params, built.settlements[of_side], built.revocation_keys[of_side])
        for side, signatures in given:
            signature = signatures.settle_a if of_side is Side.A else signatures.settle_b
            glance.tally.signatures += 1
            if not form.verify_settle(params.keys(side).settle, message, signature):
                yield forged(f"settle_{of_side.name}", side)


def check_commit_signature(glance: Glance, built: StateTransactions, side: Side, signature: bytes) -> Flaws:
    """`commit_peer` of one side, which is on the other side's commitment."""
    params = glance.channel.params
    form = form_of(params)
    message = form.funding_message(params, built.commits[side.other])
    glance.tally.signatures += 1
    if not form.verify(params.keys(side).fund, message, signature):
        yield forged("commit_peer", side)


def _check_transactions(
    glance: Glance, built: StateTransactions, signed: Sequence[tuple[Side, SignatureSet]], sequence: int
) -> Flaws:
    yield from check_settle_signatures(glance, built, signed)
    for side, signatures in signed:
        if signatures.commit_peer != NOT_GIVEN or not _was_published(glance.channel, side, sequence):
            yield from check_commit_signature(glance, built, side, signatures.commit_peer)


def _was_published(channel: Channel, side: Side, sequence: int) -> bool:
    """Whether the counterparty had this state on chain before it was stored: then it kept its last signature back."""
    return side is channel.counterparty and any(
        spend.sequence == sequence and spend.kind in (SpendKind.PEER_CLOSE, SpendKind.FUTURE_STATE)
        for spend in channel.spends
    )


def forged(name: str, side: Side, sequence: int | None = None) -> Flaw:
    """A signature that does not verify."""
    of = "" if sequence is None else f" for state {sequence}"
    return Flaw(f"signature {name} of {side.name}{of} does not verify on the rebuilt bytes", is_forged=True)


def check_revocation(glance: Glance, sequence: int, secret: bytes, next_point: bytes) -> Flaws:
    """A revealed secret is that of the announced point; that it explains the earlier ones is found by the fold."""
    channel = glance.channel
    if not is_public_key(next_point):
        yield Flaw("next_point is not a point on the curve")
    if sequence != channel.highest_revoked + 1 or channel.points is None:
        yield Flaw(
            f"state {sequence} was revoked, but the revocation of state {channel.highest_revoked + 1} comes next"
        )
        return
    if not glance.signatures:
        return
    glance.tally.secrets += 1
    try:
        check_secret(secret, channel.points[0])
    except InvalidSecret as error:
        yield Flaw(f"the secret of state {sequence}: {_short(error)}", is_forged=True)


def check_revoked(glance: Glance, event: StateRevoked) -> Flaws:
    """A revocation by itself: the counterparty's with its secret, the own one as a number that rises."""
    channel = glance.channel
    if event.party is channel.counterparty:
        if event.secret is None:
            yield Flaw("a revocation of the counterparty holds no secret")
            return
        yield from check_revocation(glance, event.sequence, event.secret, event.next_point)
        return
    if event.secret is not None:
        yield Flaw("an own secret stands in the log")
    if event.sequence <= channel.own_released:
        yield Flaw(f"own state {event.sequence} was released after state {channel.own_released}")
    if event.sequence >= channel.sequence:
        yield Flaw(f"own state {event.sequence} was released before a later state was stored")
    if not is_public_key(event.next_point):
        yield Flaw("next_point is not a point on the curve")


def check_equivocation(glance: Glance, event: EquivocationFound) -> Flaws:
    """The offered header is another one for the same number, and signed by the counterparty if a signature is kept."""
    channel, offered = glance.channel, StateHeader.decode(event.offered_header)
    if offered.channel_id != channel.params.channel_id or offered.seq != event.sequence:
        yield Flaw(f"the offered header is not one for state {event.sequence} of this channel")
    if offered.state_hash == event.stored_state_hash:
        yield Flaw(f"the offered header for state {event.sequence} is the stored one")
    if event.offered_sig is not None and glance.signatures:
        yield from check_header_signature(glance, offered, channel.counterparty, event.offered_sig)


def check_buckets(glance: Glance, buckets: Sequence[tuple[int, bytes]], highest_revoked: int) -> Flaws:
    """Secrets that came with a registration explain each other and reach to the highest revoked state."""
    if not glance.signatures:
        return
    gathered: tuple[tuple[int, bytes], ...] = ()
    try:
        for index, secret in sorted(buckets, reverse=True):
            glance.tally.secrets += 1
            gathered = insert_secret(gathered, secret, index)
    except DomainError as error:
        yield Flaw(f"the secrets of the registration: {_short(error)}", is_forged=True)
    if highest_revoked >= 0 and derive_secret(tuple(buckets), index_of(highest_revoked)) is None:
        yield Flaw(f"the secret of the highest revoked state {highest_revoked} is missing", is_forged=True)


def _short(error: DomainError) -> str:
    return str(error).split(";", maxsplit=1)[0]
