"""The front page: everything that an operator asks first, in the order in which it matters."""

from __future__ import annotations

import itertools
import shutil

import msgspec
from markupsafe import Markup

from watchtower.access import AccessFileBroken
from watchtower.store.channel_list import last_blocks, owners
from watchtower.store.summary import Summary
from watchtower.telemetry.catalog import BLOCKING_REASONS
from watchtower.web.breach_view import BreachView, breach_views, danger_of
from watchtower.web.channel_view import ChannelList, list_channels
from watchtower.web.drawing import bar, qr_code, sparkline
from watchtower.web.node_view import SPARK_BLOCKS, NodeView, node_view
from watchtower.web.sources import OWNERS_SECONDS, SUMS_SECONDS, Facts, Kept, Sources
from watchtower.web.timeline_view import Happening, latest
from watchtower.web.verdict import PROTECTED, Tone, Verdict, judge

CHANNELS_SHOWN = 10
CLIENTS_SHOWN = 8
LOW_DISK = 0.1
"""Share of free space below which the bar warns; the tower itself goes by `store.low_space_mb`."""

LATE_BACKUP = 1.5
"""Intervals after which a backup is called late."""


class Finding(msgspec.Struct, frozen=True):
    """A readiness reason; `detail` is what was observed."""

    name: str
    sentence: str
    detail: str
    is_blocking: bool


class Client(msgspec.Struct, frozen=True):
    """A client by its key; `note` is the operator's."""

    key: str
    channels: int
    note: str


class Clients(msgspec.Struct, frozen=True):
    """Who has channels here, and how much of the limits is used. 0 is no limit."""

    total: int
    allowed: int | None
    top: tuple[Client, ...]
    channels: int
    max_channels: int
    capacity: int
    max_capacity: int
    per_key: float


class Storage(msgspec.Struct, frozen=True):
    """Sizes in bytes; `backup` is when the last good backup was made (Unix seconds), None: never."""

    free: int
    size: int
    log: int
    events: int
    bar: Markup
    tone: Tone
    activity: Markup
    backup_hours: float
    backup: float | None
    backup_failures: int
    backup_late: bool


class Home(msgspec.Struct, frozen=True):
    """What the front page shows."""

    facts: Facts
    now: float
    position: int
    verdict: Verdict
    phase: str
    findings: tuple[Finding, ...]
    node: NodeView
    breaches: tuple[BreachView, ...]
    more_breaches: int
    events: tuple[Happening, ...]
    statuses: tuple[tuple[str, int], ...]
    channels: ChannelList
    clients: Clients
    storage: Storage
    uri: str
    qr: Markup


class HomeViews:
    """Draws front pages; sums and lists that are long to take are kept for a moment. Safe for many threads."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._sums = Kept(lambda: (sources.known_until(), sources.sums()), SUMS_SECONDS)
        self._owners = Kept(lambda: owners(sources.rows, CLIENTS_SHOWN), OWNERS_SECONDS)
        facts = sources.facts
        self._uri = f"{facts.tower_id}@{facts.address}"
        self._qr = qr_code(self._uri, "QR code of the tower's address")

    def sums(self) -> Summary:
        """Sums over all channels, at most a second old."""
        return self._sums()[1]

    def known_until(self) -> int:
        """Position of the log that a page which is drawn from now on shows at least."""
        return min(self._sums()[0], self._sources.known_until())

    def verdict(self) -> Verdict:
        """The answer alone."""
        sources, sums = self._sources, self.sums()
        ready = sources.readiness()
        danger = danger_of(sums.breaches, sources.tip())
        return judge(ready.phase, ready.reasons, sources.lag(), sums.channels, sums.capacity, danger)

    def home(self) -> Home:
        """The whole page."""
        sources, sums = self._sources, self.sums()
        position = sources.store.last_id()
        ready = sources.readiness()
        breaches = breach_views(sources, sums.breaches)
        return Home(
            facts=sources.facts,
            now=sources.now(),
            position=position,
            verdict=self.verdict(),
            phase=ready.phase,
            findings=tuple(Finding(r.name, r.sentence, r.detail, r.name in BLOCKING_REASONS) for r in ready.reasons),
            node=node_view(sources),
            breaches=breaches,
            more_breaches=len(sums.breaches) - len(breaches),
            events=latest(sources),
            statuses=tuple(sorted(sums.channels.items())),
            channels=list_channels(sources, "", "", "", CHANNELS_SHOWN),
            clients=self._clients(sums),
            storage=self._storage(position),
            uri=self._uri,
            qr=self._qr,
        )

    def _clients(self, sums: Summary) -> Clients:
        total, top = self._owners()
        quotas = self._sources.quotas()
        try:
            notes: dict[str, str] | None = {entry.key: entry.note for entry in self._sources.access.table().parties}
        except AccessFileBroken:
            notes = None
        return Clients(
            total=total,
            allowed=None if notes is None else len(notes),
            top=tuple(Client(each.key.hex(), each.channels, (notes or {}).get(each.key.hex(), "")) for each in top),
            channels=sum(sums.channels.get(status, 0) for status in PROTECTED),
            max_channels=quotas.max_channels,
            capacity=sum(sums.capacity.get(status, 0) for status in PROTECTED),
            max_capacity=quotas.max_total_capacity,
            per_key=quotas.per_key,
        )

    def _storage(self, position: int) -> Storage:
        sources = self._sources
        path = sources.facts.event_log
        usage = shutil.disk_usage(path.parent)
        files = (path, path.with_name(path.name + "-wal"))
        tone: Tone = "watch" if usage.free < LOW_DISK * usage.total else "good"
        made = sources.metrics.value("backup_last_success_timestamp_seconds")
        hours = sources.facts.backup_hours
        return Storage(
            free=usage.free,
            size=usage.total,
            log=sum(file.stat().st_size for file in files if file.exists()),
            events=position,
            bar=bar(usage.free, usage.total, tone),
            tone=tone,
            activity=self._activity(position),
            backup_hours=hours,
            backup=made,
            backup_failures=int(sources.metrics.value("backup_failures_total") or 0),
            backup_late=bool(hours) and (made is None or sources.now() - made > LATE_BACKUP * hours * 3_600),
        )

    def _activity(self, position: int) -> Markup:
        """Events stored between the last blocks, and since the last one."""
        marks = [block.id for block in last_blocks(self._sources.rows, SPARK_BLOCKS)] + [position]
        stored = [b - a for a, b in itertools.pairwise(marks)]
        return sparkline(stored, f"Events stored from block to block, over the last {len(stored)} blocks.")
