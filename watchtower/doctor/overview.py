"""What a running tower says about itself, in one look: readiness, metrics, open breaches. For `status` and `top`."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from projections import open_breaches
from projections.open_breaches import OpenBreachRow
from watchtower.config import Settings
from watchtower.doctor.asking import TowerAway, ask, token_of
from watchtower.ports import StoreError
from watchtower.store.channel_list import channels_of
from watchtower.store.rebuild import open_views_reader
from watchtower.store.views import SqliteRows

PREFIX = "watchtower_"
BREACHES = 50
"""Open breaches that are shown, the most urgent ones; more than that at once are counted."""

PAGE = 5_000

Samples = Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]
"""Per metric without prefix: sorted labels to value."""


class BreachLine(msgspec.Struct, frozen=True):
    """An open breach for people: ids in display order, amounts in satoshi, `left` in blocks."""

    channel_id: str
    txid: str
    value: int
    deadline: int | None
    left: int | None
    stage: str
    fee: int


class Overview(msgspec.Struct, frozen=True):
    """One look. `samples` is empty while the metrics cannot be read; times are Unix seconds.

    Without `makes_backups` the metric of the last backup holds the beginning of the log.
    """

    at: float
    phase: str
    watching: bool
    ready: bool
    reasons: tuple[str, ...]
    samples: Samples
    breaches: tuple[BreachLine, ...]
    makes_backups: bool = True

    def value(self, name: str, **labels: str) -> float | None:
        """One sample, None if there is none."""
        return self.samples.get(name, {}).get(tuple(sorted(labels.items())))

    def total(self, name: str) -> float | None:
        """The sum over all labels, None if there is no sample."""
        found = self.samples.get(name)
        return sum(found.values()) if found else None

    def by_label(self, name: str) -> dict[str, float]:
        """Values of a metric with one label, by the value of that label."""
        return {labels[0][1]: value for labels, value in self.samples.get(name, {}).items() if len(labels) == 1}

    def age(self, name: str, **labels: str) -> float | None:
        """Seconds since the time that a metric holds."""
        found = self.value(name, **labels)
        return None if found is None else max(0.0, self.at - found)

    @property
    def height(self) -> int | None:
        """The tower's height."""
        found = self.value("chain_processed_height")
        return None if found is None else int(found)

    @property
    def last_backup(self) -> float | None:
        """Unix time of the last verified backup; None if the tower makes none."""
        return self.value("backup_last_success_timestamp_seconds") if self.makes_backups else None

    @property
    def lag(self) -> int | None:
        """Blocks behind the node."""
        node, own = self.value("node_blocks"), self.height
        return None if node is None or own is None else max(0, int(node) - own)

    def document(self) -> dict[str, Any]:
        """For `--json`: stable names, amounts in satoshi, times in Unix seconds."""
        free = self.value("storage_available_bytes")
        return {
            "at": int(self.at),
            "phase": self.phase,
            "watching": self.watching,
            "ready": self.ready,
            "reasons": list(self.reasons),
            "height": self.height,
            "lag": self.lag,
            "node_up": None if (up := self.value("node_up")) is None else bool(up),
            "node_blocks": _whole(self.value("node_blocks")),
            "canary_last_success": _whole(self.value("canary_last_success_timestamp_seconds")),
            "backup_last_success": _whole(self.last_backup),
            "channels": {name: int(number) for name, number in self.by_label("channels").items()},
            "protected_sats": _whole(self.value("protected_sats")),
            "at_risk_sats": _whole(self.value("breach_at_risk_sats")),
            "storage_available_bytes": _whole(free),
            "breaches": [msgspec.structs.asdict(breach) for breach in self.breaches],
        }


def overview(settings: Settings, now: float, *, token: str | None = None) -> Overview:
    """Look at the tower of these settings; raises `TowerAway`. What else cannot be read is left out."""
    token = token_of(settings) if token is None else token
    reply = ask(settings, "/readyz")
    ready = reply.document()
    if not isinstance(ready, dict) or not {"phase", "watching", "ready", "reasons"} <= ready.keys():
        raise TowerAway("what answers there is no tower: /readyz has another form")
    samples = _samples(settings, token)
    found = samples.get("chain_processed_height", {}).get(())
    return Overview(
        at=now,
        phase=str(ready["phase"]),
        watching=bool(ready["watching"]),
        ready=bool(ready["ready"]),
        reasons=tuple(str(reason["name"] if isinstance(reason, dict) else reason) for reason in ready["reasons"]),
        samples=samples,
        breaches=open_now(settings, None if found is None else int(found)),
        makes_backups=bool(settings.backup.directory),
    )


def _samples(settings: Settings, token: str) -> Samples:
    try:
        reply = ask(settings, "/metrics", token=token)
    except TowerAway:
        return {}
    return read_samples(reply.body.decode("utf-8", "replace")) if reply.status == http.client.OK else {}


def read_samples(text: str) -> Samples:
    """Gauges and counters of a page of metrics; empty if it is none."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    try:
        for family in text_string_to_metric_families(text):
            if family.name.startswith(PREFIX) and family.type in ("gauge", "counter"):
                for sample in family.samples:
                    labels = tuple(sorted(sample.labels.items()))
                    found.setdefault(sample.name.removeprefix(PREFIX), {})[labels] = sample.value
    except ValueError:
        return {}
    return found


def open_now(settings: Settings, tip: int | None) -> tuple[BreachLine, ...]:
    """The most urgent open breaches of the views; none if the views cannot be read here."""
    path = Path(settings.views_path)
    try:
        if not path.exists():
            return ()
        rows = open_views_reader(path)
        try:
            # Those that nothing in a block decides yet first: answered ones must not push one in danger off the list.
            urgent = sorted(
                _all_open(rows), key=lambda row: (_is_decided(row), row.deadline is None, row.deadline or 0, -row.value)
            )[:BREACHES]
            infos = channels_of(rows, sorted({row.stream for row in urgent}))
        finally:
            rows.close()
    except (StoreError, OSError):
        return ()
    # A breach is told also if the view of channels lacks its channel, by the name of the stream.
    names = {stream: info.channel_id.hex() for stream, info in infos.items()}
    return tuple(breach_line(row, names.get(row.stream, row.stream), tip) for row in urgent)


def _all_open(rows: SqliteRows) -> list[OpenBreachRow]:
    found: list[OpenBreachRow] = []
    after = None
    while page := rows.page(open_breaches.TABLE, after, PAGE):
        found += [OpenBreachRow(*row) for row in page]  # type: ignore[arg-type]
        after = open_breaches.TABLE.key_of(page[-1])
    return found


def _is_decided(row: OpenBreachRow) -> bool:
    return row.penalty_height is not None or row.lost_height is not None


def breach_line(row: OpenBreachRow, channel_id: str, tip: int | None) -> BreachLine:
    """A row for people."""
    left = None if row.deadline is None or tip is None else row.deadline - tip
    return BreachLine(
        channel_id=channel_id,
        txid=row.commit_txid[::-1].hex(),
        value=row.value,
        deadline=row.deadline,
        left=left,
        stage=stage_of(row),
        fee=row.bid_fee,
    )


def stage_of(row: OpenBreachRow) -> str:
    """How far the answer is, in the words of the metric; a breach that was settled is `lost`."""
    return "lost" if row.lost_height is not None and row.penalty_height is None else open_breaches.stage(row)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
