"""Revocation in both directions: own releases that are recorded first, and secrets of the peer that are checked."""

from __future__ import annotations

from domain.contract.revocation import check_secret, index_of, insert_secret
from domain.errors import InvalidSecret
from domain.events import AlertKind, AlertRaised, StateRevoked
from watchtower.client.protocol.seat import Seat, Step, require_point


def release(seat: Seat, seq: int) -> tuple[StateRevoked, ...]:
    """The record that the own secret of state `seq` - 1 leaves; durable before the message (U2)."""
    if seq == 0:
        return ()
    event = StateRevoked(
        recorded_at=seat.now,
        party=seat.own,
        sequence=seq - 1,
        secret=None,
        next_point=seat.own_point(seq + 1),
    )
    return (event,)


def revoked_by_peer(seat: Seat, revoked: int, secret: bytes | None, next_point: bytes | None) -> Step:
    """Keep the peer's secret of a state if it fits the announced point and all earlier secrets.

    A wrong point raises `InvalidSecret` and changes nothing. A secret that contradicts earlier ones is an alarm:
    the alert is stored, then `InvalidSecret` is raised.
    """
    point = seat.channel.peer_point(revoked)
    if secret is None or point is None:
        raise InvalidSecret(f"the secret of state {revoked} is missing; keep the old state")
    check_secret(secret, point)
    following = require_point(next_point)
    try:
        insert_secret(seat.channel.buckets, secret, index_of(revoked))
    except InvalidSecret as inconsistent:
        alert = AlertRaised(
            recorded_at=seat.now, kind=AlertKind.SECRET_INCONSISTENT, txid=None, sequence=revoked, height=0
        )
        # One alarm per state: the peer may say it again for ever.
        return Step(() if seat.channel.alarmed == revoked else (alert,), refusal=inconsistent)
    event = StateRevoked(
        recorded_at=seat.now,
        party=seat.peer,
        sequence=revoked,
        secret=bytes(secret),
        next_point=bytes(following),
    )
    return Step((event,))
