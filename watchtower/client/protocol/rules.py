"""What a party decides with in all its channels: limits, consent, applications, descriptors."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from domain.application import Application
from domain.contract.state import DEFAULT_STATE_POLICY, StatePolicy
from domain.errors import InvalidState
from watchtower.applications import check_app_ids
from watchtower.client.protocol.consent import Consent, never_lose

Resolve = Callable[[str], bytes]
"""ScriptPubKey of a descriptor, or `InvalidState`: `watchtower.descriptors.resolve`."""


def no_descriptors(descriptor: str) -> bytes:
    """The answer of a party without a descriptor engine (protocol 3.5): it takes no type 2."""
    del descriptor
    raise InvalidState(
        "descriptor conditions (type 2) are not supported here without a descriptor engine; use HTLCs (types 0 and 1)"
    )


class PartyRules(msgspec.Struct, frozen=True):
    """Limits of states, consent to the peer's offers, applications, and the engine that resolves descriptors.

    Raises `ApplicationUnusable` for an application without a proper name, and for two that have the same.
    """

    state_policy: StatePolicy = DEFAULT_STATE_POLICY
    consent: Consent = never_lose
    applications: tuple[Application, ...] = ()
    resolve: Resolve = no_descriptors

    def __post_init__(self) -> None:
        check_app_ids(self.applications)

    def application(self, app_id: bytes) -> Application | None:
        """The rules of an application; None for one that this party does not know and for channels without one."""
        return next((known for known in self.applications if known.app_id == app_id), None)
