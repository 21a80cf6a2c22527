"""Logs for the rules of the audit: shown event by event, honest or with one field changed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from domain.events import Envelope, Payload, Recorded
from watchtower.audit.findings import Finding
from watchtower.audit.rules import rules_for
from watchtower.store.source import SourceMeta

LOG = SourceMeta(
    log_id=bytes(16), origin="test/log", segment=0, first_leaf=0, first_id=1, prev_head=bytes(32), schema=1
)


def recorded(events: Sequence[Envelope]) -> list[Recorded]:
    """Events with ids from 1."""
    return [Recorded(number, event) for number, event in enumerate(events, start=1)]


def ruled(events: Sequence[Recorded], *, signatures: bool = True, tower_key: bytes | None = None) -> list[Finding]:
    """What all rules find, in one share."""
    found = []
    for rules in rules_for(signatures=signatures, tower_key=tower_key):
        check = rules.start(LOG)
        found += [*check.page(events), *check.end()]
    return sorted(found, key=lambda finding: finding.position or 0)


def forged(events: Sequence[Recorded], place: int, **changed: object) -> list[Recorded]:
    """The same log with other values in one event; `place` counts from 0."""
    return with_payload(events, place, msgspec.structs.replace(events[place].envelope.payload, **changed))


def with_payload(events: Sequence[Recorded], place: int, payload: Payload) -> list[Recorded]:
    """The same log with another payload in one event."""
    old = events[place]
    envelope = Envelope(old.envelope.stream, old.envelope.version, payload.TOPIC, payload)
    return [*events[:place], Recorded(old.id, envelope), *events[place + 1 :]]


def place_of(events: Sequence[Recorded], kind: type[Payload], number: int = 0) -> int:
    """Where the event of a kind stands, from 0; `number` is which of them."""
    return [place for place, each in enumerate(events) if isinstance(each.envelope.payload, kind)][number]
