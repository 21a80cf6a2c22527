"""A point of the log that a question is about: what was known *then*.

Each point names a prefix of the log, so that every answer was once the state of this log. What a point means is said
here; which prefix it is, is found in `watchtower.history`.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

import msgspec

from domain.errors import MalformedInput

MAX_POINT = 2**53 - 1
"""Largest position, id or height: what every reader of JSON can hold."""

OPTIONS = ("position", "id", "at", "height", "block")
"""The ways to name a point, in the order in which they are listed everywhere."""

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:[Zz]|[+-]00:00)", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AsOf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Exactly one of the five; `MalformedInput` for none, for two of them, and for what cannot be read.

    * `position`: the first so many events.
    * `id`: all events with at most this notification id.
    * `at` (RFC 3339, UTC): the longest prefix in which no event was recorded later.
    * `height`: up to the end of the job of the last connected block of this height that is still connected.
    * `block` (hash as block explorers show it): the same for this block, also if it was disconnected later.
    """

    position: int | None = None
    id: int | None = None
    at: str | None = None
    height: int | None = None
    block: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in OPTIONS if getattr(self, name) is not None]
        if not given:
            raise MalformedInput(f"a point of the log is one of {', '.join(OPTIONS)}; none was given")
        if len(given) > 1:
            raise MalformedInput(f"give one point of the log only, not both {given[0]} and {given[1]}")
        (name,) = given
        if name == "at":
            _ = self.microseconds
        elif name == "block":
            _ = self.block_hash
        else:
            _check_number(name, getattr(self, name))

    def __str__(self) -> str:
        """As in "height 812345"."""
        return " ".join(*self.query().items())

    @property
    def microseconds(self) -> int:
        """`at` as Unix microseconds, parts of one dropped; `MalformedInput` if it is not such a time."""
        text = str(self.at or "")
        found = _TIME.fullmatch(text)
        if found is None:
            raise MalformedInput(f"a time is written in UTC as in 2026-01-31T12:00:00Z (RFC 3339), got {text[:40]!r}")
        try:
            second = datetime.fromisoformat(f"{found[1]}T{found[2]}+00:00") - _EPOCH
        except ValueError as error:
            raise MalformedInput(f"{text} is no time: {error}") from None
        return (second.days * 86_400 + second.seconds) * 1_000_000 + int((found[3] or "").ljust(6, "0")[:6])

    @property
    def block_hash(self) -> bytes:
        """`block` in internal byte order; `MalformedInput` if it is no hash."""
        text = str(self.block or "")
        if not _HASH.fullmatch(text):
            raise MalformedInput(f"a block hash has 64 lower-case hexadecimal digits, got {text[:80]!r}")
        return bytes.fromhex(text)[::-1]

    def query(self) -> dict[str, str]:
        """The name of the one option and its text: a query parameter, or an option of a command without `--`."""
        found = {name: getattr(self, name) for name in OPTIONS}
        return {name: str(value) for name, value in found.items() if value is not None} | (
            {} if self.at is None else {"at": time_text(self.microseconds)}
        )


def _check_number(name: str, value: object) -> None:
    if not isinstance(value, int) or not 0 <= value <= MAX_POINT:
        raise MalformedInput(f"{name} is a whole number between 0 and {MAX_POINT}, got {str(value)[:40]!r}")


def one_point(
    *,
    position: int | None = None,
    id: int | None = None,  # noqa: A002 - the name of the option
    at: str | None = None,
    height: int | None = None,
    block: str | None = None,
) -> AsOf | None:
    """The point that was given, None if there is none; `MalformedInput` names both of two."""
    if all(option is None for option in (position, id, at, height, block)):
        return None
    return AsOf(position=position, id=id, at=at, height=height, block=block)


def time_text(microseconds: int) -> str:
    """Unix microseconds as RFC 3339 in UTC, with as many decimals as needed."""
    second, part = divmod(microseconds, 1_000_000)
    days, rest = divmod(second, 86_400)
    day = date.fromordinal(_EPOCH.toordinal() + days).isoformat()
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    decimals = f".{part:06}".rstrip("0") if part else ""
    return f"{day}T{clock}{decimals}Z"
