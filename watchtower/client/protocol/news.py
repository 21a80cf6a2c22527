"""What an application hears about HTLCs: added for good, preimage shown, removed for good.

*For good* means that the counterparty can publish no older state without being punished; whether the own tower
holds the state, too (rule U4), is in `PartyChannel.final_sequence`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from domain.contract.conditions import Condition, ConditionKey
from watchtower.client.protocol.channel import Content, PartyChannel
from watchtower.client.protocol.messages import HtlcFail, HtlcNote

_log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")

MAX_NOTES = 200
"""Notes and reasons per channel that wait in memory; as many as conditions may be pending. The oldest gives way."""


class HtlcAdded(msgspec.Struct, frozen=True):
    """An HTLC to or from this side is in the newest state; `note` is its sender's, if one came and no crash lost it."""

    channel_id: bytes
    condition: Condition
    note: bytes | None


class PreimageShown(msgspec.Struct, frozen=True):
    """The peer showed the preimage of an own HTLC: usable at once, also while the update is still in flight."""

    channel_id: bytes
    payment_hash: bytes
    preimage: bytes

    def __repr__(self) -> str:
        return f"PreimageShown({self.payment_hash.hex()})"


class HtlcRemoved(msgspec.Struct, frozen=True):
    """An HTLC is gone; `preimage_known` tells paid ones from those that went back, `reason` why the peer failed it."""

    channel_id: bytes
    condition: Condition
    preimage_known: bool
    reason: str | None


HtlcNews = HtlcAdded | PreimageShown | HtlcRemoved

Listener = Callable[[HtlcNews], None]
"""Called after the facts were stored and outside the party's lock. What a crash swallowed is in the channel, and what
a listener swallowed by an error of its own as well."""


def silence(news: HtlcNews) -> None:
    """Nobody listens."""
    del news


def tell(listener: Listener, news: HtlcNews) -> None:
    """Call a listener. What it raises says nothing about the party, and the peer's answer must still leave."""
    try:
        listener(news)
    except Exception:  # noqa: BLE001 - the border to foreign code
        _log.exception("listener_failed channel=%s news=%s", news.channel_id.hex()[:16], type(news).__name__)


class Slips:
    """Notes and reasons that wait in memory until their HTLC is added or removed. Lost by a restart."""

    def __init__(self) -> None:
        self._notes: dict[str, dict[bytes, bytes]] = {}
        self._reasons: dict[str, dict[ConditionKey, str]] = {}
        self._failures: dict[bytes, str] = {}

    def note(self, stream: str, message: HtlcNote) -> None:
        """Keep a note by payment hash."""
        _put(self._notes.setdefault(stream, {}), bytes(message.payment_hash), bytes(message.payload))

    def reason(self, stream: str, message: HtlcFail) -> None:
        """Keep a reason by (type, id)."""
        _put(self._reasons.setdefault(stream, {}), (message.condition_type, message.id), message.reason)

    def take_note(self, stream: str, payment_hash: bytes) -> bytes | None:
        """The note for an HTLC, once."""
        return self._notes.get(stream, {}).pop(payment_hash, None)

    def take_reason(self, stream: str, key: ConditionKey) -> str | None:
        """The reason of a failure, once."""
        return self._reasons.get(stream, {}).pop(key, None)

    def failed(self, payment_hash: bytes, reason: str) -> None:
        """Keep why an HTLC that is gone now was failed: who sees that it is gone must find the reason as well."""
        _put(self._failures, payment_hash, reason)

    def take_failure(self, payment_hash: bytes) -> str | None:
        """Why the last HTLC with this hash was failed, once."""
        return self._failures.pop(payment_hash, None)


def changes(before: PartyChannel, after: PartyChannel, known: Mapping[bytes, bytes], slips: Slips) -> list[HtlcNews]:
    """The news between two looks at a channel, oldest first."""
    news: list[HtlcNews] = [
        PreimageShown(after.channel_id, payment_hash, known[payment_hash])
        for payment_hash in sorted(after.shown - before.shown)
    ]
    if after.settled is before.settled:
        return news
    old, new = _htlcs(before.settled), _htlcs(after.settled)
    for gone in sorted(old - new, key=lambda condition: condition.key):
        proven = after.shown | before.shown if gone.offerer is after.own_side else known.keys()
        reason = slips.take_reason(after.stream, gone.key)
        if reason is not None:
            slips.failed(gone.hash, reason)
        news.append(HtlcRemoved(after.channel_id, gone, gone.hash in proven, reason))
    news += [
        HtlcAdded(after.channel_id, added, slips.take_note(after.stream, added.hash))
        for added in sorted(new - old, key=lambda condition: condition.key)
    ]
    return news


def _htlcs(content: Content | None) -> set[Condition]:
    if content is None:
        return set()
    return {condition for condition in content.read_conditions() if condition.is_htlc}


def _put(kept: dict[K, V], key: K, value: V) -> None:
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > MAX_NOTES:
        del kept[next(iter(kept))]
