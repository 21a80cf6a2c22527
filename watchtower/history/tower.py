"""The tower as of a point: where its cursor stood, what it watched, what it knew to be wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from projections import channel_info, open_breaches
from projections.channel_info import ChannelInfoRow
from projections.open_breaches import OpenBreachRow
from projections.tables import Key, Table
from watchtower.history.log import HistoryViews
from watchtower.history.points import Point

PAGE = 5_000

R = TypeVar("R")


class TowerState(msgspec.Struct, frozen=True):
    """What the log said about the whole tower.

    `channels` and `capacity` (satoshi) are per status, which is ACTIVE from the first confirmation on. `breaches` are
    those that were not final, nearest deadline first; `alerts` counts the channels with each kind of open alert;
    `clients` is the number of keys for which a channel was watched; `breached` has the channel ids of `breaches`.
    """

    point: Point
    channels: dict[str, int]
    capacity: dict[str, int]
    breaches: tuple[OpenBreachRow, ...]
    alerts: dict[str, int]
    clients: int
    breached: dict[str, bytes]


def tower_state(point: Point, infos: Iterable[ChannelInfoRow], breaches: Iterable[OpenBreachRow]) -> TowerState:
    """Add up the rows of all channels as they stood at a point; `breaches` are looked at after the last of them."""
    channels: Counter[str] = Counter()
    capacity: Counter[str] = Counter()
    alerts: Counter[str] = Counter()
    owners: set[bytes] = set()
    spent: dict[str, bytes] = {}
    for info in infos:
        channels[info.status] += 1
        capacity[info.status] += info.capacity
        alerts.update(kind for kind in info.open_alerts.split(",") if kind)
        owners.add(info.owner_key)
        if info.spend_txid is not None:
            spent[info.stream] = info.channel_id
    urgent = tuple(sorted(breaches, key=_urgency))
    return TowerState(
        point=point,
        channels=dict(sorted(channels.items())),
        capacity=dict(sorted(capacity.items())),
        breaches=urgent,
        alerts=dict(sorted(alerts.items())),
        clients=len(owners),
        breached={breach.stream: spent[breach.stream] for breach in urgent},
    )


def state_of_views(point: Point, views: HistoryViews) -> TowerState:
    """The same from read models that stand at the point."""
    return tower_state(point, all_rows(views, channel_info.TABLE), all_rows(views, open_breaches.TABLE))


def all_rows(views: HistoryViews, table: Table) -> Iterator[R]:
    """Every row of a table as its struct, in key order."""
    after: Key | None = None
    while rows := views.page(table, after, PAGE):
        yield from map(table.read, rows)
        after = table.key_of(rows[-1])


def _urgency(breach: OpenBreachRow) -> tuple[bool, int, int, str]:
    return breach.deadline is None, breach.deadline or 0, -breach.value, breach.stream
