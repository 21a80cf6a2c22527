"""Applications: rules of their own for the `state_data` of a channel (protocol 4.2).

The channel protocol knows balances and conditions; what `state_data` means is known to an application only. It
judges each transition before its party offers or agrees to a state, and before a tower that knows the
application stores it. It judges values: it gets no key, no signature and no way to change the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from domain.canonical_json import decode_state_data, encode_state_data
from domain.contract.conditions import Condition
from domain.contract.header import StateHeader, state_data_hash
from domain.errors import Refusal
from domain.foreign_text import one_line

__all__ = [
    "Application",
    "ApplicationRefused",
    "ApplicationState",
    "application_state",
    "decode_state_data",
    "encode_state_data",
    "refused",
    "state_data_hash",
]

MAX_REASON = 300
"""Characters of a reason that are passed on; an application's text must not fill logs and answers."""


class ApplicationRefused(Refusal):
    """The channel's application does not accept this state; nothing was signed and nothing was stored."""

    slug = "application-refused"


class ApplicationState(msgspec.Struct, frozen=True):
    """What an application sees of a state: its number, balances of A and B in satoshi, conditions, its bytes."""

    sequence: int
    balances: tuple[int, int]
    conditions: tuple[Condition, ...]
    state_data: bytes


class Application(Protocol):
    """The rules of one application. Implementations keep no state between calls and touch nothing outside."""

    @property
    def app_id(self) -> bytes:
        """32 bytes that name the application; constant in a channel, part of every header."""

    def validate(self, old: ApplicationState | None, new: ApplicationState) -> str | None:
        """None accepts `new` as the successor of `old` (None: `new` is state 0); a text is the reason against it."""


def application_state(header: StateHeader, conditions: Sequence[Condition], state_data: bytes) -> ApplicationState:
    """The application's view of a state."""
    return ApplicationState(header.seq, header.balances, tuple(conditions), state_data)


def refused(app_id: bytes, sequence: int, reason: str) -> ApplicationRefused:
    """The refusal of a state, in one sentence of printable characters."""
    told = one_line(reason, MAX_REASON).strip() or "it gave no reason"
    return ApplicationRefused(f"application {app_id.hex()[:16]} refuses state {sequence}: {told}")
