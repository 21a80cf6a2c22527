"""`recorded_at` should not run back: a log says when its tower knew what, a clock that jumps makes that doubtful."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from watchtower.audit.findings import ExitCode, Finding
from watchtower.store.source import RawRow

ALLOWED = 120_000_000
"""Microseconds by which an event may be older than one before it: clocks are corrected, jobs wait for each other."""


class Times(msgspec.Struct, frozen=True):
    """Newest and oldest `recorded_at` of a stretch, and the largest step back inside it, by event; -1: none."""

    newest: int = -1
    oldest: int = -1
    oldest_id: int = -1
    back: int = 0
    back_id: int = -1

    def after(self, recorded_at: Sequence[int], rows: Sequence[RawRow]) -> Times:
        """With these events, which follow, taken in."""
        low, high = min(recorded_at), max(recorded_at)
        oldest, oldest_id = self.oldest, self.oldest_id
        if oldest_id < 0 or low < oldest:
            oldest, oldest_id = low, rows[recorded_at.index(low)][0]
        back, back_id, newest = self.back, self.back_id, self.newest
        if max(newest, high) - low > max(back, ALLOWED):
            for at, row in zip(recorded_at, rows, strict=True):
                newest = max(newest, at)
                if newest - at > max(back, ALLOWED):
                    back, back_id = newest - at, row[0]
        return Times(max(newest, high), oldest, oldest_id, back, back_id)


def steps_back(stretches: Iterable[Times]) -> list[Finding]:
    """At most one finding per stretch: the event that is furthest behind an earlier one."""
    findings = []
    newest = -1
    for times in stretches:
        back, back_id = times.back, times.back_id
        if newest >= 0 and times.oldest_id >= 0 and newest - times.oldest > max(back, ALLOWED):
            back, back_id = newest - times.oldest, times.oldest_id
        if back_id >= 0:
            words = f"event {back_id} was recorded {back // 1_000_000} s before an event that stands in front of it"
            findings.append(Finding(code=ExitCode.TIME, position=back_id, sentence=words))
        newest = max(newest, times.newest)
    return findings
