"""What a tower lives through while Prometheus looks at it: everything that a panel shows happens once for real."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from domain.units import Side
from tests.support.dashboards.drift import RULES
from tests.support.dashboards.server import Prometheus
from tests.support.live_tower import LiveTower, Refused, live_tower
from watchtower.devnode.launch import free_ports

RECORDING = "watchtower.recording.yml"
MAINNET = "watchtower.alerts.yml"
REGTEST = "watchtower.alerts.regtest.yml"
JOB = "watchtower"
"""As in `deploy/prometheus/prometheus.yml`; an alert counts on it."""

SOFT_FINAL = 6
OUTAGE_SECONDS = 2.5
"""Long enough for scrapes to see it."""


@contextlib.contextmanager
def watched_tower(directory: Path, alerts: str = MAINNET) -> Iterator[tuple[LiveTower, Prometheus]]:
    """A tower and the Prometheus that scrapes it, with the rules of `deploy/`; both end with the block.

    `alerts` is the file of alerts: that of the main network has all of them, that of regtest what makes sense there.
    """
    rules = [RULES / RECORDING, RULES / alerts]
    (port,) = free_ports(1)  # fixed, so that a restarted tower is the same target
    settings = {"admin": {"listen": f"127.0.0.1:{port}"}}
    with (
        live_tower(directory, settings=settings, with_second_node=True) as live,
        Prometheus(directory / "prometheus", {JOB: f"127.0.0.1:{port}"}, rules=rules) as prometheus,
    ):
        prometheus.wait_scraped()
        yield live, prometheus


def play(live: LiveTower, pause: float = 0.0) -> None:
    """Breaches in mempool and block, honest closes, a reorganization, an outage, refused requests, a restart.

    `pause` seconds lie between the acts, for pictures. At the end one breach is open: its penalty waits for a block.
    """
    for act in (_breaches, _closes, _traffic, _own_breach, _reorganization, _outage, _restart, _last_breach):
        act(live)
        time.sleep(pause)


def _breaches(live: LiveTower) -> None:
    first, second = live.open_channels(2)
    live.breach(first)
    live.mine(1)
    live.breach(second, in_block=True)
    live.mine(SOFT_FINAL + 1)


def _closes(live: LiveTower) -> None:
    together, alone = live.open_channels(2, updates=2)
    live.close_together(together)
    live.close_alone(alone)
    live.mine(1)


def _traffic(live: LiveTower) -> None:
    (busy,) = live.open_channels(1, updates=10)
    live.upload(busy, busy.sequence)  # once more: a duplicate
    for path, token in (("/v1/channels", "wt_wrong"), ("/v1/channels/" + "00" * 32, None), ("/v1/nowhere", None)):
        with contextlib.suppress(Refused):
            live.ask(path, token=token)


def _own_breach(live: LiveTower) -> None:
    """The tower's own party publishes an old state: an incident that only people can explain."""
    (pair,) = live.open_channels(1)
    live.node.send_raw(pair.commitment(Side.B, 1))
    live.mine(1)


def _reorganization(live: LiveTower) -> None:
    live.node.reorg(1)
    live.node.mine(1)
    live.wait_height()


def _outage(live: LiveTower) -> None:
    live.outage(OUTAGE_SECONDS)


def _restart(live: LiveTower) -> None:
    live.restart()


def _last_breach(live: LiveTower) -> None:
    (pair,) = live.open_channels(1)
    live.breach(pair, in_block=True)
    live.wait_height()
