"""Channels as rows of a list, and one channel with its history. All from the read models and a piece of one stream."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import msgspec

from domain.events import Recorded, StateUpdated
from domain.status import ChannelStatus
from projections.channel_info import TABLE, ChannelInfoRow
from projections.timeline import row_of
from watchtower.store import channel_list
from watchtower.store.channel_list import Place
from watchtower.web.sources import Sources
from watchtower.web.timeline_view import Happening, happenings
from watchtower.web.verdict import PROTECTED, Tone
from watchtower.web.words import txid_text, words

PAGE = 50
HISTORY = 30
"""Events of a channel's history on one page."""

RECEIPTS = 5
SEARCH_LIMIT = 128
"""Characters of a search that are looked at."""

SHORTEST = 4
"""Digits of a beginning; fewer would mean half of the channels."""

_DIGITS = re.compile(r"[0-9a-f]+")
_STREAM = re.compile(r"c[A-Za-z0-9_-]{22}")
_PLACE = re.compile(r"([0-9]{1,16})\.([0-9]{1,16})")

_STATUS: dict[str, tuple[Tone, str]] = {
    ChannelStatus.PROPOSED: ("calm", "being opened"),
    ChannelStatus.FUNDING_BROADCAST: ("calm", "waits for funding"),
    ChannelStatus.ACTIVE: ("good", "active"),
    ChannelStatus.FROZEN: ("watch", "frozen"),
    ChannelStatus.COOP_CLOSING: ("calm", "cooperative close"),
    ChannelStatus.UNILATERAL: ("watch", "unilateral close"),
    ChannelStatus.SETTLED: ("calm", "settled"),
    ChannelStatus.PUNISHED: ("good", "breach punished"),
    ChannelStatus.LOST: ("bad", "lost"),
    ChannelStatus.DOUBLE_SPENT: ("bad", "funding double-spent"),
    ChannelStatus.UNKNOWN_SPEND: ("bad", "unknown spend"),
    ChannelStatus.RESOLVED: ("calm", "over"),
}


class ChannelLine(msgspec.Struct, frozen=True):
    """A channel in a list; `updated` in Unix seconds, `sequence` -1 while there is no state."""

    channel_id: str
    status: str
    status_text: str
    tone: Tone
    capacity: int
    sequence: int
    final_sequence: int
    updated: float
    alerts: tuple[str, ...]


class ChannelList(msgspec.Struct, frozen=True):
    """A page of channels; `next_query` is the query string of the page behind it, empty at the end."""

    lines: tuple[ChannelLine, ...]
    search: str
    status: str
    note: str
    next_query: str
    is_first: bool


class Receipt(msgspec.Struct, frozen=True):
    """What a receipt is about: a stored state, its place in the log, when. The API signs it anew for its client."""

    sequence: int
    position: int
    at: float


class ChannelPage(msgspec.Struct, frozen=True):
    """Everything about one channel; ids and outpoints are texts in display order."""

    line: ChannelLine
    info: ChannelInfoRow
    proposal_id: str
    funding: str
    spend: str
    penalty: str
    settlement: str
    owner: str
    is_protected: bool
    breaches: tuple[str, ...]
    history: tuple[Happening, ...]
    older: int
    receipts: tuple[Receipt, ...]


def line_of(info: ChannelInfoRow) -> ChannelLine:
    """A channel's row as a list shows it."""
    tone, text = _STATUS.get(info.status, ("watch", words(info.status)))
    alerts = tuple(words(name) for name in info.open_alerts.split(",") if name)
    return ChannelLine(
        channel_id=info.channel_id.hex(),
        status=info.status,
        status_text=text,
        tone="bad" if alerts else tone,
        capacity=info.capacity,
        sequence=info.current_sequence,
        final_sequence=info.final_sequence,
        updated=info.recorded_at / 1e6,
        alerts=alerts,
    )


def statuses() -> tuple[tuple[str, str], ...]:
    """All statuses with their words, for a choice."""
    return tuple((str(status), _STATUS[status][1]) for status in ChannelStatus)


def list_channels(sources: Sources, search: str, status: str, after: str, limit: int = PAGE) -> ChannelList:
    """What the visitor asks for. Whatever cannot be understood is an empty list with a note, never an error."""
    search = search.strip()[:SEARCH_LIMIT]
    if search:
        found, note = _search(sources, search.lower() if not _STREAM.fullmatch(search) else search, limit)
        return ChannelList(tuple(map(line_of, found)), search, "", note, "", is_first=True)
    if status in set(ChannelStatus):
        return _of_status(sources, status, after, limit)
    rows = channel_list.channel_page(sources.rows, after if _STREAM.fullmatch(after) else "", limit + 1)
    more = urlencode({"after": rows[limit - 1].stream}) if len(rows) > limit else ""
    lines = tuple(map(line_of, rows[:limit]))
    return ChannelList(lines, "", "", "" if lines else "No channel is registered here.", more, is_first=not after)


def _of_status(sources: Sources, status: str, after: str, limit: int) -> ChannelList:
    match = _PLACE.fullmatch(after)
    place = Place(int(match[1]), int(match[2])) if match else None
    found = channel_list.largest_of(sources.rows, status, place, limit + 1)
    last = found[limit - 1][0] if len(found) > limit else None
    more = urlencode({"status": status, "after": f"{last.capacity}.{last.row}"}) if last is not None else ""
    lines = tuple(line_of(info) for _, info in found[:limit])
    return ChannelList(lines, "", status, "" if lines else "No channel has this status.", more, is_first=place is None)


def _search(sources: Sources, search: str, limit: int) -> tuple[list[ChannelInfoRow], str]:
    if _STREAM.fullmatch(search):
        found = list(channel_list.channels_of(sources.rows, [search]).values())
    elif not _DIGITS.fullmatch(search) or len(search) > 64:
        return [], "Search for hexadecimal digits: the beginning of a channel id or of a client's key, or a whole txid."
    elif len(search) < SHORTEST:
        return [], f"Give at least {SHORTEST} digits."
    else:
        found = channel_list.by_digits(sources.rows, search, limit)
        if len(search) == 64 and not found:
            found = _by_whole_name(sources, bytes.fromhex(search), limit)
    if not found:
        return [], "Nothing begins like this: no channel id, no client's key, no transaction of an open channel."
    return found, f"The first {limit} are shown; give more digits." if len(found) == limit else ""


def _by_whole_name(sources: Sources, name: bytes, limit: int) -> list[ChannelInfoRow]:
    """A proposal id, or a transaction in display order."""
    proposed = channel_list.channels_of(sources.rows, [sources.stream_of(name)])
    return list(proposed.values()) or channel_list.by_transaction(sources.rows, name[::-1], limit)


def find_channel(sources: Sources, channel_id: str) -> ChannelInfoRow | None:
    """The channel with this id (64 lower-case digits); None for anything else."""
    if len(channel_id) != 64 or not _DIGITS.fullmatch(channel_id):
        return None
    found = sources.rows.find(TABLE, "channel_id", bytes.fromhex(channel_id))
    info: ChannelInfoRow | None = TABLE.read(found[0]) if found else None
    return info


def channel_page(sources: Sources, info: ChannelInfoRow, before: int | None, breaches: tuple[str, ...]) -> ChannelPage:
    """One channel with the piece of its history that ends before a version; None: with the newest one."""
    end = info.version if before is None else max(0, min(before - 1, info.version))
    begin = max(0, end - HISTORY)
    envelopes = sources.store.read_stream(info.stream, after=begin, limit=end - begin) if end else []
    ids = ((sources.store.event_id(info.stream, each.version) or 0, each) for each in envelopes)
    recorded = [Recorded(number, each) for number, each in ids][::-1]
    receipts = tuple(_receipt(each) for each in recorded if isinstance(each.envelope.payload, StateUpdated))
    line = line_of(info)
    return ChannelPage(
        line=line,
        info=info,
        proposal_id=info.proposal_id.hex(),
        funding=_outpoint(info.funding_outpoint),
        spend=_txid(info.spend_txid),
        penalty=_txid(info.penalty_txid),
        settlement=_txid(info.settle_txid),
        owner=info.owner_key.hex(),
        is_protected=info.status in PROTECTED,
        breaches=breaches,
        history=happenings(map(row_of, recorded), line.channel_id),
        older=begin + 1 if begin else 0,
        receipts=receipts[:RECEIPTS],
    )


def _receipt(recorded: Recorded) -> Receipt:
    payload = recorded.envelope.payload
    assert isinstance(payload, StateUpdated)
    return Receipt(payload.sequence, recorded.id, payload.recorded_at / 1e6)


def _txid(txid: bytes | None) -> str:
    return "" if txid is None else txid_text(txid)


def _outpoint(outpoint: bytes | None) -> str:
    if outpoint is None:
        return ""
    return f"{txid_text(outpoint[:32])}:{int.from_bytes(outpoint[32:], 'little')}"
