"""Proof that the counterparty broke a rule by itself: two signed contents for a number, secrets that do not fit.

The refusal of such an upload changes nothing. What it proves is kept, once per state, if the counterparty's own
signature or the point that it announced makes it certain; a forgery proves nothing and leaves the log as it was.
"""

from __future__ import annotations

from domain.channel import Channel
from domain.contract.header import StateHeader
from domain.contract.revocation import check_secret, index_of, insert_secret
from domain.contract.state import verify_header_signature
from domain.errors import InvalidSecret, InvalidSignature
from domain.events import AlertKind, EquivocationFound, Payload
from domain.spending import raise_alert
from domain.units import Side


def equivocation_found(
    channel: Channel, stored: StateHeader, offered: StateHeader, signature: bytes, tip: int, now: int
) -> list[Payload]:
    """The counterparty signed another header for a stored state; `signature` is its state signature of it."""
    if offered.channel_id != channel.params.channel_id or offered == stored or offered.seq != stored.seq:
        return []
    if offered.seq in channel.equivocations:
        return []
    try:
        verify_header_signature(channel.params, offered, channel.counterparty, signature)
    except InvalidSignature:
        return []
    found = EquivocationFound(
        recorded_at=now,
        sequence=offered.seq,
        stored_state_hash=stored.state_hash,
        offered_header=offered.encode(),
        offered_sig=signature,
    )
    return [found, *raise_alert(channel, AlertKind.EQUIVOCATION, None, offered.seq, tip, now)]


def inconsistent_secret(
    channel: Channel, party: Side, sequence: int, secret: bytes, tip: int, now: int
) -> list[Payload]:
    """The counterparty revealed the secret of the point that it announced, but not one of its own chain of secrets.

    Secrets of later states then tell nothing about earlier ones (protocol 2.3).
    """
    expected = sequence == channel.highest_revoked + 1 and channel.points is not None
    if party is not channel.counterparty or not expected or channel.points is None or len(secret) != 32:
        return []
    try:
        check_secret(secret, channel.points[0])
    except InvalidSecret:
        return []
    try:
        insert_secret(channel.buckets, secret, index_of(sequence))
    except InvalidSecret:
        return raise_alert(channel, AlertKind.SECRET_INCONSISTENT, None, sequence, tip, now)
    return []
