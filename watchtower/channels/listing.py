"""The channels of the tower, or of one owner, as the view has them."""

from __future__ import annotations

from collections.abc import Iterator

from domain.status import ChannelStatus
from projections.channel_info import TABLE, ChannelInfoRow
from projections.tables import Key
from watchtower.channels.context import Context

PAGE = 1000
OVER = frozenset({ChannelStatus.RESOLVED, ChannelStatus.DOUBLE_SPENT})
"""Statuses in which nothing of a channel can change any more, or in which it never came to be."""


def every_channel(context: Context, owner: bytes | None = None) -> Iterator[ChannelInfoRow]:
    """All of them, a page at a time; `owner` (x-only auth key, 32 bytes): those that are watched for this key."""
    if owner is not None:
        yield from map(TABLE.read, context.views.find(TABLE, "owner_key", owner))
        return
    after: Key | None = None
    while rows := context.views.page(TABLE, after, PAGE):
        yield from map(TABLE.read, rows)
        after = TABLE.key_of(rows[-1])


def is_over(channel: ChannelInfoRow) -> bool:
    """Nothing of the channel can change any more, or it never came to be."""
    return channel.status in OVER
