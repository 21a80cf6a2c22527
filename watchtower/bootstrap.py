"""The composition root: the only place that builds adapters and hands them to each other.

Opens in this order: instance lock and log, read models, keystore, listeners. The node is only
prepared; it may be away. Whatever was opened is closed again if a later step fails.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.types import ASGIApp

import watchtower
from domain.chain import BlockRef, chain_hash
from domain.contract.params import ParamsPolicy, profile_for
from domain.contract.state_rules import StatePolicy
from domain.events import CHAIN_STREAM
from projections.catalog import PROJECTIONS
from projections.channel_info import TABLE as CHANNEL_INFO
from projections.projector import Projector
from watchtower.access import AccessFile
from watchtower.applications import Applications, load_applications
from watchtower.backup.periodic import open_backups
from watchtower.channels.context import ChannelPolicy, Context
from watchtower.config import Loaded, Settings, parse_listen
from watchtower.config.settings import NodeSettings, SecondNodeSettings
from watchtower.continuity.continuity import Continuity
from watchtower.continuity.coverage import Coverage
from watchtower.continuity.heads import HeadKeeper, standing_of
from watchtower.continuity.sealing import HeadSealer
from watchtower.gauges.scrape import Gauges, open_gauges
from watchtower.gauges.submissions import counted
from watchtower.host.disk import MEGABYTE, Disk
from watchtower.host.hygiene import PRIVATE_FILES, require_private
from watchtower.host.revision import revision
from watchtower.host.system import SystemClock, system_random
from watchtower.http.app import METHODS, create_app
from watchtower.http.auth import Gate
from watchtower.http.routes import Limits
from watchtower.http.services import Standing, bind
from watchtower.http.traffic import Traffic
from watchtower.keystore import PASSPHRASE_NAME, FileKeystore, TransportSeal, open_with_file
from watchtower.keystore.shared import SharedKeystore
from watchtower.models import LiveModels
from watchtower.node.checks import ZmqTopicMissing, require_network, require_topics
from watchtower.node.rpc import BitcoindNode
from watchtower.node.second import SECONDS as SECOND_NODE_SECONDS
from watchtower.node.second import SecondNode, TwoNodes
from watchtower.node.transport import CALL_SECONDS, IN_FLIGHT, Observer, RpcRefused
from watchtower.node.zmq import ZmqDoorbell
from watchtower.notify.wiring import open_notifier
from watchtower.outbox import Outbox
from watchtower.ports import (
    ChainInfo,
    Failpoint,
    Keystore,
    NodeUnavailable,
    StoreError,
    StoreLocked,
    WatchtowerError,
    WrongChain,
)
from watchtower.receipts.signer import Epochs, ReceiptSigner
from watchtower.receipts.tower_key import TowerKey, load_tower_key
from watchtower.reload import Changes
from watchtower.repository import Channels
from watchtower.store.ahead import AheadMark
from watchtower.store.datastore import library_doubt, no_failpoint
from watchtower.store.high_water import Comparison
from watchtower.store.overflow import OverflowStore
from watchtower.store.places import Turn, engine, open_log, open_secrets, open_source
from watchtower.store.rebuild import open_views, rebuild
from watchtower.store.segments.source import open_log_files
from watchtower.store.snapshots import ChannelSnapshots
from watchtower.store.summary import summary
from watchtower.store.views import SqliteRows
from watchtower.store.writer import LogWriter
from watchtower.telemetry.commit_times import CommitTimes
from watchtower.telemetry.contests import Contests
from watchtower.telemetry.logging import LogControl, configure
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import ReadinessBoard
from watchtower.telemetry.reporter import Reporter
from watchtower.telemetry.store_meter import StoreMeter
from watchtower.telemetry.tasks import TaskReport
from watchtower.tower import PassReport, Tower, TowerSettings
from watchtower.watch.bells import Bells
from watchtower.watch.doubts import Doubts
from watchtower.watch.lookouts import IN_FLIGHT as LOOKOUTS_IN_FLIGHT
from watchtower.watch.lookouts import Lookouts
from watchtower.watch.passes import Wake
from watchtower.watch.watch import Watch
from watchtower.web.admin import facts_of, open_admin, quotas_of
from watchtower.web.sources import Sources

_log = structlog.get_logger(__name__)

WARN_WINDOW = 144
CLIENTS_IN_FLIGHT = 1
"""Of the calls to the node that may be under way at once, those of clients; the others belong to the pass thread."""

BLOCKS_PER_PASS = 25
"""Full blocks take up to 0.2 s each, fetch and disk included: a pass stays well below the time that a stop allows."""

UNWRITABLE = ("store_read_only", "store_unreachable")
"""Reasons with which no state is stored."""

COUNTED_LEVELS = ("warning", "error", "critical")


class ListenFailed(WatchtowerError):
    """An address cannot be listened on: in use, not ours, or a privileged port."""

    slug: ClassVar[str] = "listen-failed"


class Parts:
    """Everything that one running service consists of; made by `open_parts`, closed once by `close`."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        stack: ExitStack,
        failpoint: Failpoint,
        turn: Turn | None = None,
        board: ReadinessBoard | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self._stack = stack
        self._failpoint = failpoint
        self._thread_end: Callable[[], object] = lambda: None
        self.board = board or ReadinessBoard(metrics)
        self.wake = Wake()
        self.deferred: frozenset[str] = frozenset()
        self._told_skipped: set[tuple[str, str]] = set()
        self.chain_stored_at = 0.0
        """Monotonic time of the pass thread's last commit."""
        require_private(Path(settings.data_dir), PRIVATE_FILES)
        self.store = self._open_store(turn)
        self.ahead = AheadMark(Path(settings.views_path))
        commits = CommitTimes()
        self.overflow = OverflowStore(self.store, self._release_reserve, self.ahead, commits.note)
        self.disk = self._look_after_disk()
        self.tower_key = load_tower_key(settings)
        self.rows = self._open_views()
        self.heads = self._keep_heads()
        self.keystore = self._open_keystore()
        self.sockets = listen(settings, stack)
        snapshots = ChannelSnapshots(self.rows)
        self.channels = Channels(self.overflow, snapshots=snapshots)
        self.outbox = Outbox()
        self.node = self._connect_node(IN_FLIGHT - CLIENTS_IN_FLIGHT)
        self.models = LiveModels(
            Projector(self.overflow, self.rows, PROJECTIONS),
            self.rows,
            self.channels,
            damaged=self.store.damaged,
            one_owner=self.settings.policy.registration != "open",
            release=self._release_reserve,
            snapshots=snapshots,
        )
        self._skipped_before = frozenset(self.models.quarantined)
        self.second = second_node(settings, stack)
        self.tower = self._build_tower()
        self.doubts = Doubts(
            board=self.board,
            metrics=metrics,
            chainwork=lambda: self.tower.follower.cursor.chainwork,
            second=self.second,
            stale_after=settings.stale_tip_seconds,
            monotonic=time.monotonic,
            wall=time.time,
        )
        self.lookouts = Lookouts(
            node=self._connect_node(LOOKOUTS_IN_FLIGHT), models=self.models, rng=system_random, metrics=metrics
        )
        self.watch = self._build_watch()
        self.reporter = Reporter(
            self.store,
            metrics,
            self._thread_ended,
            contests=Contests(metrics, self.models.contested_facts()),
            known_until=self.models.position,
            durable_at=commits.of,
        )
        self.backups = open_backups(settings, self.store, self.tower_key.sign, SystemClock(), metrics)
        self.notifier = open_notifier(
            settings,
            store=self.store,
            rows=self.rows,
            board=self.board,
            metrics=metrics,
            tower_id=self.tower_key.tower_id,
            tip_height=self._tip_height,
            troubles=self._troubles,
            took_over=turn is not None,
        )
        stack.callback(self.notifier.close)
        endpoints = _endpoints(settings)
        self.bells = Bells(
            endpoints=endpoints,
            wake=self.wake,
            metrics=metrics,
            board=self.board,
            is_ours=self.tower.is_ours,
        )
        self.doorbell = ZmqDoorbell(endpoints, self.bells.ring, self.tower.is_watched)
        self.access = AccessFile(Path(settings.access_path))
        self.gate = self._build_gate()
        self.traffic = Traffic(lambda reason: metrics.count("http_rejected_total", reason))
        self.api = self._build_api()
        self.admin = self._build_admin()

    @property
    def facts(self) -> dict[str, Any]:
        """What the log says about this run at its start."""
        return {
            "version": watchtower.__version__,
            "network": self.settings.network,
            "data_dir": self.settings.data_dir,
        }

    def _troubles(self) -> dict[str, str]:
        """What people are told of although it is no readiness reason."""
        return {"backup_failed": self.backups.failure} if self.backups.failure else {}

    def on_thread_end(self, callback: Callable[[], object]) -> None:
        """Call this when the pass thread or the reporter ends, in that thread."""
        self._thread_end = callback

    def _thread_ended(self) -> None:
        self._thread_end()

    def close(self) -> None:
        """Close everything in reverse order; the log is checkpointed."""
        self._stack.close()

    def _open_store(self, turn: Turn | None) -> LogWriter:
        def chain_stored() -> None:
            self.chain_stored_at = time.monotonic()

        observe = StoreMeter(self.metrics, chain_stored)
        try:
            store = open_log(self.settings, observe=observe, failpoint=self._failpoint, turn=turn)
        except StoreLocked as error:
            _log.critical("store_locked_out", reason=str(error))
            raise
        self._stack.callback(store.close)
        self._stack.callback(store.checkpoint)
        if store.damaged:
            self.board.set("log_damaged", f"channels: {', '.join(sorted(store.damaged))}")
        if doubt := library_doubt():
            _log.warning("config_questioned", reason=doubt)
        _log.info("store_opened", notification_id=store.last_id())
        return store

    def _release_reserve(self) -> bool:
        return self.disk.release()

    def _look_after_disk(self) -> Disk:
        chosen = self.settings.store
        return Disk(
            Path(self.settings.event_log_path).parent,
            low=chosen.low_space_mb * MEGABYTE,
            reserve=chosen.reserve_mb * MEGABYTE,
            alarm=self.board.set,
            clear=self.board.clear,
            held=lambda: self.overflow.held_for_space,
        )

    def look_after_store(self) -> None:
        """Say whether the database server of the log can be reached, wait for it no longer; called every second."""
        self.store.lose_patience()
        if isinstance(self.keystore, SharedKeystore):
            self.keystore.look()
        away = self.store.away_for()
        if away:
            held = self.overflow.held
            self.board.set("store_unreachable", f"{held} events wait in memory" if held else "")
        else:
            self.board.clear("store_unreachable")

    def _open_views(self) -> SqliteRows:
        self.ahead.discard_views()
        path = Path(self.settings.views_path)

        def rebuilt(seconds: float) -> None:
            position = self.store.last_id()
            _log.info("projection_rebuilt", path=path.name, notification_id=position, seconds=round(seconds, 3))

        rows = open_views(path, self.store, failpoint=self._failpoint, rebuilt=rebuilt)
        self._stack.callback(rows.close)
        return rows

    def _keep_heads(self) -> HeadKeeper:
        """Compare the log with its high-water mark before anything is signed about it."""
        file = self.store.file
        source = open_log_files(file) if file is not None else open_source(self.settings)
        self._stack.callback(source.close)
        standing = standing_of(self.store, self.rows)
        self.continuity = Continuity(Path(self.settings.high_water_path), source, standing)
        self._stack.callback(self.continuity.note)
        if self.continuity.verdict is Comparison.DIFFERENT:
            # Views of another history may stand at a position that this log has, too.
            self.rows.close()
            rebuild(Path(self.settings.views_path), self.store, failpoint=self._failpoint)
            self.store.known_until = None
            self.rows = self._open_views()
            standing = standing_of(self.store, self.rows)
        self.coverage = Coverage(standing, self.store, self.rows)
        clock = SystemClock()
        return HeadKeeper(
            store=self.overflow,  # it refuses while facts of the chain wait: their ids are given already
            continuity=self.continuity,
            coverage=self.coverage,
            sealer=HeadSealer(self.overflow, source, standing, self.tower_key.sign, clock),
            board=self.board,
            clock=clock,
            report=TaskReport(self.metrics, "heads"),
        )

    def _open_keystore(self) -> Keystore:
        """The file; with a log on a server, secrets go there too, sealed for the towers that stand by."""
        keystore = open_keystore(self.settings)
        self._stack.callback(keystore.close)
        shared = share_keystore(self.settings, keystore, self.tower_key, self.store.meta.log_id, self._stack)
        if shared is None:
            return keystore
        shared.lead()
        return shared

    def _connect_node(self, in_flight: int) -> BitcoindNode:
        def observe(method: str, outcome: str, seconds: float) -> None:
            self.metrics.count("node_rpc_requests_total", method, outcome)
            self.metrics.observe("node_rpc_duration_seconds", method, value=seconds)
            _log.debug("rpc_answered", method=method, outcome=outcome, seconds=round(seconds, 6))

        node = connect(self.settings.node, observe, in_flight=in_flight)
        self._stack.callback(node.close)
        return node

    def _build_tower(self) -> Tower:
        return Tower(
            node=self.node if self.second is None else TwoNodes(self.node, self.second),
            store=self.overflow,
            models=self.models,
            channels=self.channels,
            keystore=self.keystore,
            clock=SystemClock(),
            rng=system_random,
            failpoint=self._failpoint,
            settings=TowerSettings(
                self.settings.network, spendable=self.settings.fees.max_ratio, blocks_per_pass=BLOCKS_PER_PASS
            ),
            outbox=self.outbox,
            observe=self._passed,
        )

    def _passed(self, report: PassReport) -> None:
        self.deferred = report.respond.waiting
        self._tell_of_damage()
        self.overflow.flush()
        self.doubts.observe(report)
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
                self.metrics.count("projection_errors_total", projection)
        self._told_skipped = set(skipped)
        lost = self.store.damaged | {stream for _, stream in skipped}
        if lost:
            self.board.set("log_damaged", f"channels: {', '.join(sorted(lost))}")

    def _build_watch(self) -> Watch:
        watch = Watch(
            core=self.tower,
            contested=lambda: bool(self.models.contested()),
            check_node=self._check_node,
            chain_info=self.node.chain_info,
            wake=self.wake,
            board=self.board,
            metrics=self.metrics,
            poll_seconds=self.settings.node.poll_seconds,
            on_end=self._thread_ended,
            block_found=self._block_found,
        )
        cursor = self.tower.follower.load()
        watch.height = cursor.height if cursor is not None else 0
        if cursor is not None:
            (last,) = self.store.read_stream(CHAIN_STREAM, after=cursor.version - 1, limit=1)
            watch.resume(last.payload.recorded_at / 1e6)
        return watch

    def _block_found(self) -> None:
        self.bells.block_found()

    def _check_node(self) -> ChainInfo:
        """The right chain, or an error; missing notifications are only a readiness reason, because the timer works."""
        info = require_network(self.node, self.settings.network)
        try:
            require_topics(self.node.zmq_notifications(), _endpoints(self.settings))
        except ZmqTopicMissing as error:
            self.bells.unpublished(str(error))
        except RpcRefused:
            self.bells.unpublished("the node was built without ZMQ; use one with it")
        else:
            self.bells.unpublished("")
        return info

    def _require_node(self) -> None:
        """For use cases: raise unless the pass thread knows that this is the right node."""
        doubt = self.watch.node_doubt
        if doubt is not None:
            raise WrongChain(str(doubt)) if isinstance(doubt, WrongChain) else NodeUnavailable(str(doubt))

    def _build_api(self) -> Starlette:
        def observe(method: str, route: str, status: int, seconds: float) -> None:
            self.metrics.count("http_requests_total", method, route, str(status))
            self.metrics.observe("http_request_duration_seconds", route, value=seconds)
            _log.info("http_request", method=method, route=route, code=status, seconds=round(seconds, 6))

        context = Context(
            store=self.overflow,
            # Connections of their own: a flood of clients must not take those of the pass thread.
            node=self._connect_node(CLIENTS_IN_FLIGHT),
            keystore=self.keystore,
            clock=SystemClock(),
            channels=self.channels,
            views=self.rows,
            policy=channel_policy(self.settings),
            quota=lambda: channel_policy(self.settings),
            tip_height=self._tip_height,
            announce=lambda _stream: self.wake.ring(),
            require_node=self._require_node,
            may_register=self._may_register,
            applications=self._load_applications(),
            outbox=self.outbox,
            failpoint=self._failpoint,
            rollbacks=self.heads,
            receipts=self._sign_receipts(),
        )
        services = bind(
            context,
            self._standing,
            version=watchtower.__version__,
            network=self.settings.network,
            tower_id=self.tower_key.tower_id,
        )
        return create_app(
            msgspec.structs.replace(services, accept_state=counted(services.accept_state, self.metrics)),
            gate=self.gate,
            limits=limits(self.settings),
            observe=observe,
            traffic=self.traffic,
        )

    def _build_admin(self) -> ASGIApp:
        """The status page reads over connections of its own, as everything in a worker thread does."""
        canary = self.metrics.value("canary_last_success_timestamp_seconds")
        facts = facts_of(
            self.settings,
            listening=self.sockets["api"].getsockname()[:2],
            topics=tuple(_endpoints(self.settings)),
            started=canary or 0.0,
            build=(watchtower.__version__, revision(), self.tower_key.tower_id.hex(), engine(self.settings)),
        )
        sources = Sources(
            facts=facts,
            quotas=lambda: quotas_of(self.settings),
            known_until=lambda: self.models.position,
            readiness=self.board.snapshot,
            tip=self._tip_height,
            lag=lambda: self.watch.lag,
            stream_of=self.channels.stream_of,
            store=self.overflow,
            rows=self.rows,
            sums=lambda: summary(self.rows),
            metrics=self.metrics,
            access=self.access,
            clock=SystemClock(),
        )
        return open_admin(
            self.settings,
            sources,
            render=self._gauges().render,
            gate=self.gate,
            board=self.board,
            channels=self.channels,
            standing=self._standing,
            traffic=self.traffic,
        )

    def prepare(self, changes: Changes) -> None:
        """Tell people in the new way; raises `ConfigError` and changes nothing if that is not possible."""
        if changes.notify:
            self.notifier.reload(changes.settings.notify)

    def adopt(self, changes: Changes) -> None:
        """Let clients use as much as the new settings say; from the event loop's thread."""
        self.settings = changes.settings
        self.api.state.api.use(limits(changes.settings))

    def _sign_receipts(self) -> ReceiptSigner:
        return ReceiptSigner(
            self.tower_key,
            self.store.meta.log_id,
            self.store,
            epoch_at=Epochs(self.store, self.continuity.epoch),
            may_sign=self.continuity.may_sign,
            signed=lambda: self.metrics.count("receipts_signed_total"),
        )

    def _build_gate(self) -> Gate:
        chosen = self.settings.api
        return Gate(
            bytes.fromhex(chosen.token_hash),
            self.access,
            tower_key=self.tower_key.tower_id,
            skew=chosen.clock_skew_seconds,
            is_owner=lambda key: bool(self.rows.find(CHANNEL_INFO, "owner_key", key)),
        )

    def _may_register(self, key: bytes) -> bool:
        return self.settings.policy.registration == "open" or self.access.allows(key)

    def _load_applications(self) -> Applications:
        """Started before the listeners answer: a validator that cannot be used must not be found out by a client."""
        wanted = self.settings.applications
        loaded = load_applications(
            wanted.names,
            require_known=wanted.require_known,
            seconds=wanted.time_limit_ms / 1000,
            memory=wanted.memory_mb * 2**20,
        )
        self._stack.callback(loaded.close)
        return loaded

    def _standing(self) -> Standing:
        ready, tip = self.board.snapshot(), self._tip()
        return Standing(
            operational=ready.phase != "draining"
            and not self.overflow.held
            and all(r.name not in UNWRITABLE for r in ready.reasons),
            watching=ready.watching,
            phase=ready.phase,
            reasons=tuple(f"{reason.name}: {reason.sentence}" for reason in ready.reasons),
            height=tip.height if tip else None,
            tip_hash=tip.hash if tip else None,
            lag=self.watch.lag,
            details=tuple(f"{reason.name}: {reason.detail or reason.sentence}" for reason in ready.reasons),
        )

    def _tip(self) -> BlockRef | None:
        """The cursor's block; None before the first contact with a node."""
        try:
            return self.tower.follower.cursor.tip
        except StoreError:
            return None

    def _tip_height(self) -> int:
        """Height of the cursor, also in the middle of a pass: what the log calls confirmed must count as such."""
        tip = self._tip()
        return self.watch.height if tip is None else tip.height

    def _highest(self) -> int:
        """The tip that deadlines are counted from: the best header, if the node has one above our cursor."""
        return max(self.watch.height, int(self.metrics.value("node_headers") or 0))

    def _gauges(self) -> Gauges:
        return open_gauges(
            metrics=self.metrics,
            models=self.models,
            rows=self.rows,
            access=self.access,
            tip=self._highest,
            deferred=lambda: self.deferred,
            waiting=self.store.waiting,
            traffic=self.traffic,
            event_log=Path(self.settings.event_log_path),
        )


def connect(
    chosen: NodeSettings | SecondNodeSettings,
    observe: Observer | None = None,
    *,
    seconds: float = CALL_SECONDS,
    in_flight: int = IN_FLIGHT,
) -> BitcoindNode:
    """The adapter of a configured node; it may be away."""
    user, password = chosen.rpc_user or None, chosen.rpc_password
    return BitcoindNode(
        chosen.rpc_url,
        user,
        password.reveal() if user is not None and password is not None else None,
        Path(chosen.rpc_cookie_path) if user is None else None,
        chosen.rest_url or None if isinstance(chosen, NodeSettings) else None,
        observe,
        seconds=seconds,
        in_flight=in_flight,
    )


def listen(settings: Settings, stack: ExitStack) -> dict[str, socket.socket]:
    """Sockets of the listeners, `api` and `admin`, closed with the stack; raises `ListenFailed`."""
    sockets = {}
    for name, text in (("api", settings.api.listen), ("admin", settings.admin.listen)):
        host, port = parse_listen(text)
        sockets[name] = sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        stack.callback(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            raise ListenFailed(f"{name}.listen = {text}: {error.strerror}; choose another address or port") from None
    return sockets


def open_keystore(settings: Settings) -> FileKeystore:
    """The keystore's file with the passphrase of the settings, else with the one beside it."""
    path, secret = Path(settings.keystore_path), settings.keystore.passphrase
    if secret is None:
        return open_with_file(path, Path(settings.data_dir) / PASSPHRASE_NAME)
    return FileKeystore.open(path, secret.reveal().encode())


def share_keystore(
    settings: Settings, own: FileKeystore, key: TowerKey, log_id: bytes, stack: ExitStack
) -> SharedKeystore | None:
    """The keystore with sealed copies beside a log on a server; None for a log in a file."""
    table = open_secrets(settings)
    if table is None:
        return None
    stack.callback(table.close)
    return SharedKeystore(own, table, TransportSeal(key.derive(b"sealed-secrets/1/" + log_id)))


def second_node(settings: Settings, stack: ExitStack) -> SecondNode | None:
    """The optional second node, closed with the stack."""
    if not settings.second_node.rpc_url:
        return None
    node = connect(settings.second_node, seconds=SECOND_NODE_SECONDS)
    stack.callback(node.close)
    return SecondNode(node, settings.network, time.monotonic)


def channel_policy(settings: Settings) -> ChannelPolicy:
    """What this installation accepts."""
    return ChannelPolicy(
        params=ParamsPolicy(
            chain_hash=chain_hash(settings.network),
            min_capacity=settings.funding_threshold,
            max_capacity=settings.max_value,
            min_challenge_period=settings.min_challenge_period,
            profile=profile_for(settings.taproot_enabled),
        ),
        confirmations=settings.funding_confirmations,
        warn_below_challenge_period=WARN_WINDOW if settings.network == "mainnet" else 0,
        max_channels=settings.policy.max_channels,
        max_total_capacity=settings.policy.max_total_capacity,
        state=StatePolicy(
            max_conditions=settings.policy.max_conditions, max_dust_exposure_sat=settings.policy.max_dust_exposure
        ),
    )


def limits(settings: Settings) -> Limits:
    """What one client of the API may use."""
    return Limits(
        max_body=settings.api.max_body_bytes,
        body_seconds=settings.api.request_deadline_seconds,
        per_address=settings.api.max_requests_per_ip,
        per_key=settings.api.max_requests_per_key,
        bytes_per_key=settings.api.max_bytes_per_key,
        heartbeat=settings.api.sse_heartbeat_seconds,
    )


def start(loaded: Loaded, failpoint: Failpoint = no_failpoint) -> Parts:
    """Logging first, then everything else; raises a typed error that says what to do."""
    return open_parts(loaded.settings, begin(loaded)[0], failpoint)


def begin(loaded: Loaded) -> tuple[Metrics, LogControl]:
    """Metrics and logging."""
    settings = loaded.settings
    metrics = Metrics(build=(watchtower.__version__, revision(), settings.network, engine(settings)), routes=METHODS)

    def count(level: str) -> None:
        if level in COUNTED_LEVELS:
            metrics.count("log_messages_total", level)

    control = configure(settings.log.level, settings.log.format, count=count)
    _log.info("config_loaded", path=loaded.path or "defaults and environment")
    for warning in loaded.warnings:
        _log.warning("config_questioned", reason=warning)
    return metrics, control


def open_parts(
    settings: Settings,
    metrics: Metrics,
    failpoint: Failpoint = no_failpoint,
    turn: Turn | None = None,
    board: ReadinessBoard | None = None,
) -> Parts:
    """Open everything; closes what is open again if a step fails. `failpoint` is for tests: named points may fail.

    `turn` and `board` are those of a tower that stood by.
    """
    stack = ExitStack()
    try:
        return Parts(settings, metrics, stack, failpoint, turn, board)
    except BaseException:
        stack.close()
        raise


def _endpoints(settings: Settings) -> dict[str, str]:
    chosen = {
        "sequence": settings.node.zmq_sequence,
        "rawtx": settings.node.zmq_rawtx,
        "hashblock": settings.node.zmq_hashblock,
    }
    return {topic: address for topic, address in chosen.items() if address}
