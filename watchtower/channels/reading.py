"""From the bodies of the API to the values of the domain."""

from __future__ import annotations

from domain.contract.conditions import Condition, ConditionType, decode_conditions
from domain.contract.state import StateHeader, StateSignatures
from domain.errors import MalformedInput
from domain.opening import StateContent
from domain.units import Side
from watchtower.descriptors import resolve
from watchtower.wire.api import ConditionBody, SideName, SignatureBody, StateBody


def side_of(name: SideName) -> Side:
    """A or B."""
    return Side.A if name == "A" else Side.B


def content_of(body: StateBody) -> StateContent:
    """A complete state; `MalformedInput` for a header or records that cannot be read.

    Descriptor outputs get their script here; `InvalidState` for one that must not be in a state.
    """
    conditions = tuple(_condition(record) for record in body.conditions)
    decode_conditions(b"".join(condition.encode() for condition in conditions))
    return StateContent(
        header=StateHeader.decode(bytes(body.header)),
        conditions=conditions,
        state_data=bytes(body.state_data),
        sigs_a=_signatures(body.signatures.a),
        sigs_b=_signatures(body.signatures.b),
        own_point=bytes(body.own_point),
    )


def _condition(body: ConditionBody) -> Condition:
    if body.descriptor is not None and body.type != ConditionType.DESCRIPTOR:
        raise MalformedInput("only a condition of type 2 has a descriptor")
    spk = None if body.descriptor is None else resolve(body.descriptor)
    return Condition(body.type, body.id, body.expiry, body.amount, bytes(body.hash), body.descriptor, spk)


def _signatures(body: SignatureBody) -> StateSignatures:
    return StateSignatures(bytes(body.state), bytes(body.settle_a), bytes(body.settle_b), bytes(body.commit_peer))
