"""The wing that watches: node, read models in memory, tower, pass thread and what rings for it."""

from __future__ import annotations

import time

import structlog

from domain.chain import BlockRef
from domain.events import CHAIN_STREAM
from projections.catalog import PROJECTIONS
from projections.projector import Projector
from watchtower.bootstrap.ground import Ground
from watchtower.bootstrap.node import PASS_IN_FLIGHT, connect_measured, second_node, zmq_endpoints
from watchtower.bootstrap.storage import Storage
from watchtower.host.system import SystemClock, system_random
from watchtower.models import LiveModels
from watchtower.node.checks import ZmqTopicMissing, require_network, require_topics
from watchtower.node.second import TwoNodes
from watchtower.node.transport import RpcRefused
from watchtower.node.zmq import ZmqDoorbell
from watchtower.outbox import Outbox
from watchtower.ports import ChainInfo, NodeUnavailable, StoreError, WrongChain
from watchtower.repository import Channels
from watchtower.store.snapshots import ChannelSnapshots
from watchtower.tower import PassReport, Tower, TowerSettings
from watchtower.watch.bells import Bells
from watchtower.watch.doubts import Doubts
from watchtower.watch.lookouts import IN_FLIGHT as LOOKOUTS_IN_FLIGHT
from watchtower.watch.lookouts import Lookouts
from watchtower.watch.passes import Wake
from watchtower.watch.watch import Watch

_log = structlog.get_logger(__name__)

BLOCKS_PER_PASS = 25
"""Full blocks take up to 0.2 s each, fetch and disk included: a pass stays well below the time that a stop allows."""


class Core:
    """The tower and its thread. `deferred` are the channels whose answer waits for a block."""

    def __init__(self, ground: Ground, storage: Storage) -> None:
        self._ground, self._storage = ground, storage
        self.wake = Wake()
        self.outbox = Outbox()
        self.deferred: frozenset[str] = frozenset()
        snapshots = ChannelSnapshots(storage.rows)
        self.channels = Channels(storage.overflow, snapshots=snapshots)
        self.node = connect_measured(ground, PASS_IN_FLIGHT)
        self.models = self._load_models(snapshots)
        self._told_skipped: set[tuple[str, str]] = set()
        self._skipped_before = frozenset(self.models.quarantined)
        self._second = second_node(ground.settings, ground.stack)
        self.tower = self._build_tower()
        self._doubts = Doubts(
            board=ground.board,
            metrics=ground.metrics,
            chainwork=lambda: self.tower.follower.cursor.chainwork,
            second=self._second,
            stale_after=ground.settings.stale_tip_seconds,
            monotonic=time.monotonic,
            wall=time.time,
        )
        self.lookouts = Lookouts(
            node=connect_measured(ground, LOOKOUTS_IN_FLIGHT),
            models=self.models,
            rng=system_random,
            metrics=ground.metrics,
        )
        endpoints = zmq_endpoints(ground.settings)
        self.bells = Bells(
            endpoints=endpoints,
            wake=self.wake,
            metrics=ground.metrics,
            board=ground.board,
            is_ours=self.tower.is_ours,
        )
        self.doorbell = ZmqDoorbell(endpoints, self.bells.ring, self.tower.is_watched)
        self.watch = self._build_watch()

    def require_node(self) -> None:
        """For use cases: raise unless the pass thread knows that this is the right node."""
        doubt = self.watch.node_doubt
        if doubt is not None:
            raise WrongChain(str(doubt)) if isinstance(doubt, WrongChain) else NodeUnavailable(str(doubt))

    def tip(self) -> BlockRef | None:
        """The cursor's block; None before the first contact with a node."""
        try:
            return self.tower.follower.cursor.tip
        except StoreError:
            return None

    def tip_height(self) -> int:
        """Height of the cursor, also in the middle of a pass: what the log calls confirmed must count as such."""
        tip = self.tip()
        return self.watch.height if tip is None else tip.height

    def highest(self) -> int:
        """The tip that deadlines are counted from: the best header, if the node has one above our cursor."""
        return max(self.watch.height, int(self._ground.metrics.value("node_headers") or 0))

    def _load_models(self, snapshots: ChannelSnapshots) -> LiveModels:
        storage = self._storage
        return LiveModels(
            Projector(storage.overflow, storage.rows, PROJECTIONS),
            storage.rows,
            self.channels,
            damaged=storage.store.damaged,
            one_owner=self._ground.settings.policy.registration != "open",
            release=storage.release_reserve,
            snapshots=snapshots,
        )

    def _build_tower(self) -> Tower:
        settings = self._ground.settings
        return Tower(
            node=self.node if self._second is None else TwoNodes(self.node, self._second),
            store=self._storage.overflow,
            models=self.models,
            channels=self.channels,
            keystore=self._storage.keystore,
            clock=SystemClock(),
            rng=system_random,
            failpoint=self._ground.failpoint,
            settings=TowerSettings(
                settings.network, spendable=settings.fees.max_ratio, blocks_per_pass=BLOCKS_PER_PASS
            ),
            outbox=self.outbox,
            observe=self._passed,
        )

    def _passed(self, report: PassReport) -> None:
        self.deferred = report.respond.waiting
        self._tell_of_damage()
        self._storage.overflow.flush()
        self._doubts.observe(report)
        follower = self.tower.follower
        self.lookouts.passed(report, follower.cursor.tip, follower.transactions_scanned)

    def _tell_of_damage(self) -> None:
        """Channels that are not served as they should be, in the reason and once each in the log."""
        skipped = self.models.quarantined
        for projection, stream in sorted(skipped.keys() - self._told_skipped):
            _log.critical(
                "projection_failed", projection=projection, channel=stream, reason=skipped[projection, stream]
            )
            if (projection, stream) not in self._skipped_before:
                self._ground.metrics.count("projection_errors_total", projection)
        self._told_skipped = set(skipped)
        lost = self._storage.store.damaged | {stream for _, stream in skipped}
        if lost:
            self._ground.board.set("log_damaged", f"channels: {', '.join(sorted(lost))}")

    def _build_watch(self) -> Watch:
        watch = Watch(
            core=self.tower,
            contested=lambda: bool(self.models.contested()),
            check_node=self._check_node,
            chain_info=self.node.chain_info,
            wake=self.wake,
            board=self._ground.board,
            metrics=self._ground.metrics,
            poll_seconds=self._ground.settings.node.poll_seconds,
            on_end=self._ground.thread_ended,
            block_found=self.bells.block_found,
        )
        cursor = self.tower.follower.load()
        watch.height = cursor.height if cursor is not None else 0
        if cursor is not None:
            (last,) = self._storage.store.read_stream(CHAIN_STREAM, after=cursor.version - 1, limit=1)
            watch.resume(last.payload.recorded_at / 1e6)
        return watch

    def _check_node(self) -> ChainInfo:
        """The right chain, or an error; missing notifications are only a readiness reason, because the timer works."""
        settings = self._ground.settings
        info = require_network(self.node, settings.network)
        try:
            require_topics(self.node.zmq_notifications(), zmq_endpoints(settings))
        except ZmqTopicMissing as error:
            self.bells.unpublished(str(error))
        except RpcRefused:
            self.bells.unpublished("the node was built without ZMQ; use one with it")
        else:
            self.bells.unpublished("")
        return info
