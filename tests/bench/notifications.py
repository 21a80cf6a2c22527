"""From the commit of an event to the arrival of the message at a webhook on this host."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from unittest import mock

from structlog.testing import capture_logs

from domain.chain import BlockHash, BlockRef
from domain.events import ChannelResolved, ResolvedAs
from tests.bench.scale import Scale
from tests.support.notifying import Scene, hook
from tests.support.receivers import HttpReceiver, receiving
from watchtower.notify import courier

NAMES = ("notification_ms", "notification_max_ms")
PAUSE_SECONDS = 0.02


def measure(scale: Scale, directory: Path) -> dict[str, float]:
    """Median and longest in milliseconds, one message after the other."""
    scene = Scene(directory)
    # No burst is to be summed up here.
    with mock.patch.object(courier, "BURST", 10 * scale.breaches), capture_logs(), receiving(HttpReceiver()) as http:
        scene.start(hook(http))
        try:
            took = [_one(scene, http, number) for number in range(scale.breaches)]
        finally:
            scene.stop()
    return dict(zip(NAMES, (round(statistics.median(took), 2), round(max(took), 2)), strict=True))


def _one(scene: Scene, http: HttpReceiver, number: int) -> float:
    block = BlockRef(height=number, hash=BlockHash(bytes(32)))
    event = ChannelResolved(
        recorded_at=number, outcome=ResolvedAs.PUNISHED, txid=number.to_bytes(32, "big"), block=block, depth=100
    )
    time.sleep(PAUSE_SECONDS)  # breaches do not come in a row; what follows at once is summed up
    began = time.monotonic()
    scene.record(event)
    arrived: float = http.posts.wait(number + 1)[-1].at
    return 1_000 * (arrived - began)
