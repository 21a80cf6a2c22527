"""A topic of an older version that is planted for a test: alerts once said the name of their kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest
from eventsourcing.persistence import StoredEvent

from domain import events
from domain.events import AlertKind, AlertRaised, Envelope, Payload, Upcast, encode_payload


class NamedAlert(Payload, frozen=True, kw_only=True, array_like=True):
    """An alert, as it was stored before it had a number for its kind."""

    TOPIC: ClassVar[str] = "re90"
    height: int
    name: str


class NumberedAlert(Payload, frozen=True, kw_only=True, array_like=True):
    """The form between: a number, and still no sequence."""

    TOPIC: ClassVar[str] = "re91"
    kind: AlertKind
    height: int


def _numbered(old: NamedAlert) -> NumberedAlert:
    return NumberedAlert(recorded_at=old.recorded_at, kind=AlertKind[old.name], height=old.height)


def _of_today(old: NumberedAlert) -> AlertRaised:
    return AlertRaised(recorded_at=old.recorded_at, kind=old.kind, txid=None, sequence=None, height=old.height)


def retire_alerts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two topics that became `AlertRaised`, one by way of the other."""
    monkeypatch.setitem(events.UPCASTS, NamedAlert.TOPIC, Upcast(NumberedAlert, _numbered))
    monkeypatch.setitem(events.UPCASTS, NumberedAlert.TOPIC, Upcast(AlertRaised, _of_today))
    for old in (NamedAlert, NumberedAlert):
        monkeypatch.setitem(events.TOPICS, old.TOPIC, old)
        monkeypatch.setitem(events._readers, old.TOPIC, events._reader_of(old.TOPIC))


def aged(event: Envelope) -> Envelope:
    """An alert without transaction and sequence in its oldest form; every other event as it is."""
    payload = event.payload
    if not isinstance(payload, AlertRaised) or (payload.txid, payload.sequence) != (None, None):
        return event
    old = NamedAlert(recorded_at=payload.recorded_at, height=payload.height, name=payload.kind.name)
    return Envelope(event.stream, event.version, old.TOPIC, old)


def stored(job: Sequence[Envelope]) -> list[StoredEvent]:
    """Rows as an older version wrote them; the mapper of today writes topics of today only."""
    return [StoredEvent(each.stream, each.version, each.topic, encode_payload(each.payload)) for each in job]
