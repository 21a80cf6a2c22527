"""What happened last, in plain words."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from projections.channels import is_channel_stream
from projections.timeline import TimelineRow, row_of
from watchtower.store.channel_list import channels_of
from watchtower.web.sources import Sources
from watchtower.web.verdict import Tone
from watchtower.web.words import txid_text

SHOWN = 10
PAGE, PAGES = 400, 5
"""Events of the log that are looked at. A tower without updates stores little but blocks: two weeks of them."""

_BAD = frozenset({"BreachDetected", "AlertRaised", "PenaltyRefused", "EquivocationFound", "FundingDoubleSpent"})
_GOOD = frozenset({"PenaltyConfirmed", "PenaltyBroadcast", "AlertCleared", "SoftFinal", "ChannelResolved"})
_WATCH = frozenset({"PenaltyPrepared", "PenaltyReplaced", "PenaltyDisconnected", "SpendSeen", "SpendConfirmed"})


class Happening(msgspec.Struct, frozen=True):
    """An event; `channel_id` is empty for one of the tower itself, `at` is Unix seconds, `txid` in display order."""

    id: int
    version: int
    at: float
    height: int | None
    kind: str
    text: str
    channel_id: str
    txid: str
    tone: Tone


def latest(sources: Sources) -> tuple[Happening, ...]:
    """The newest events of channels, newest first; costs the same however long the log is."""
    shown: list[TimelineRow] = []
    end = sources.store.last_id()
    for _ in range(PAGES):
        begin = max(0, end - PAGE)
        page = sources.store.read_log(begin, end - begin) if end else []
        shown += [row_of(recorded) for recorded in reversed(page) if is_channel_stream(recorded.envelope.stream)]
        end = begin
        if len(shown) >= SHOWN or not end:
            break
    shown = shown[:SHOWN]
    infos = channels_of(sources.rows, sorted({row.stream for row in shown}))
    names = {stream: info.channel_id.hex() for stream, info in infos.items()}
    return tuple(happening(row, names.get(row.stream, "")) for row in shown)


def happenings(rows: Iterable[TimelineRow], channel_id: str) -> tuple[Happening, ...]:
    """Events of one channel."""
    return tuple(happening(row, channel_id) for row in rows)


def happening(row: TimelineRow, channel_id: str) -> Happening:
    """A row of the timeline as it is shown."""
    return Happening(
        id=row.id,
        version=row.version,
        at=row.recorded_at / 1e6,
        height=row.height,
        kind=row.kind,
        text=row.line,
        channel_id=channel_id,
        txid="" if row.txid is None else txid_text(row.txid),
        tone=_tone(row.kind, row.line),
    )


def _tone(kind: str, line: str) -> Tone:
    if kind in _BAD or line.startswith("LOST"):
        return "bad"
    if kind in _GOOD:
        return "good"
    return "watch" if kind in _WATCH else "calm"
