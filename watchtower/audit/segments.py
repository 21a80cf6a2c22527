"""What the walk over the chain cannot see of a log in several files: their names, what lies outside their bounds.

The walk follows the events and commits by number. A file may hold more than those, and the newest one has a list of
the streams before it, which no event is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import groupby, islice, pairwise, zip_longest

from watchtower.audit.findings import ExitCode, Finding
from watchtower.store.exports.source import ExportSource
from watchtower.store.exports.streams import StreamReader
from watchtower.store.segments.source import SegmentedSource
from watchtower.store.source import LogSource, Unreadable, is_sane
from watchtower.store.sqlite_source import SqliteSource
from watchtower.store.verify import LOWEST

NAMED = 100
"""Findings of one kind in one file that are named."""

_HIGHEST = 2**63 - 1

Base = tuple[str, int, int]
"""Stream, its last version before the newest file, the segment that holds it."""


def check_segments(source: LogSource) -> list[Finding]:
    """What is wrong with the files of a log; nothing for a log in one file. Raises `StoreError`."""
    if not isinstance(source, SegmentedSource):
        return []
    parts = source.parts
    findings = [
        Finding(code=ExitCode.ORDER, sentence=f"segment {number} of the log is missing; put it back and audit again")
        for number in source.missing
    ]
    breaks = [finding for before, part in pairwise(parts) for finding in _joined(before, part)]
    for part in parts:
        findings += islice(_strays(part, is_newest=part is parts[-1]), NAMED)
    if not breaks and not source.missing:
        for end in range(2, len(parts) + 1):
            findings += _compare_bases(parts[:end])
    findings += breaks
    return findings


def _joined(before: LogSource, part: LogSource) -> list[Finding]:
    """Whether a file says of itself that it goes on with the log, and where the one before ends."""
    one, two, end = before.meta, part.meta, before.last_commit()
    number = two.segment
    if (one.log_id, one.origin) != (two.log_id, two.origin):
        return [_changed(f"segment {number} says that it belongs to another log")]
    if one.segment + 1 != number or not is_sane(end):
        return []  # one is missing between them, or the walk has named the end
    if (end.last_id + 1, end.head) != (two.first_id, two.prev_head):
        return [_changed(f"segment {number} does not say that it goes on where segment {one.segment} ends")]
    return []


def _strays(part: LogSource, *, is_newest: bool) -> Iterator[Finding]:
    """Events and commits that a file holds although it should not: outside of its bounds nobody looks at them."""
    if not isinstance(part, SqliteSource):
        return
    number, end = part.meta.segment, part.last_commit()
    beyond = [] if is_newest or not is_sane(end) else part.rows(end.last_id + 1, _HIGHEST)
    for row in (*part.rows(LOWEST, part.meta.first_id - 1), *beyond):
        words = f"event {row[0]} stands in segment {number}, which holds no event of this id"
        yield Finding(code=ExitCode.INTEGRITY, position=row[0], stream=str(row[1]), topic=str(row[3]), sentence=words)
    for commit in part.commits(LOWEST, 1):
        if commit.commit_no < 1:
            yield _changed(f"segment {number} has a commit {commit.commit_no} before its first one")


def _compare_bases(parts: tuple[LogSource, ...]) -> list[Finding]:
    try:
        return list(islice(_bases(parts), NAMED))
    except Unreadable as error:
        return [_changed(f"what segment {parts[-1].meta.segment} knows of older streams cannot be compared: {error}")]


def _bases(parts: tuple[LogSource, ...]) -> Iterator[Finding]:
    """Whether the last of these files knows every stream before it, with the version that it had."""
    last = parts[-1]
    if not isinstance(last, SqliteSource):
        return
    number = last.meta.segment
    for told, true in zip_longest(last.stream_bases(), _true_bases(parts[:-1])):
        if told == true:
            continue
        if told is None or true is None or told[0] != true[0]:
            yield _changed(f"segment {number} knows other streams before it than there are")
            return  # what follows is shifted
        words = f"version {told[1]} of stream {told[0]} before it, in segment {told[2]}"
        yield _changed(f"segment {number} knows {words}; it was version {true[1]} in segment {true[2]}")


def _true_bases(parts: tuple[LogSource, ...]) -> Iterator[Base]:
    """Where the streams stand behind these files; what the last one knows of those before it was compared already."""
    last = parts[-1]
    if isinstance(last, SqliteSource) and len(parts) > 1:
        before = ((stream, segment, version) for stream, version, segment in last.stream_bases())
        ends = merge(before, _ends(last))
    else:
        ends = merge(*map(_ends, parts))
    for stream, group in groupby(ends, key=lambda end: end[0]):
        _, segment, version = list(group)[-1]
        yield stream, version, segment


def _ends(part: LogSource) -> Iterator[tuple[str, int, int]]:
    """Stream, segment and last version of the streams in one file, in order of streams."""
    number = part.meta.segment
    if isinstance(part, SqliteSource):
        yield from ((stream, number, version) for stream, version in part.stream_ends())
    elif isinstance(part, ExportSource):
        reader = StreamReader(part.directory, part.manifest)
        for stream, group in groupby(reader.all(), key=lambda row: row[0]):
            yield stream, number, max(version for _, version, _ in group)


def _changed(sentence: str) -> Finding:
    return Finding(code=ExitCode.INTEGRITY, sentence=sentence)
