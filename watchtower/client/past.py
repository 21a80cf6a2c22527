"""Answers about the past: the point of the tower's log that was meant, and the whole tower as of it."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from domain.as_of import AsOf


class LogPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The first `position` events of the tower's log.

    `recorded_at` (Unix seconds) is the time of the last of them, `height` and `tip_hash` are those of the tower's
    cursor; None if there was none yet.
    """

    position: int
    recorded_at: int | None = None
    height: int | None = None
    tip_hash: str | None = None


class OpenBreach(msgspec.Struct, frozen=True, kw_only=True):
    """A revoked commitment that was published and whose end was not final; `value` in satoshi, `deadline` a height."""

    channel_id: str
    commit_txid: str
    sequence: int | None
    value: int
    height: int | None
    deadline: int | None
    penalty_txid: str | None
    penalty_height: int | None


class TowerPast(msgspec.Struct, frozen=True, kw_only=True):
    """What the tower's log said of the whole tower. `channels` and `capacity` (satoshi) are per status.

    `breaches` names the most urgent of `open_breaches`; `alerts` counts channels with each kind of open alert, and
    `clients` the keys for which a channel was watched.
    """

    point: LogPoint
    channels: dict[str, int]
    capacity: dict[str, int]
    open_breaches: int
    breaches: tuple[OpenBreach, ...]
    alerts: dict[str, int]
    clients: int


def at_time(moment: datetime) -> AsOf:
    """The point of a time; one without a time zone is taken as local, as `datetime` does."""
    return AsOf(at=moment.astimezone(UTC).isoformat())


def parameters(as_of: AsOf | None) -> dict[str, str]:
    """Query parameters of a question."""
    return {} if as_of is None else as_of.query()
