"""What a party does with HTLCs in one update: add, fulfil, fail, expire (protocol 3.5).

A `Change` is turned into the content of the next state. Fulfilling stores the preimage before it is sent, and the
peer gets it before the offer, for it agrees to pay only against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec

from domain.contract.conditions import Condition, ConditionKey, check_condition
from domain.errors import ChannelNotReady, InvalidSecret, InvalidState, MalformedInput
from domain.events import PreimageLearned, Source
from domain.expiry import claim_margin, last_claim_height
from domain.units import Side
from watchtower.client.protocol import proposer
from watchtower.client.protocol.messages import HtlcFail, HtlcFulfil, HtlcNote, Message, NoteHex
from watchtower.client.protocol.resend import name_of
from watchtower.client.protocol.seat import NOTHING, Seat, Step, require_open
from watchtower.wire.hexes import Hex32


class NewHtlc(msgspec.Struct, frozen=True):
    """An HTLC that this side offers: satoshi, SHA-256 of the preimage, height; a note for its receiver (≤ 4096 B)."""

    amount: int
    payment_hash: bytes
    expiry: int
    note: bytes | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one update changes, seen from this side.

    `pay` moves satoshi to the peer (negative: asks for them). `fulfil` and `fail` name incoming HTLCs by
    (type, id) with their preimage or a reason, `expire` outgoing ones whose height has come. `state_data` None
    keeps the application's bytes.
    """

    pay: int = 0
    add: tuple[NewHtlc, ...] = ()
    fulfil: tuple[tuple[ConditionKey, bytes], ...] = ()
    fail: tuple[tuple[ConditionKey, str], ...] = ()
    expire: tuple[ConditionKey, ...] = ()
    state_data: bytes | None = None


def change(seat: Seat, wanted: Change) -> Step:
    """The offer of the next state with these changes, behind what the peer needs to agree.

    Raises what `proposer.offer` raises, `InvalidState` for an HTLC that is not there, is not this side's to
    change or is too late, `InvalidSecret` for a preimage that does not fit.
    """
    proposer.require_ready(seat)
    learned = _learned(seat, wanted.fulfil)
    known = {**seat.known, **{event.payment_hash: event.preimage for event in learned}}
    seat = msgspec.structs.replace(seat, known=known)
    balances, conditions = _applied(seat, wanted)
    state = seat.channel.state
    assert state is not None, "require_ready checked it"
    state_data = state.content.state_data if wanted.state_data is None else wanted.state_data
    offered = proposer.offer(seat, balances, conditions, state_data)
    messages = (*_failures(seat, wanted), *_notes(seat, wanted), *offered.messages)
    return Step((*learned, *offered.events), messages)


def learn(seat: Seat, preimage: bytes, source: Source = Source.CLIENT) -> Step:
    """Store a preimage that this party came to know; nothing is sent. `InvalidSecret` unless it has 32 bytes."""
    payment_hash = _payment_hash(preimage)
    if payment_hash in seat.known and (source is Source.CLIENT or payment_hash in seat.channel.shown):
        return NOTHING
    return Step((_preimage_learned(seat, payment_hash, preimage, source),))


def on_fulfil(seat: Seat, message: HtlcFulfil) -> Step:
    """The peer shows the preimage of an own HTLC: keep it, for it is the proof of payment and pays the way back."""
    condition = find(seat.channel.conditions, (message.condition_type, message.id))
    payment_hash = _payment_hash(message.preimage)
    if payment_hash in seat.channel.shown:
        return NOTHING
    if condition is None or condition.offerer is not seat.own:
        if payment_hash in seat.known:
            return NOTHING  # a repetition after the HTLC was paid and dropped
        raise InvalidState(f"there is no HTLC {message.condition_type}/{message.id} of this side to fulfil")
    if condition.hash != payment_hash:
        raise InvalidSecret(f"the preimage does not fit HTLC {condition.type}/{condition.id}")
    return Step((_preimage_learned(seat, payment_hash, message.preimage, Source.UPLOAD),))


def on_fail(seat: Seat, message: HtlcFail) -> Step:
    """The peer gives an own HTLC up; the party keeps the reason in memory until the HTLC is dropped."""
    condition = find(seat.channel.conditions, (message.condition_type, message.id))
    if condition is None or condition.offerer is not seat.own:
        raise InvalidState(f"there is no HTLC {message.condition_type}/{message.id} of this side to fail")
    return NOTHING


def on_note(seat: Seat, message: HtlcNote) -> Step:
    """A note for an HTLC that is to come; the party keeps it in memory until then."""
    del message
    require_open(seat.channel)
    return NOTHING


def find(conditions: Iterable[Condition], key: ConditionKey) -> Condition | None:
    """A condition by (type, id)."""
    return next((condition for condition in conditions if condition.key == key), None)


def _applied(seat: Seat, wanted: Change) -> tuple[tuple[int, int], list[Condition]]:
    """Balances of A and B (satoshi) and conditions after the change."""
    own, kept = seat.own, {condition.key: condition for condition in seat.channel.conditions}
    balances = list(seat.channel.balances)
    balances[own] -= wanted.pay
    balances[own.other] += wanted.pay
    for key, preimage in wanted.fulfil:
        balances[own] += _fulfilled(seat, _take(kept, key, own.other), preimage).amount
    for key, reason in wanted.fail:
        balances[own.other] += _failed(seat, _take(kept, key, own.other), reason).amount
    for key in wanted.expire:
        balances[own] += _expired(seat, _take(kept, key, own)).amount
    for new in wanted.add:
        condition = _added(seat, new, kept)
        kept[condition.key] = condition
        balances[own] -= condition.amount
    if wanted.add and balances[own] < 0:
        needed = sum(new.amount for new in wanted.add)
        raise InvalidState(
            f"an HTLC of {needed} sat is more than the {balances[own] + needed} sat that {own.name} has here; "
            "`get_liquidity` (`watchtower channel info`) says what can be sent"
        )
    return (balances[Side.A], balances[Side.B]), list(kept.values())


def _take(kept: dict[ConditionKey, Condition], key: ConditionKey, offerer: Side) -> Condition:
    condition = kept.pop(key, None)
    if condition is None or not condition.is_htlc:
        raise InvalidState(f"there is no HTLC {key[0]}/{key[1]} in the newest state")
    if condition.offerer is not offerer:
        raise InvalidState(
            f"HTLC {key[0]}/{key[1]} was offered by {condition.offerer.name}; "
            "its receiver fulfils or fails it, its offerer lets it expire"
        )
    return condition


def _fulfilled(seat: Seat, condition: Condition, preimage: bytes) -> Condition:
    if _payment_hash(preimage) != condition.hash:
        raise InvalidSecret(f"the preimage does not fit HTLC {condition.type}/{condition.id}")
    latest = last_claim_height(condition, seat.channel.params.challenge_period)
    if seat.height is not None and seat.height > latest:
        # A peer that takes the preimage and stays silent could be paid back on chain before this side's claim.
        raise InvalidState(
            f"HTLC {condition.type}/{condition.id} had to be fulfilled by height {latest}, now is {seat.height}; "
            "claim it on chain"
        )
    return condition


def _failed(seat: Seat, condition: Condition, reason: str) -> Condition:
    if condition.hash in seat.known:
        raise InvalidState(f"the preimage of HTLC {condition.type}/{condition.id} is known; fulfil it")
    if len(reason) > 400:
        raise MalformedInput("the reason of a failure has at most 400 characters")
    return condition


def _expired(seat: Seat, condition: Condition) -> Condition:
    label = f"HTLC {condition.type}/{condition.id}"
    if condition.hash in seat.channel.shown:
        raise InvalidState(f"the peer has shown the preimage of {label}; it is the peer's")
    if seat.height is None:
        raise ChannelNotReady("the height of the chain is not known here; tell it with note_height first")
    if seat.height < condition.expiry:
        raise InvalidState(f"{label} expires at height {condition.expiry}, now is {seat.height}")
    return condition


def _added(seat: Seat, new: NewHtlc, kept: dict[ConditionKey, Condition]) -> Condition:
    taken = {key[1] for key in kept if key[0] == seat.own} | {
        condition.id for condition in seat.channel.conditions if condition.type == seat.own
    }
    number = next((free for free in range(0x10000) if free not in taken), None)
    if number is None:
        raise InvalidState("every id of an HTLC is taken; finish some first")
    if len(new.payment_hash) != 32:
        raise MalformedInput(f"a payment hash has 32 bytes, got {len(new.payment_hash)}")
    if new.payment_hash in seat.channel.shown:
        raise InvalidState("the peer knows the preimage of this payment hash already; use a fresh one")
    condition = Condition(int(seat.own), number, new.expiry, new.amount, bytes(new.payment_hash))
    check_condition(condition)
    margin = claim_margin(seat.channel.params.challenge_period)
    if seat.height is not None and new.expiry <= seat.height + margin:
        raise InvalidState(
            f"an HTLC that expires at height {new.expiry} leaves its receiver no time to claim; "
            f"with {margin} blocks of margin it must be above {seat.height + margin}"
        )
    return condition


def _learned(seat: Seat, fulfilled: Sequence[tuple[ConditionKey, bytes]]) -> tuple[PreimageLearned, ...]:
    """Events for the preimages that are not in the log yet."""
    fresh = {_payment_hash(preimage): preimage for _, preimage in fulfilled}
    return tuple(
        _preimage_learned(seat, payment_hash, preimage, Source.CLIENT)
        for payment_hash, preimage in fresh.items()
        if payment_hash not in seat.known
    )


def _preimage_learned(seat: Seat, payment_hash: bytes, preimage: bytes, source: Source) -> PreimageLearned:
    return PreimageLearned(
        recorded_at=seat.now, payment_hash=payment_hash, preimage=bytes(preimage), source=source, txid=None
    )


def _payment_hash(preimage: bytes) -> bytes:
    if len(preimage) != 32:
        raise InvalidSecret(f"a preimage has 32 bytes, got {len(preimage)}; no script accepts another length")
    return sha256(preimage).digest()


def _failures(seat: Seat, wanted: Change) -> tuple[Message, ...]:
    return tuple(
        HtlcFail(channel_id=name_of(seat), condition_type=key[0], id=key[1], reason=reason)
        for key, reason in wanted.fail
    )


def _notes(seat: Seat, wanted: Change) -> tuple[Message, ...]:
    for new in wanted.add:
        if new.note is not None and len(new.note) > NoteHex.LIMIT:
            raise MalformedInput(f"a note has at most {NoteHex.LIMIT} bytes, got {len(new.note)}")
    return tuple(
        HtlcNote(channel_id=name_of(seat), payment_hash=Hex32(new.payment_hash), payload=NoteHex(new.note))
        for new in wanted.add
        if new.note is not None
    )
