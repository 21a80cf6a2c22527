"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import statistics
import time
from pathlib import Path

from watchtower.host.revision import revision

SYNC_RUNS = 20


def machine(directory: Path) -> dict[str, str | float]:
    """Processor, cores, memory, system, commit, load at the start, and how long `directory` takes to sync 4 KiB."""
    return {
        "cpu": _first("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": float(os.cpu_count() or 0),
        "memory": _first("/proc/meminfo", "MemTotal"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": revision(),
        "load": round(os.getloadavg()[0], 2),
        "disk_sync_ms": round(disk_sync_ms(directory), 2),
    }


def disk_sync_ms(directory: Path) -> float:
    """Median milliseconds of one durable write of 4 KiB."""
    took = []
    with (directory / "sync").open("wb", buffering=0) as file:
        for _ in range(SYNC_RUNS):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def _first(path: str, name: str) -> str:
    """The value of the first line `name: value` of a file of the kernel, empty where there is none."""
    if not Path(path).is_file():
        return ""
    lines = (line.partition(":") for line in Path(path).read_text().splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "")
