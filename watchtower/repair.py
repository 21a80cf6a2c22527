"""The store of a stopped tower, opened for a person's decision about the chain: rescan, or accept a chain.

Holds the instance lock, so that a running tower cannot be disturbed. Nothing is sent to the network; the next start
answers what was found.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from projections.catalog import PROJECTIONS
from projections.projector import Projector
from watchtower.bootstrap.node import connect, second_node
from watchtower.chain.conditions import Conditions
from watchtower.chain.follow import Follower
from watchtower.chain.needs import Needs
from watchtower.chain.rescan import Rescan
from watchtower.config import Settings
from watchtower.host.system import SystemClock
from watchtower.models import LiveModels
from watchtower.node.checks import require_network
from watchtower.node.second import TwoNodes
from watchtower.ports import Node
from watchtower.repository import Channels
from watchtower.store.datastore import no_failpoint
from watchtower.store.places import open_log
from watchtower.store.rebuild import open_views
from watchtower.store.writer import LogWriter

WHOLE_HISTORY = 2**62
"""Undo limit of a person's command: the log has every block since the tower's first."""


class Repair:
    """Follower and rescan over the whole history of the log."""

    def __init__(self, node: Node, store: LogWriter, models: LiveModels, channels: Channels, network: str) -> None:
        self._conditions = Conditions(channels, models)
        needs = Needs(node, store, channels, models, self._conditions, SystemClock(), no_failpoint)
        self.follower = Follower(needs, network=network, limit=WHOLE_HISTORY)
        self.rescan = Rescan(needs, self.follower)
        models.catch_up()
        self.follower.start()
        self._conditions.refresh()

    def follow(self) -> tuple[int, int]:
        """Go to the node's tip, undoing as many blocks as it takes; blocks connected and disconnected."""
        connected = undone = 0
        while True:
            report = self.follower.follow()
            connected, undone = connected + report.connected, undone + report.disconnected
            if not report.moved_again:
                return connected, undone


@contextmanager
def opened(settings: Settings) -> Iterator[Repair]:
    """Open everything but the keystore and the network; raises `StoreLocked` while the tower runs, `NodeError`."""
    with ExitStack() as stack:
        store = open_log(settings)
        stack.callback(store.close)
        rows = open_views(Path(settings.views_path), store)
        stack.callback(rows.close)
        own = connect(settings.node)
        stack.callback(own.close)
        require_network(own, settings.network)
        second = second_node(settings, stack)
        node = own if second is None else TwoNodes(own, second)
        channels = Channels(store)
        models = LiveModels(Projector(store, rows, PROJECTIONS), rows, channels, damaged=store.damaged)
        yield Repair(node, store, models, channels, settings.network)
