"""Single events of a log, each with what binds it: its leaf, the commit that holds it, the head behind that commit.

Only these events and their commits are looked at, not the chain before them: that is what `audit verify` is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import msgspec

from domain.as_of import time_text
from domain.errors import LogCorrupt
from domain.events import Payload, decode_payload
from projections.sentences import sentence
from watchtower.audit.event_fields import fields_of
from watchtower.audit.findings import ExitCode, Finding, cleaned, exit_code
from watchtower.audit.receipts import leaf_of
from watchtower.audit.stretches import as_finding
from watchtower.store.chain_walk import ChainWalk, Span
from watchtower.store.exports.rows import EntryFields, entry_leaf, read_entry
from watchtower.store.exports.source import ExportSource
from watchtower.store.salvage import rows_of
from watchtower.store.source import Commit, LogSource, RawRow, Unreadable

MOST = 1_000
"""Events that are shown at once."""


class BehindTheEnd(Exception):
    """The log has no such position yet; the text names its last one."""


class ShownCommit(msgspec.Struct, frozen=True):
    """The commit that holds an event: its number, the positions of its first and last event."""

    number: int
    first_position: int
    last_position: int


class ShownEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event that hashes to the leaf that its commit has; hashes are hexadecimal.

    `name` is the class in `domain/events` that the stored topic is read as today. It, `recorded_at` (UTC), `sentence`
    and `fields` are None where the payload is not at hand or cannot be read. `display_order` and `withheld` as in
    `Fields`; `head` is the chain head behind the commit.
    """

    position: int
    stream: str
    version: int
    topic: str
    name: str | None = None
    recorded_at: str | None = None
    sentence: str | None = None
    fields: dict[str, Any] | None = None
    display_order: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    state_size: int
    state_sha256: str
    leaf: str
    commit: ShownCommit
    head: str


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """Events of a log, and what is wrong with those that were asked for; damaged ones are not among them."""

    origin: str
    log_id: str
    events: tuple[ShownEvent, ...]
    findings: tuple[Finding, ...]
    exit_code: ExitCode


def show(source: LogSource, first: int, last: int) -> Shown:
    """The events `first` to `last`. Raises `BehindTheEnd`, and `StoreError` if the log cannot be read at all."""
    begin = source.meta.start().last_id + 1
    if first < begin:
        words = f"the first event here is {begin}: events {first} to {begin - 1} are in an earlier part of the log"
        return _answer(source, [], [Finding(code=ExitCode.INCOMPLETE, position=first, sentence=words)])
    stored, end = source.last_id(), source.last_commit().last_id
    if last > max(stored, end):
        raise BehindTheEnd(f"there is no event {last} yet: the log ends at {max(stored, end)}")
    look = _Look(source, first, last)
    look.run()
    return _answer(source, look.events, look.findings)


def _answer(source: LogSource, events: list[ShownEvent], findings: list[Finding]) -> Shown:
    meta = source.meta
    return Shown(
        origin=meta.origin,
        log_id=meta.log_id.hex(),
        events=tuple(events),
        findings=tuple(map(cleaned, findings)),
        exit_code=exit_code(findings),
    )


class _Look:
    """One look at some positions that the log reaches."""

    def __init__(self, source: LogSource, first: int, last: int) -> None:
        self._source, self._first, self._last = source, first, last
        self._unreadable = ExitCode.MALFORMED_EXPORT if isinstance(source, ExportSource) else ExitCode.INTEGRITY
        self._rows: dict[int, RawRow] = {}
        self._entries: dict[int, bytes] = {}
        self.events: list[ShownEvent] = []
        self.findings: list[Finding] = []

    def run(self) -> None:
        """Compare every event with its leaf, and every commit with the one before it."""
        try:
            lost = self._read()
            position = self._first
            for span in self._spans():
                for at in range(position, min(span.last_id, self._last) + 1):
                    self._look_at(at, span, is_lost=at in lost)
                position = max(position, span.last_id + 1)
        except Unreadable as error:
            self._note(self._unreadable, self._first, f"the events and their commits cannot be read: {error}")

    def _read(self) -> frozenset[int]:
        """Read the events; the positions that cannot be read."""
        if isinstance(self._source, ExportSource) and self._source.manifest.entries_only:
            entries = self._source.entries(self._first, self._last)
            self._entries = dict(enumerate(entries, self._first))
            words = "the export holds entries only: what happened is not in it"
            self._note(ExitCode.INCOMPLETE, self._first, words)
            return frozenset()
        rows, lost = rows_of(self._source, self._first, self._last)
        self._rows = {row[0]: row for row in rows}
        return frozenset(lost)

    def _spans(self) -> Iterator[Span]:
        """The commits that hold the events, each compared with the one before it."""
        position = self._first
        while position <= self._last:
            commit = self._source.commit_at(position)
            if commit is None:
                self._note(ExitCode.INTEGRITY, position, f"event {position} stands in the log, but no commit holds it")
                return
            span, flaws = self._walk_to(commit).step(commit)
            self.findings += map(as_finding, flaws)
            if span is None:
                return
            if span.flaw is not None:
                self.findings.append(as_finding(span.flaw))
            yield span
            position = max(position, span.last_id) + 1

    def _walk_to(self, commit: Commit) -> ChainWalk:
        """Behind the commit before this one; its head is believed."""
        meta, number = self._source.meta, commit.commit_no - 1
        if number == meta.start().commit_no:
            return ChainWalk(meta)
        before = [each for each in self._source.commits(number, 1) if each.commit_no == number]
        return ChainWalk.behind(before[0] if before else None, meta, number)

    def _look_at(self, position: int, span: Span, *, is_lost: bool) -> None:
        row, raw = self._rows.get(position), self._entries.get(position)
        if is_lost:
            self._note(self._unreadable, position, f"event {position} cannot be read: what is stored of it is damaged")
        elif row is None and raw is None:
            words = f"event {position} is missing, although commit {span.commit.commit_no} holds it"
            self._note(ExitCode.ORDER, position, words)
        elif (entry_leaf(raw) if raw is not None else leaf_of(row)) != span.leaf_of(position):  # type: ignore[arg-type]
            words = (
                f"event {position} does not hash to the leaf that commit {span.commit.commit_no} has: it was changed "
                "after it was written (`audit verify` tells whether the event or the leaf)"
            )
            self._note(ExitCode.INTEGRITY, position, words)
        else:
            self.events.append(self._shown(position, span, row, raw))

    def _shown(self, position: int, span: Span, row: RawRow | None, raw: bytes | None) -> ShownEvent:
        payload = None
        if row is not None:
            entry = EntryFields(row[1], row[2], row[3], len(row[4]), sha256(row[4]).digest())
            payload = self._payload(row)
        else:
            entry = read_entry(raw or b"")
        return ShownEvent(
            position=position,
            stream=entry.stream,
            version=entry.version,
            topic=entry.topic,
            **({} if payload is None else _told(payload)),
            state_size=entry.size,
            state_sha256=entry.state_hash.hex(),
            leaf=span.leaf_of(position).hex(),
            commit=ShownCommit(span.commit.commit_no, span.first_id, span.last_id),
            head=span.commit.head.hex(),
        )

    def _payload(self, row: RawRow) -> Payload | None:
        try:
            return decode_payload(row[3], row[4])
        except LogCorrupt as error:
            self._note(ExitCode.REPLAY, row[0], f"event {row[0]} is what was committed, but: {error}")
            return None

    def _note(self, code: ExitCode, position: int, words: str) -> None:
        self.findings.append(Finding(code=code, position=position, sentence=words))


def _told(payload: Payload) -> dict[str, Any]:
    fields = fields_of(payload)
    return {
        "name": type(payload).__name__,
        "recorded_at": _time(payload.recorded_at),
        "sentence": sentence(payload),
        "fields": fields.values,
        "display_order": fields.display_order,
        "withheld": fields.withheld,
    }


def _time(microseconds: int) -> str | None:
    try:
        return time_text(microseconds)
    except (ValueError, OverflowError):  # a clock that no calendar knows; the number stands among the fields
        return None
