"""Which blocks the tower still needs: read from the read models beside the log, which a running tower keeps fresh."""

from __future__ import annotations

from pathlib import Path

import msgspec

from domain.chain import BlockRef
from projections import chain_tip, channel_info
from projections.catalog import PROJECTIONS
from projections.channel_info import ChannelInfoRow
from watchtower.config import Settings
from watchtower.ports import StoreError
from watchtower.store.places import open_log_reader
from watchtower.store.rebuild import open_views_reader
from watchtower.store.views import SqliteRows

PAGE = 5_000


class Needs(msgspec.Struct, frozen=True):
    """The cursor, and the lowest height at which a channel that is not over was funded; None where nobody knows."""

    cursor: BlockRef | None = None
    oldest_funding: int | None = None
    channels: int = 0


def needs_of(settings: Settings) -> Needs:
    """What the views say; nothing if there are none that fit the log."""
    path = Path(settings.views_path)
    if not path.exists():
        return Needs()
    try:
        rows = open_views_reader(path)
        try:
            return _read(settings, rows)
        finally:
            rows.close()
    except StoreError:  # the group `store` tells what is wrong with the files
        return Needs()


def _read(settings: Settings, rows: SqliteRows) -> Needs:
    with open_log_reader(settings) as log:
        if not rows.fits(log.meta.log_id, PROJECTIONS, log.last_id()):
            return Needs()
    tips = rows.page(chain_tip.TABLE, None, 1)
    tip: chain_tip.TipRow | None = chain_tip.TABLE.read(tips[0]) if tips else None
    heights, number, after = [], 0, None
    while page := rows.page(channel_info.TABLE, after, PAGE):
        for row in map(_channel, page):
            if row.resolved is None:
                number += 1
                heights += [] if row.funding_height is None else [row.funding_height]
        after = channel_info.TABLE.key_of(page[-1])
    cursor = None if tip is None else BlockRef(tip.height, tip.block_hash)
    return Needs(cursor, min(heights, default=None), number)


def _channel(row: tuple[object, ...]) -> ChannelInfoRow:
    return ChannelInfoRow(*row)  # type: ignore[arg-type]
