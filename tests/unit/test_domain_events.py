"""The stored form of every event: golden bytes, defaults, refusals, and nothing secret."""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Any

import msgspec
import pytest

from domain.contract.derivation import ROLES
from domain.errors import LogCorrupt
from domain.events import (
    EVENT_TYPES,
    TOPICS,
    AlertKind,
    Envelope,
    Payload,
    decode_payload,
    encode_payload,
    enums,
    envelopes,
)
from tests.support.golden import EXAMPLES, GOLDEN_FILE

FORMS: dict[str, list[str]] = json.loads(GOLDEN_FILE.read_text())
GOLDEN = {topic: forms[-1] for topic, forms in FORMS.items()}
BY_TOPIC = pytest.mark.parametrize("topic", sorted(TOPICS))


def test_every_topic_has_its_golden_bytes() -> None:
    """A new event comes with its line in the golden file; no line ever goes."""
    assert set(TOPICS) == set(GOLDEN)
    assert len(EVENT_TYPES) == len(TOPICS)


@BY_TOPIC
def test_encoding_gives_the_golden_bytes(topic: str) -> None:
    """Stored bytes never change: a changed line is a broken log."""
    assert GOLDEN[topic] == encode_payload(EXAMPLES[topic]).hex()


@BY_TOPIC
def test_golden_bytes_decode_to_the_event(topic: str) -> None:
    """What older versions wrote is read in full."""
    assert EXAMPLES[topic] == decode_payload(topic, bytes.fromhex(GOLDEN[topic]))


@pytest.mark.parametrize(("topic", "form"), [(t, form) for t, forms in sorted(FORMS.items()) for form in forms])
def test_every_stored_form_is_read(topic: str, form: str) -> None:
    """Older forms are shorter: what they hold is kept, what they lack has its default."""
    held = len(msgspec.msgpack.decode(bytes.fromhex(form)))

    event = decode_payload(topic, bytes.fromhex(form))

    assert msgspec.structs.astuple(EXAMPLES[topic])[:held] == msgspec.structs.astuple(event)[:held]


@BY_TOPIC
def test_an_event_is_an_array_that_begins_with_its_time(topic: str) -> None:
    """Position is the format: plain payloads begin with 0x90 … 0x9f or 0xdc, then `recorded_at`."""
    raw = bytes.fromhex(GOLDEN[topic])

    assert "recorded_at" == TOPICS[topic].__struct_fields__[0]
    assert 0x90 <= raw[0] <= 0x9F or raw[0] == 0xDC
    assert EXAMPLES[topic].recorded_at == msgspec.msgpack.decode(raw)[0]


@BY_TOPIC
def test_unknown_trailing_fields_are_ignored(topic: str) -> None:
    """A log that a newer version wrote can be read after a downgrade."""
    fields = msgspec.msgpack.decode(bytes.fromhex(GOLDEN[topic]))

    longer = msgspec.msgpack.encode([*fields, b"from the future", 7])

    assert EXAMPLES[topic] == decode_payload(topic, longer)


@BY_TOPIC
def test_a_missing_field_is_a_corrupt_event(topic: str) -> None:
    """Only appended fields have defaults; the first one never has."""
    with pytest.raises(LogCorrupt, match=topic):
        decode_payload(topic, b"\x90")


@pytest.mark.parametrize(("topic", "last", "default"), [("fu02", "funding_tx", None), ("st06", "descriptors", ())])
def test_appended_fields_take_their_defaults(topic: str, last: str, default: object) -> None:
    """Bytes from before the field existed give its default."""
    fields = msgspec.msgpack.decode(bytes.fromhex(GOLDEN[topic]))

    older = decode_payload(topic, msgspec.msgpack.encode(fields[:-1]))

    assert last == TOPICS[topic].__struct_fields__[-1]
    assert default == getattr(older, last)
    assert msgspec.structs.replace(EXAMPLES[topic], **{last: default}) == older


@BY_TOPIC
def test_events_are_frozen_positional_and_keyword_only(topic: str) -> None:
    """The settings are not inherited: each class has to name them."""
    config = TOPICS[topic].__struct_config__

    assert (True, True, None) == (config.frozen, config.array_like, config.tag)
    with pytest.raises(TypeError):
        TOPICS[topic](1)  # type: ignore[call-arg]


def test_topics_are_two_letters_and_two_digits() -> None:
    """Short, sorted by aggregate, never a module path."""
    letters = {"bk", "fu", "st", "cl", "pn", "se", "re", "py", "lg"}

    assert [] == [t for t in TOPICS if t[:2] not in letters or not t[2:].isdigit() or len(t) != 4]
    assert [] == [t for t, event in TOPICS.items() if event.TOPIC != t]


# ── nothing secret ───────────────────────────────────────────────────────────────────────────────────────

REVEALED = {"st05.secret", "st06.revoked_secret", "se05.preimage"}
"""The counterparty's revealed secrets and public preimages may be stored (event store, 3.10)."""

PUBLIC_KEYS = {"fu02.client_key"}


def test_no_field_is_named_like_a_secret() -> None:
    """Every field whose name smells of a secret is on the short list of revealed ones."""
    words = ("secret", "seed", "private", "password", "passphrase", "token", "nonce", "preimage", "key", "cookie")
    suspicious = {
        f"{topic}.{name}"
        for topic, event in TOPICS.items()
        for name in event.__struct_fields__
        if any(word in name for word in words)
    }

    assert REVEALED | PUBLIC_KEYS == suspicious


def test_no_field_is_of_a_type_that_holds_secrets() -> None:
    """Keys and roles of the derivation never stand in an event."""
    types = " ".join(str(hint) for event in EVENT_TYPES for hint in _hints(event).values())

    assert [] == [name for name in ("ChannelSecrets", "ExtendedSecret", "MusigSession") if name in types]
    assert [] == [f for event in EVENT_TYPES for f in event.__struct_fields__ if f in ROLES]


def _hints(event: type[Payload]) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(event)}


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("topic", ["", "xx99", "bk99", "domain.events.block:BlockConnected"])
def test_an_unknown_topic_is_refused(topic: str) -> None:
    """Strings of a database are looked up in one table and imported nowhere."""
    with pytest.raises(LogCorrupt, match="unknown topic"):
        decode_payload(topic, b"\x90")


@pytest.mark.parametrize("state", [b"", b"\x01", b"\xc0", b"\x91", b"{}", bytes.fromhex("9101ff"), b"\xff" * 40])
def test_damaged_bytes_are_refused(state: bytes) -> None:
    """Each gives the same typed error, never another exception."""
    with pytest.raises(LogCorrupt):
        decode_payload("bk02", state)


@pytest.mark.parametrize(
    ("topic", "field", "value"),
    [
        ("fu04", "outpoint", bytes(35)),
        ("fu06", "conflict", bytes(33)),
        ("fu02", "sweep_spk", bytes(43)),
        ("fu02", "highest_revoked", -2),
        ("fu02", "funding_tx", bytes(100_001)),
        ("st06", "header", bytes(319)),
        ("st06", "balance_a", -1),
        ("st06", "balance_b", 2_100_000_000_000_001),
        ("st06", "sequence", 2**48 - 1),
        ("st05", "next_point", bytes(32)),
        ("pn04", "text", "x" * 121),
        ("re05", "kind", 99),
        ("cl04", "kind", 8),
        ("bk02", "header", bytes(79)),
    ],
)
def test_a_field_out_of_its_range_is_refused(topic: str, field: str, value: object) -> None:
    """Lengths and ranges are part of the stored form."""
    bad = msgspec.structs.replace(EXAMPLES[topic], **{field: value})

    with pytest.raises(LogCorrupt, match=topic):
        decode_payload(topic, encode_payload(bad))


def test_envelopes_count_on_from_a_version() -> None:
    """Versions have no gaps and start at 1."""
    first, second = EXAMPLES["fu04"], EXAMPLES["fu05"]

    assert [Envelope("c1", 8, "fu04", first), Envelope("c1", 9, "fu05", second)] == envelopes("c1", 7, [first, second])


@pytest.mark.parametrize("enum", [kind for kind in vars(enums).values() if isinstance(kind, type(AlertKind))])
def test_zero_is_always_unknown(enum: type[IntEnum]) -> None:
    """A closed list begins with what nobody knows."""
    assert [] == [member for member in enum if member.value == 0 and member.name != "UNKNOWN"]
