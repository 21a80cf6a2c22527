"""Questions: one channel, many channels, a channel's history, totals."""

from __future__ import annotations

from msgspec.structs import replace

from domain.errors import MalformedInput
from domain.events import Recorded
from domain.status import ChannelStatus
from projections.channel_info import TABLE as CHANNELS
from projections.channel_info import ChannelInfoRow
from projections.tables import Key, Row, Scalar
from projections.timeline import TimelineRow, row_of
from watchtower.channels.context import Context
from watchtower.channels.info import channel_body
from watchtower.channels.liquidity import liquidity_body
from watchtower.channels.listing import every_channel, is_over
from watchtower.wire.api import ChannelBody, ChannelPage, TimelineEntry, TimelinePage
from watchtower.wire.hexes import Hex32
from watchtower.wire.restores import BehindBody

MAX_PAGE = 1000


def get_channel(context: Context, stream: str) -> ChannelBody:
    """`ChannelInfo` as of the last stored event, with its liquidity; costs are counted with the static feerate."""
    channel, tip = context.channels.load(stream), context.tip_height()
    body = channel_body(channel, context.policy, tip)
    return replace(body, liquidity=liquidity_body(channel, context.policy, tip))


def list_channels(
    context: Context,
    after: str | None = None,
    limit: int = 100,
    status: str | None = None,
    owner: bytes | None = None,
) -> ChannelPage:
    """Channels in a fixed order behind `after` (the `next` of the page before).

    `owner` (x-only auth key, 32 bytes): only channels that are watched for this key. With a `status` a page may be
    short although more follow: it is that of the answers, which know more than the view in which they are found.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise MalformedInput(f"limit lies between 1 and {MAX_PAGE}, got {limit}")
    if status is not None and status not in set(ChannelStatus):
        raise MalformedInput(f"status is one of {', '.join(ChannelStatus)}")
    rows = _rows(context, after, limit + 1, status, owner)
    shown: list[ChannelInfoRow] = [CHANNELS.read(row) for row in rows[:limit]]
    tip = context.tip_height()
    found = (channel_body(context.channels.load(row.stream), context.policy, tip) for row in shown)
    bodies = tuple(body for body in found if status in (None, body.status))
    return ChannelPage(channels=bodies, next=shown[-1].stream if len(rows) > limit else None)


def _rows(context: Context, after: str | None, limit: int, status: str | None, owner: bytes | None) -> list[Row]:
    """Rows that may have this status: to the view a channel is active from the first confirmation on."""
    shallow = status == ChannelStatus.FUNDING_BROADCAST and context.policy.confirmations > 1
    kept = (status, ChannelStatus.ACTIVE.value) if shallow else (status,)
    found = [row for each in kept for row in _rows_of(context, after, limit, each, owner)]
    return sorted(found, key=CHANNELS.key_of)[:limit]


def _rows_of(context: Context, after: str | None, limit: int, status: str | None, owner: bytes | None) -> list[Row]:
    key: Key | None = None if after is None else (after,)
    asked: dict[str, Scalar] = {"owner_key": owner, "status": status}
    where = {column: value for column, value in asked.items() if value is not None}
    return context.views.page_of(CHANNELS, where, key, limit) if where else context.views.page(CHANNELS, key, limit)


def get_timeline(context: Context, stream: str, after: int = 0, limit: int = 100) -> TimelinePage:
    """The channel's history behind event `after`, oldest first; times in Unix seconds."""
    if not 1 <= limit <= MAX_PAGE or after < 0:
        raise MalformedInput(f"limit lies between 1 and {MAX_PAGE}, and after is not negative")
    channel = context.channels.load(stream)
    page = context.store.read_stream(stream, after=after, limit=limit + 1)
    rows = [row_of(Recorded(0, event)) for event in page]  # the ids are not shown
    entries = tuple(map(timeline_entry, rows[:limit]))
    more = entries[-1].version if len(rows) > limit else None
    return TimelinePage(channel_id=Hex32(channel.params.channel_id), entries=entries, next=more)


def behind(context: Context, owner: bytes | None = None) -> BehindBody | None:
    """What a restored log lacks; `owner` (x-only auth key) is told the number of its own channels. None: nothing."""
    rollback = context.rollbacks.behind()
    if rollback is None:
        return None
    waiting = rollback.channels
    if owner is not None:
        waiting = sum(context.rollbacks.awaits(row.stream) for row in every_channel(context, owner))
    return BehindBody(
        since=rollback.since, high_water=rollback.high_water, channels=waiting, accepted=rollback.accepted
    )


def timeline_entry(row: TimelineRow) -> TimelineEntry:
    """A row of the view as the API tells it."""
    return TimelineEntry(
        version=row.version,
        recorded_at=row.recorded_at // 1_000_000,
        height=row.height,
        kind=row.kind,
        text=row.line,
    )


def totals(context: Context, owner: bytes | None = None) -> tuple[int, int]:
    """Number of channels and their capacity in satoshi, without those that are over.

    `owner` (x-only auth key, 32 bytes): only channels that are watched for this key.
    """
    alive = [channel.capacity for channel in every_channel(context, owner) if not is_over(channel)]
    return len(alive), sum(alive)
