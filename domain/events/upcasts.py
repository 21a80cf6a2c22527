"""How events of topics that are no longer written are read: each is turned into an event of today.

An appended field with a default needs nothing of this. A change that a default can't express is a new class with a new
topic; the old class moves to `RETIRED` and gets an upcast. Stored bytes, leaf hashes and positions stay as they are,
and an envelope keeps the topic that is stored; only its payload is the newer one. docs/upgrading.md shows the steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from domain.events.base import Payload


class Upcast(NamedTuple):
    """Events of one topic are read as events of the class `becomes`.

    `newer` makes it from the decoded event. It is pure and total: a history that was stored is never refused.
    """

    becomes: type[Payload]
    newer: Callable[[Any], Payload]


RETIRED: tuple[type[Payload], ...] = ()
"""Classes that are read for ever and written no more."""

UPCASTS: dict[str, Upcast] = {}
"""By stored topic. Every retired topic has one; a topic of today may have one that fills an appended field."""


def path(topic: str) -> list[Upcast]:
    """The upcasts of a decoded event of a topic, in the order in which they apply; empty for most."""
    steps: list[Upcast] = []
    while (upcast := UPCASTS.get(topic)) is not None:
        steps.append(upcast)
        if topic == upcast.becomes.TOPIC:
            break
        topic = upcast.becomes.TOPIC
    return steps
