"""Between an `Envelope` of the domain and the library's `StoredEvent`.

Topics are looked up in the closed table of `domain.events`; a string from the database never names code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventsourcing.persistence import JSONTranscoder, Mapper, StoredEvent

from domain.events import WRITTEN, Envelope, Payload, decode_payload, encode_payload
from watchtower.ports import StoreError

MAX_STATE = 1 << 20
"""Bytes of one stored payload; the largest event (a state with 64 KiB of data) stays far below."""

MAX_STREAM = 64
"""Characters of a stream name."""


class EnvelopeMapper(Mapper[str]):
    """The library's mapper without transcoder, cipher, compressor or import of topics."""

    def __init__(self) -> None:
        super().__init__(transcoder=JSONTranscoder())

    def to_stored_event(self, domain_event: Any) -> StoredEvent:
        """Encode an `Envelope`; raises `StoreError` if it exceeds a limit or its topic is not its payload's."""
        envelope: Envelope = domain_event
        if WRITTEN.get(envelope.topic) is not type(envelope.payload):
            raise StoreError(f"topic {envelope.topic!r} is not the topic of {type(envelope.payload).__name__}")
        if not 0 < len(envelope.stream) <= MAX_STREAM or envelope.version < 1:
            raise StoreError(f"stream {envelope.stream[:80]!r} version {envelope.version} cannot be stored")
        state = encode_payload(envelope.payload)
        if len(state) > MAX_STATE:
            raise StoreError(f"an event of {len(state)} bytes exceeds the limit of {MAX_STATE}")
        return StoredEvent(envelope.stream, envelope.version, envelope.topic, state)

    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        """Decode to an `Envelope`; raises `LogCorrupt` for an unknown topic or damaged bytes."""
        payload: Payload = decode_payload(stored_event.topic, stored_event.state)
        stream = str(stored_event.originator_id)
        return Envelope(stream, stored_event.originator_version, stored_event.topic, payload)


def check_versions(job: Sequence[StoredEvent]) -> None:
    """Raise `StoreError` unless the versions of every stream in a job follow each other."""
    last: dict[object, int] = {}
    for stored in job:
        stream, version = stored.originator_id, stored.originator_version
        if last.get(stream, version - 1) != version - 1:
            raise StoreError(f"versions of stream {stream} in one job must follow each other, got {version}")
        last[stream] = version
