"""`audit verify` without signatures: events per second with two processes, and per CPU second of one core.

Everything of a default audit of a copy is in it but the rules of the domain and the replay of the read models: rows,
hashes, chain, decoding, versions, times, and SQLite's own check of the file.
"""

from __future__ import annotations

import gc
import io
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import stock
from tests.bench.bulk_log import write_rows
from tests.bench.scale import Scale
from tests.bench.scale_log import channel_log
from watchtower.audit.findings import ExitCode
from watchtower.audit.progress import Progress
from watchtower.audit.resume import Notebook
from watchtower.audit.verify import Audit, Wish
from watchtower.store.sqlite_source import open_file

NAMES = ("audit_events_per_s", "audit_events_per_cpu_s", "audit_ratio_to_stock_read")
JOBS = 2


def measure(scale: Scale, directory: Path) -> dict[str, float]:
    """Events per second, and the ratio beside the library's stock reading and decoding of its own log."""
    log = write_rows(directory, channel_log(scale.audit_channels, scale.audit_events), per_commit=32)
    tower = stock.filled(directory / "stock.db", scale.stock_channels)
    walls, cores = [], []
    for _ in range(scale.audit_runs):
        walls.append(rate(log, JOBS, time.monotonic))
        cores.append(rate(log, 1, time.process_time))
    slow = stock_read_rate(tower)
    tower.close()
    values = (round(max(walls)), round(max(cores)), round(max(cores) / slow, 1))
    return dict(zip(NAMES, values, strict=True))


def rate(log: Path, jobs: int, clock: Callable[[], float]) -> float:
    """Events per second of `clock`; raises `RuntimeError` if the audit finds anything."""
    gc.collect()
    with open_file(log) as source, tempfile.TemporaryDirectory(dir=log.parent) as scratch:
        progress = Progress("none", io.StringIO(), time.monotonic)
        audit = Audit(
            source, Wish(jobs=jobs), Notebook(None, Path(scratch), time.monotonic), progress, threading.Event()
        )
        begun = clock()
        report = audit.run()
        took = clock() - begun
    if report.exit_code != ExitCode.PASSED:
        raise RuntimeError(f"the audit of a good log says: {report.verdict}")
    return report.events / took


def stock_read_rate(tower: stock.StockTower) -> float:
    """Events per CPU second that the library's recorder and mapper read and decode, without doing anything else."""
    begun, count, position = time.process_time(), 0, 0
    while notifications := tower.recorder.select_notifications(position + 1, 1_000):
        for notification in notifications:
            tower.mapper.to_domain_event(notification)
        count, position = count + len(notifications), notifications[-1].id
    return count / (time.process_time() - begun)
