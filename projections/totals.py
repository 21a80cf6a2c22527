"""Sums over all channels, kept with each change: what they are is asked often, and there may be a million channels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from domain.status import ChannelStatus
from projections.channel_info import TABLE as INFO
from projections.tables import Change, Row, Scalar, Table

PROTECTED = (
    ChannelStatus.ACTIVE,
    ChannelStatus.FROZEN,
    ChannelStatus.COOP_CLOSING,
    ChannelStatus.UNILATERAL,
)
"""Channels whose money a stale commitment could take now."""

COVERED = (*PROTECTED, ChannelStatus.FUNDING_BROADCAST)
"""Channels whose revoked states can be published, or as soon as the funding is there."""

_COLUMNS = tuple(INFO.columns.index(name) for name in ("status", "capacity", "highest_revoked"))


_OWNER, _RESOLVED = INFO.columns.index("owner_key"), INFO.columns.index("resolved")


class Sums(Protocol):
    """The part of the rows that a start needs."""

    def sums(self, table: Table, by: str, of: Sequence[str]) -> Mapping[Scalar, tuple[int, ...]]:
        """Per value of a column the number of rows and the sums of other columns."""

    def distinct(self, table: Table, column: str, unless: str) -> int:
        """How many values a column has among the rows without a value in another one."""

    def count(self, table: Table, column: str, value: Scalar, unless: str, limit: int) -> int:
        """How many of these rows have this value; not counted beyond `limit`."""


class TotalsNow(msgspec.Struct, frozen=True):
    """Per status the number of channels and their capacity (satoshi); revoked states of watched channels.

    `owners` are the different keys of parties with a channel that is not resolved.
    """

    channels: dict[str, int]
    capacity: dict[str, int]
    revoked_states: int
    owners: int

    @property
    def protected_sats(self) -> int:
        """Capacity of the channels that the tower protects."""
        return sum(self.capacity.get(status, 0) for status in PROTECTED)


class Totals:
    """Begins with one look at the rows and follows their changes. Changed by one thread; `now` may be asked by any."""

    def __init__(self, rows: Sums) -> None:
        self._rows = rows
        self._owners = rows.distinct(INFO, "owner_key", "resolved")
        self._channels: Counter[str] = Counter()
        self._capacity: Counter[str] = Counter()
        self._revoked: Counter[str] = Counter()
        for status, (number, capacity, highest) in rows.sums(INFO, "status", ("capacity", "highest_revoked")).items():
            self._add(str(status), number, capacity, highest + number)  # -1 = none, so each has one more

    def apply(self, changes: Iterable[Change]) -> None:
        """Follow changes that the rows show already; those of other tables are passed over."""
        owners: Counter[bytes] = Counter()
        for change in changes:
            if change.table != INFO.name:
                continue
            for row, sign in ((change.before, -1), (change.row, 1)):
                if row is not None:
                    status, capacity, highest = _numbers(row)
                    self._add(status, sign, sign * capacity, sign * (highest + 1))
                    if row[_RESOLVED] is None:
                        owners[_owner(row)] += sign
        for key, more in owners.items():
            if more:
                self._count_owner(key, more)

    def now(self) -> TotalsNow:
        """The sums as they stand."""
        revoked = sum(self._revoked[status] for status in COVERED)
        return TotalsNow(dict(self._channels), dict(self._capacity), revoked, self._owners)

    def _count_owner(self, key: bytes, more: int) -> None:
        """A party has `more` channels than before: is that its first, or was it its last?"""
        now = self._rows.count(INFO, "owner_key", key, "resolved", max(more, 0) + 1)
        had = more < 0 or now > more
        self._owners += (now > 0) - had

    def _add(self, status: str, number: int, capacity: int, revoked: int) -> None:
        self._channels[status] += number
        self._capacity[status] += capacity
        self._revoked[status] += revoked


def _owner(row: Row) -> bytes:
    key = row[_OWNER]
    assert isinstance(key, bytes)
    return key


def _numbers(row: Row) -> tuple[str, int, int]:
    status, capacity, highest = (row[column] for column in _COLUMNS)
    assert isinstance(capacity, int)
    assert isinstance(highest, int)
    return str(status), capacity, highest
