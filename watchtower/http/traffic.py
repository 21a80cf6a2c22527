"""What goes on at a listener: requests under way, open event streams, and what was refused before a handler ran."""

from __future__ import annotations

from collections.abc import Callable

from watchtower.http.buckets import RateLimited
from watchtower.http.nonces import TooBusy
from watchtower.http.problems import EdgeRefusal, Replayed

_REASONS = {
    "too-large": "body_too_large",
    "unauthorized": "bad_auth",
    "forbidden": "forbidden",
    "clock-skew": "clock_skew",
    "request-timeout": "timeout",
}
"""Slug of a refusal at the edge -> reason. What cannot be read is an answer about the content, not a refusal."""

OVERLOAD = "overload"


def ignored(reason: str) -> None:
    """Count nothing."""
    del reason


class Traffic:
    """Changed by the event loop's thread; the numbers may be read by any."""

    def __init__(self, rejected: Callable[[str], object] = ignored) -> None:
        """`rejected` is told the reason of each refusal."""
        self.in_flight = 0
        self.streams = 0
        self._rejected = rejected

    def refused(self, error: Exception) -> None:
        """A request ended with this error."""
        reason = reason_of(error)
        if reason is not None:
            self._rejected(reason)

    def overloaded(self) -> None:
        """A connection was refused because there are too many."""
        self._rejected(OVERLOAD)

    def began(self) -> None:
        """A request has arrived."""
        self.in_flight += 1

    def became_stream(self) -> None:
        """The answer to a request is an event stream: it stays, and is no request under way any more."""
        self.in_flight -= 1
        self.streams += 1

    def ended(self, *, is_stream: bool) -> None:
        """A request was answered, or a stream ended."""
        if is_stream:
            self.streams -= 1
        else:
            self.in_flight -= 1


def reason_of(error: Exception) -> str | None:
    """Why a request was refused before its handler; None if it was not."""
    if isinstance(error, RateLimited):
        return "rate_limit"
    if isinstance(error, TooBusy):
        return OVERLOAD
    if isinstance(error, Replayed):
        return "replay"
    return _REASONS.get(error.name) if isinstance(error, EdgeRefusal) else None
