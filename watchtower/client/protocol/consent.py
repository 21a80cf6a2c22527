"""What a party agrees to by itself: states in which it does not lose (protocol 5.2, message 0b).

The protocol says which states are valid; whether a valid state is wanted is the party's own question. The rule
here, `never_lose`, answers it without asking anybody. A state that costs this side something needs the explicit
consent of its application: another rule, or an approval of exactly that content.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

import msgspec

from domain.contract.conditions import Condition
from domain.errors import DomainError, Refusal
from domain.units import Side

_log = logging.getLogger(__name__)


class ConsentRefused(Refusal):
    """A valid state that this side does not want; nothing was signed."""

    slug = "consent-refused"


class Deal(msgspec.Struct, frozen=True):
    """A state that the peer offers, beside the newest complete one. Balances of A and B in satoshi.

    `known` are payment hashes whose preimage this party holds, from any of its channels; `shown` those whose
    preimage the peer of this channel has shown or the chain has; `height` is the chain's, None if nobody told it.
    `overhead_before` and `overhead` are what this side pays beside its balance when these states are settled on chain
    (satoshi, protocol 3.4); A pays all of it, B nothing.
    """

    channel_id: bytes
    own: Side
    sequence: int
    state_hash: bytes
    balances_before: tuple[int, int]
    balances: tuple[int, int]
    conditions_before: tuple[Condition, ...]
    conditions: tuple[Condition, ...]
    state_data: bytes
    known: Collection[bytes]
    shown: Collection[bytes]
    height: int | None
    overhead_before: int = 0
    overhead: int = 0

    @property
    def added(self) -> tuple[Condition, ...]:
        """Conditions of this state that are not in the state before exactly as they are."""
        before = set(self.conditions_before)
        return tuple(condition for condition in self.conditions if condition not in before)

    @property
    def removed(self) -> tuple[Condition, ...]:
        """Conditions of the state before that are not in this one exactly as they were."""
        kept = set(self.conditions)
        return tuple(condition for condition in self.conditions_before if condition not in kept)


Consent = Callable[[Deal], str | None]
"""None agrees; a text is the reason against it, which the peer gets. Short, and without a call of the party."""


def agree(deal: Deal) -> str | None:
    """Agree to every valid state: for parties that trust their peer, and for tests."""
    del deal
    return None


def objection_to(deal: Deal, consent: Consent) -> str | None:
    """What a rule says. One that fails has not agreed: its code is somebody else's, and the peer chose what it read."""
    try:
        answer: object = consent(deal)
    except DomainError as refusal:
        return str(refusal)
    except Exception as error:  # noqa: BLE001 - the border to foreign code
        reason = f"its rule of consent failed ({type(error).__name__})"
        _log.exception(
            "consent_failed channel=%s state=%d reason=%s", deal.channel_id.hex()[:16], deal.sequence, reason
        )
        return reason
    if answer is None or isinstance(answer, str):
        return answer
    reason = "its rule of consent answered neither None nor a text"
    _log.error("consent_failed channel=%s state=%d reason=%s", deal.channel_id.hex()[:16], deal.sequence, reason)
    return reason


def never_lose(deal: Deal) -> str | None:
    """Agree only if this side gets back at least what it has in the state before.

    That is its balance, its own HTLCs that are dropped although the peer never showed the preimage, and HTLCs to
    it that are dropped and whose preimage it knows. An HTLC to it is given up only when it has expired: until then
    the preimage may still come from the next hop. Nobody adds an HTLC or a descriptor output at its cost; outputs that
    cost A more overhead than they hold would only burn its money.
    """
    due = deal.balances_before[deal.own]
    for condition in deal.removed:
        objection, amount = _removal(deal, condition)
        if objection is not None:
            return objection
        due += amount
    if deal.balances[deal.own] < due:
        name = deal.own.name  # the text is read at the other side, where "this side" would be somebody else
        return (
            f"state {deal.sequence} leaves {name} {deal.balances[deal.own]} sat, {name} is due {due} sat; "
            f"the owner of {name} may approve of it beforehand"
        )
    return _burnt(deal)


def _burnt(deal: Deal) -> str | None:
    """An objection to new outputs that hold less than they cost this side on chain."""
    held, cost = sum(condition.amount for condition in deal.added), deal.overhead - deal.overhead_before
    if not deal.added or cost <= held:
        return None
    return f"the new conditions hold {held} sat and cost {deal.own.name} {cost} sat of fees when they go on chain"


def _removal(deal: Deal, condition: Condition) -> tuple[str | None, int]:
    """An objection, or what this side is due for the dropped condition (satoshi)."""
    name = deal.own.name
    label = f"condition {condition.type}/{condition.id}"
    if not condition.is_htlc:
        return f"{label} pays a script; dropping it needs the approval of {name}", 0
    if condition.offerer is deal.own:
        return None, 0 if condition.hash in deal.shown else condition.amount
    if condition.hash in deal.known:
        return None, condition.amount
    if deal.height is None or deal.height < condition.expiry:
        return f"{label} is for {name} and has not expired; only {name} may give it up", 0
    return None, 0
