"""The wing that serves clients: their use cases, who may call them, and the application of the API."""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog
from starlette.applications import Starlette

import watchtower
from domain.opening import Verify
from projections.channel_info import TABLE as CHANNEL_INFO
from watchtower.access import AccessFile
from watchtower.applications import Applications, load_applications
from watchtower.bootstrap.core import Core
from watchtower.bootstrap.ground import Ground
from watchtower.bootstrap.node import CLIENTS_IN_FLIGHT, connect_measured
from watchtower.bootstrap.policies import channel_policy, limits
from watchtower.bootstrap.storage import Storage
from watchtower.channels.context import Context
from watchtower.channels.lanes import lanes
from watchtower.config import Settings
from watchtower.gauges.submissions import counted
from watchtower.host.system import SystemClock
from watchtower.http.app import create_app
from watchtower.http.auth import Gate
from watchtower.http.services import Standing, bind
from watchtower.http.traffic import Traffic
from watchtower.receipts.signer import Epochs, ReceiptSigner
from watchtower.verification.processes import EACH, VerifyingProcesses, how_many

_log = structlog.get_logger(__name__)

UNWRITABLE = ("store_read_only", "store_unreachable")
"""Reasons with which no state is stored."""


class Api:
    """`app` answers clients; `access`, `gate` and `traffic` are those of the status page as well."""

    def __init__(self, ground: Ground, storage: Storage, core: Core) -> None:
        self._ground, self._storage, self._core = ground, storage, core
        self.access = AccessFile(Path(ground.settings.access_path))
        self.gate = self._build_gate()
        self.traffic = Traffic(lambda reason: ground.metrics.count("http_rejected_total", reason))
        self.app = self._build_app()

    def adopt(self, settings: Settings) -> None:
        """Let clients use as much as these settings say; from the event loop's thread."""
        self.app.state.api.use(limits(settings))

    def standing(self) -> Standing:
        """How the tower is, for clients."""
        ready, tip = self._ground.board.snapshot(), self._core.tip()
        return Standing(
            operational=ready.phase != "draining"
            and not self._storage.overflow.held
            and all(r.name not in UNWRITABLE for r in ready.reasons),
            watching=ready.watching,
            phase=ready.phase,
            reasons=tuple(f"{reason.name}: {reason.sentence}" for reason in ready.reasons),
            height=tip.height if tip else None,
            tip_hash=tip.hash if tip else None,
            lag=self._core.watch.lag,
            details=tuple(f"{reason.name}: {reason.detail or reason.sentence}" for reason in ready.reasons),
        )

    def _build_app(self) -> Starlette:
        ground = self._ground

        def observe(method: str, route: str, status: int, seconds: float) -> None:
            ground.metrics.count("http_requests_total", method, route, str(status))
            ground.metrics.observe("http_request_duration_seconds", route, value=seconds)
            _log.info("http_request", method=method, route=route, code=status, seconds=round(seconds, 6))

        services = bind(
            self._build_context(),
            self.standing,
            version=watchtower.__version__,
            network=ground.settings.network,
            tower_id=self._storage.tower_key.tower_id,
        )
        return create_app(
            msgspec.structs.replace(services, accept_state=counted(services.accept_state, ground.metrics)),
            gate=self.gate,
            limits=limits(ground.settings),
            observe=observe,
            traffic=self.traffic,
        )

    def _build_context(self) -> Context:
        ground, storage, core = self._ground, self._storage, self._core
        return Context(
            store=storage.overflow,
            # Connections of their own: a flood of clients must not take those of the pass thread.
            node=connect_measured(ground, CLIENTS_IN_FLIGHT),
            keystore=storage.keystore,
            clock=SystemClock(),
            channels=core.channels,
            views=storage.rows,
            policy=channel_policy(ground.settings),
            quota=lambda: channel_policy(ground.settings),
            tip_height=core.tip_height,
            announce=lambda _stream: core.wake.ring(),
            require_node=core.require_node,
            may_register=self._may_register,
            applications=self._load_applications(),
            outbox=core.outbox,
            failpoint=ground.failpoint,
            rollbacks=storage.heads,
            receipts=self._sign_receipts(),
            lanes=lanes(EACH),
            verify=self._verify(),
        )

    def _verify(self) -> Verify:
        """Other processes start once two clients upload at the same time."""
        processes = VerifyingProcesses(how_many())
        self._ground.stack.callback(processes.close)
        return processes.verify

    def _sign_receipts(self) -> ReceiptSigner:
        storage, metrics = self._storage, self._ground.metrics
        return ReceiptSigner(
            storage.tower_key,
            storage.store.meta.log_id,
            storage.store,
            epoch_at=Epochs(storage.store, storage.continuity.epoch),
            may_sign=storage.continuity.may_sign,
            signed=lambda: metrics.count("receipts_signed_total"),
        )

    def _build_gate(self) -> Gate:
        chosen = self._ground.settings.api
        return Gate(
            bytes.fromhex(chosen.token_hash),
            self.access,
            tower_key=self._storage.tower_key.tower_id,
            skew=chosen.clock_skew_seconds,
            is_owner=lambda key: bool(self._storage.rows.find(CHANNEL_INFO, "owner_key", key)),
        )

    def _may_register(self, key: bytes) -> bool:
        return self._ground.settings.policy.registration == "open" or self.access.allows(key)

    def _load_applications(self) -> Applications:
        """Started before the listeners answer: a validator that cannot be used must not be found out by a client."""
        wanted = self._ground.settings.applications
        loaded = load_applications(
            wanted.names,
            require_known=wanted.require_known,
            seconds=wanted.time_limit_ms / 1000,
            memory=wanted.memory_mb * 2**20,
        )
        self._ground.stack.callback(loaded.close)
        return loaded
