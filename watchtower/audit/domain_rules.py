"""Where rules of the domain plug into the audit: each share of the streams is shown to every rule, in log order.

Shares are independent of each other, so they are read in several processes; each has few enough streams that a rule
can keep what it needs about every one of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import msgspec

from domain.errors import LogCorrupt
from domain.events import Envelope, Recorded, decode_payload
from watchtower.audit.findings import LISTED, Finding, cleaned
from watchtower.audit.stopping import Interrupted
from watchtower.audit.stretches import count, place
from watchtower.audit.versions import share_of
from watchtower.audit.workers import Stop
from watchtower.store.salvage import rows_of
from watchtower.store.source import LogSource, RawRow, SourceMeta
from watchtower.store.verify import PAGE

SHARE_EVENTS = 250_000
"""Events of the log per share: the whole log is read once for each, and decoded once in all."""

LEAST_SHARES = 4
"""Shares of a log that is long enough to be read by several processes."""

MOST_SHARES = 64
"""A very long log is not read more often than this; its shares are larger instead."""

MOST_EMPTY = 1_000
"""Pages without any event in a row, after which the log is over, whatever its chain says about its end."""

Counted = dict[str, int]
"""How many things of a kind were looked at."""

COUNTED = {
    "signatures": ("signatures in events verified on rebuilt bytes", "there was none, or it was not asked for"),
    "secrets": (
        "revealed secrets compared with their points and with earlier secrets",
        "there was none, or it was not asked for",
    ),
    "transactions": ("transactions rebuilt from their fields and compared", "there was none"),
    "seals": (
        "sealed heads whose signature by the tower was verified",
        "there was none, or nobody said which key the tower has (--tower-key, --receipts)",
    ),
}
"""The kinds, for reports: what was done with them, and why there may be none."""


class RuleCheck(Protocol):
    """One rule at work on one share of the streams."""

    def page(self, events: Sequence[Recorded]) -> Iterable[Finding]:
        """Take the next events in log order, and say what is wrong.

        A stream comes whole or not at all. Events that cannot be read are left out: they have findings already.
        """
        ...

    def end(self) -> Iterable[Finding]:
        """All events were shown."""
        ...

    @property
    def counted(self) -> Counted:
        """What was looked at, by the words of `COUNTED`; only of streams that belong to the share."""
        ...


class DomainRules(Protocol):
    """A rule, or several that go together. It is sent to other processes, so it keeps no state of its own."""

    @property
    def name(self) -> str:
        """For reports: what is checked, in a word or two."""
        ...

    @property
    def everywhere(self) -> frozenset[str]:
        """Streams that every share is shown, because rules about other streams need them.

        What is found about such a stream is kept from one share only.
        """
        ...

    def start(self, log: SourceMeta, /) -> RuleCheck:
        """Begin with a share."""
        ...


class RulesTask(msgspec.Struct, frozen=True):
    """One share of the streams, over events `first_id` to `last_id`. `first_id` is that of the log."""

    rules: tuple[DomainRules, ...]
    share: int
    shares: int
    first_id: int
    last_id: int


class RulesResult(msgspec.Struct, frozen=True):
    """What the rules found in one share, out of how many events of it."""

    share: int
    events: int
    findings: tuple[Finding, ...]
    counts: dict[int, int]
    counted: Counted = {}


def shares_for(events: int) -> int:
    """How many shares a log of so many events gets; the same with any number of processes."""
    return min(MOST_SHARES, max(1 if events < PAGE else LEAST_SHARES, -(-events // SHARE_EVENTS)))


def check_share(source: LogSource, stop: Stop, task: RulesTask) -> RulesResult:
    """Show one share to all rules. Raises `Interrupted` once it is asked for, and `StoreError`."""
    pages = _Pages(source, stop, task)
    checks = [rules.start(source.meta) for rules in task.rules]
    findings: list[Finding] = []
    for page in pages:
        for check in checks:
            findings += check.page(page)
    for check in checks:
        findings += check.end()
    kept = [each for each in findings if not each.stream or pages.is_mine(each.stream)]
    listed = tuple(map(cleaned, sorted(kept, key=place)[:LISTED]))
    return RulesResult(task.share, pages.events, listed, count(kept), _sum(check.counted for check in checks))


def _sum(parts: Iterable[Counted]) -> Counted:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


class _Pages:
    """The pages of a share; counts the events that belong to it."""

    def __init__(self, source: LogSource, stop: Stop, task: RulesTask) -> None:
        self._source, self._stop, self._task = source, stop, task
        self._everywhere = frozenset[str]().union(*(rules.everywhere for rules in task.rules))
        self.events = 0

    def __iter__(self) -> Iterator[Sequence[Recorded]]:
        empty = 0
        for first_id in range(self._task.first_id, self._task.last_id + 1, PAGE):
            if self._stop.is_set():
                raise Interrupted
            if empty > MOST_EMPTY:
                return
            rows, lost = rows_of(self._source, first_id, min(first_id + PAGE - 1, self._task.last_id))
            empty = 0 if rows or lost else empty + 1
            page = [recorded for row in rows if self._is_shown(row[1]) and (recorded := _recorded(row)) is not None]
            self.events += sum(self.is_mine(recorded.envelope.stream) for recorded in page)
            if page:
                yield page

    def is_mine(self, stream: str) -> bool:
        """True if this share is the one that the stream belongs to."""
        return share_of(stream, self._task.shares) == self._task.share

    def _is_shown(self, stream: object) -> bool:
        return isinstance(stream, str) and (stream in self._everywhere or self.is_mine(stream))


def _recorded(row: RawRow) -> Recorded | None:
    event_id, stream, version, topic, state = row
    try:
        return Recorded(event_id, Envelope(stream, version, topic, decode_payload(topic, state)))
    except (LogCorrupt, TypeError):
        return None
