"""Contents of states: built for an offer, read from one, written as messages and events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from domain.contract.conditions import (
    Condition,
    ConditionType,
    decode_conditions,
    descriptor_hash,
    encode_conditions,
    in_order,
)
from domain.contract.state import NO_HASH, StateTransactions, build_header, sign_header, sign_settle
from domain.errors import InvalidState, MalformedInput
from domain.events import StateOffered, StateProposed
from domain.units import Side
from watchtower.client.given import require_whole
from watchtower.client.protocol.channel import Content
from watchtower.client.protocol.messages import UpdateOffer
from watchtower.client.protocol.rules import Resolve
from watchtower.client.protocol.seat import Seat
from watchtower.wire.api import ConditionBody


def next_content(seat: Seat, balances: tuple[int, int], conditions: Sequence[Condition], state_data: bytes) -> Content:
    """Content of the successor of the newest complete state; balances of A and B in satoshi."""
    state = seat.channel.state
    assert state is not None, "callers checked that the channel is open"
    header = state.content.read_header()
    return build_content(seat, header.seq + 1, balances, conditions, state_data, header.state_hash, header.app_id)


def first_content(seat: Seat, state_data: bytes, app_id: bytes) -> Content:
    """Content of state 0 from the agreed opening."""
    return build_content(seat, 0, seat.channel.initial_balances, (), state_data, NO_HASH, app_id)


def build_content(
    seat: Seat,
    seq: int,
    balances: tuple[int, int],
    conditions: Sequence[Condition],
    state_data: bytes,
    prev_state_hash: bytes,
    app_id: bytes,
) -> Content:
    """Header with recomputed txids, records in order with resolved descriptors, and the application's bytes."""
    require_whole("balances", *balances)
    require_whole("amounts of conditions", *(condition.amount for condition in conditions))
    if min(balances) < 0:
        raise InvalidState(f"balances must not be negative, got {balances[0]} and {balances[1]} sat")
    ordered = in_order(resolved(conditions, seat.rules.resolve))
    header = build_header(
        seat.channel.params, seq, balances, ordered, state_data, prev_state_hash, app_id, *seat.points(seq)
    )
    return Content(header.encode(), encode_conditions(ordered), state_data, described(ordered))


def content_of(message: UpdateOffer, resolve: Resolve) -> Content:
    """What a peer offers. Records out of order are refused, for their order is part of the format."""
    conditions = [condition_of(record) for record in message.conditions]
    records = b"".join(condition.encode() for condition in conditions)
    decode_conditions(records)
    if any(record.descriptor is not None and record.type != 2 for record in message.conditions):
        raise MalformedInput("only a condition of type 2 has a descriptor")
    descriptors = described(resolved(conditions, resolve))
    return Content(bytes(message.header), records, bytes(message.state_data), descriptors)


def resolved(conditions: Iterable[Condition], resolve: Resolve) -> list[Condition]:
    """The conditions with the scripts of their descriptors; `InvalidState` for a descriptor that must not be used."""
    return [condition if condition.is_htlc else _resolved(condition, resolve) for condition in conditions]


def described(conditions: Iterable[Condition]) -> tuple[tuple[int, str, bytes], ...]:
    """(id, descriptor, scriptPubKey) of the descriptor conditions, for events and contents."""
    return tuple(
        (condition.id, condition.descriptor, condition.spk)
        for condition in conditions
        if condition.descriptor is not None and condition.spk is not None
    )


def descriptor_condition(number: int, amount: int, descriptor: str) -> Condition:
    """A condition of type 2 by its descriptor; `amount` in satoshi. Its script is resolved when it is offered."""
    return Condition(ConditionType.DESCRIPTOR, number, 0, amount, descriptor_hash(descriptor), descriptor)


def _resolved(condition: Condition, resolve: Resolve) -> Condition:
    """The script of one descriptor; the hash is compared first, so that an engine sees no text that nobody meant."""
    if condition.descriptor is None:
        raise InvalidState(f"condition 2/{condition.id}: the descriptor is missing")
    if descriptor_hash(condition.descriptor) != condition.hash:
        raise InvalidState(f"condition 2/{condition.id}: the hash is not that of the descriptor")
    return msgspec.structs.replace(condition, spk=resolve(condition.descriptor))


def condition_of(record: ConditionBody) -> Condition:
    """The condition of a message record."""
    return Condition(record.type, record.id, record.expiry, record.amount, bytes(record.hash), record.descriptor)


def offered(seat: Seat, content: Content, by: Side) -> StateOffered:
    """The event of messages 0a and 0b."""
    header = content.read_header()
    return StateOffered(
        recorded_at=seat.now,
        sequence=header.seq,
        by=by,
        header=content.header,
        balance_a=header.balance_a,
        balance_b=header.balance_b,
        conditions=content.conditions,
        state_data=content.state_data,
        descriptors=content.descriptors,
    )


def sign_proposal(seat: Seat, content: Content, built: StateTransactions) -> StateProposed:
    """The event of message 1 with fresh signatures of this side on both settlements and the header."""
    header = content.read_header()
    settle_a, settle_b = (
        sign_settle(seat.channel.params, built, side, seat.secrets.settle, seat.entropy()) for side in Side
    )
    return StateProposed(
        recorded_at=seat.now,
        sequence=header.seq,
        by=seat.own,
        state_hash=header.state_hash,
        state_sig=sign_header(header, seat.secrets.auth, seat.entropy()),
        settle_a=settle_a,
        settle_b=settle_b,
    )
