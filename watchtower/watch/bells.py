"""What a ZMQ notification means for the tower: a ring of the wake flag, and a count. Never a fact about the chain."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import structlog

from watchtower.node.zmq import Bell, BellKind
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import ReadinessBoard
from watchtower.watch.passes import Wake

_log = structlog.get_logger(__name__)

PATIENCE = 30.0
"""Seconds without a connection until silence is reported; libzmq tries again every 5 s at most."""

UNHEARD_LIMIT = 3
"""Passes that found blocks since the last message about one, until silence is reported. The first one may have been
announced before it was found, and a single lost message is no silence."""

_MESSAGES = frozenset({BellKind.TIP, BellKind.MEMPOOL, BellKind.TOUCHED, BellKind.REMOVED})


class Bells:
    """Receives bells in the event loop's thread; `look` is called there too, every few seconds."""

    def __init__(
        self,
        *,
        endpoints: Mapping[str, str],
        wake: Wake,
        metrics: Metrics,
        board: ReadinessBoard,
        is_ours: Callable[[bytes], bool] = lambda _txid: False,
    ) -> None:
        """`endpoints` are the addresses by topic; `is_ours` tells transactions that we sent.

        That one of them entered the mempool is news that can wait; that one left it is not.
        """
        self._endpoints = endpoints
        self._wake = wake
        self._metrics = metrics
        self._board = board
        self._is_ours = is_ours
        self._lost_since: dict[str, float | None] = dict.fromkeys(endpoints, time.monotonic())
        self._known: set[str] = set()
        self._unpublished = ""
        self._unheard = 0
        for topic in endpoints:
            metrics.set("zmq_connected", topic, value=0)

    def ring(self, bell: Bell) -> None:
        """Set the wake flag as urgently as the bell asks for."""
        if bell.kind in _MESSAGES:
            self._metrics.count("zmq_messages_total", bell.topic)
            self._metrics.set("zmq_last_message_timestamp_seconds", bell.topic, value=time.time())
            if bell.topic == "rawtx":
                self._metrics.count("chain_transactions_scanned_total", "mempool")
        match bell.kind:
            case BellKind.TOUCHED:
                txid = bytes(bell.txid or b"")
                captured = {txid: bell.raw} if txid else {}
                self._wake.ring(urgent=not self._is_ours(txid), touched=bell.touched, captured=captured)
            case BellKind.TIP:
                self._unheard = 0
                self._wake.ring(urgent=True)
            case BellKind.REMOVED:
                self._wake.ring(urgent=self._is_ours(bytes(bell.txid or b"")))
            case BellKind.MEMPOOL:
                self._wake.ring()
            case BellKind.GAP | BellKind.RESTART:
                self._lost_messages(bell)
            case BellKind.CONNECTED | BellKind.DISCONNECTED:
                self._connection(bell)

    def unpublished(self, text: str) -> None:
        """What the node said about missing topics, empty if it publishes all; may be called from any thread."""
        if text and text != self._unpublished:
            _log.error("zmq_topic_missing", topic="sequence,rawtx", reason=text)
        self._unpublished = text

    def block_found(self) -> None:
        """A pass found blocks at the tip, whoever rang for it; may be called from any thread."""
        self._unheard += 1

    def look(self) -> None:
        """Report or take back the silence."""
        now = time.monotonic()
        unheard = [topic for topic, since in self._lost_since.items() if since is not None and now - since > PATIENCE]
        if self._unpublished:
            self._board.set("zmq_silent", self._unpublished)
        elif unheard:
            lines = " and ".join(f"zmqpub{topic}={self._endpoints[topic]}" for topic in sorted(unheard))
            self._board.set("zmq_silent", f"no connection; does bitcoin.conf say {lines}? Else set node.zmq_… right")
        elif self._unheard >= UNHEARD_LIMIT:
            text = "connected, but the last blocks came without a message; do node.zmq_… lead to this node?"
            self._board.set("zmq_silent", text)
        else:
            self._board.clear("zmq_silent")

    def _lost_messages(self, bell: Bell) -> None:
        if bell.kind is BellKind.GAP:
            self._metrics.count("zmq_missed_messages_total", bell.topic, by=bell.missed)
            self._metrics.count("zmq_resyncs_total", "sequence_gap")
            _log.warning("zmq_gap_detected", topic=bell.topic, missed=bell.missed)
        else:
            self._metrics.count("zmq_resyncs_total", "node_restart")
            _log.info("zmq_restart_detected", topic=bell.topic)
        self._wake.ring(full_sweep=True)  # not urgent: a flood that overruns the buffers causes gaps all the time

    def _connection(self, bell: Bell) -> None:
        connected = bell.kind is BellKind.CONNECTED
        self._metrics.set("zmq_connected", bell.topic, value=float(connected))
        self._lost_since[bell.topic] = None if connected else time.monotonic()
        if connected and bell.topic in self._known:
            self._metrics.count("zmq_resyncs_total", "reconnect")
        self._known.add(bell.topic)
        if connected:
            _log.info("zmq_connected", endpoint=bell.topic)
        else:
            _log.warning("zmq_disconnected", endpoint=bell.topic)
        self._wake.ring(full_sweep=connected)
