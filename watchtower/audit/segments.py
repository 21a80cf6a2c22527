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
from watchtower.store.source import LogSource, SqliteSource, is_sane
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
    for before, part in pairwise(parts):
        findings += _joined(before, part)
    for part in parts:
        findings += islice(_strays(part, is_newest=part is parts[-1]), NAMED)
    if not source.missing:
        findings += islice(_bases(parts), NAMED)
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


def _bases(parts: tuple[LogSource, ...]) -> Iterator[Finding]:
    """Whether the newest file knows every stream before it, with the version that it had."""
    newest = parts[-1]
    if not isinstance(newest, SqliteSource):
        return
    for told, true in zip_longest(newest.stream_bases(), _true_bases(parts[:-1])):
        if told == true:
            continue
        words = "knows other streams before it than there are"
        if told is not None and true is not None and told[0] == true[0]:
            words = f"knows version {told[1]} of stream {told[0]} before it, in segment {told[2]}; it was {true[1:]}"
        yield _changed(f"segment {newest.meta.segment} {words}")
        if told is None or true is None or told[0] != true[0]:
            return  # what follows is shifted


def _true_bases(parts: tuple[LogSource, ...]) -> Iterator[Base]:
    for stream, group in groupby(merge(*map(_ends, parts)), key=lambda end: end[0]):
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
