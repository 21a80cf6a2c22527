"""Connections to the node, and to the second one."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import structlog

from watchtower.bootstrap.ground import Ground
from watchtower.config import Settings
from watchtower.config.sections import NodeSettings, SecondNodeSettings
from watchtower.node.rpc import BitcoindNode
from watchtower.node.second import SECONDS as SECOND_NODE_SECONDS
from watchtower.node.second import SecondNode
from watchtower.node.transport import CALL_SECONDS, IN_FLIGHT, Observer

_log = structlog.get_logger(__name__)

CLIENTS_IN_FLIGHT = 1
"""Of the calls to the node that may be under way at once, those of clients; the others belong to the pass thread."""

PASS_IN_FLIGHT = IN_FLIGHT - CLIENTS_IN_FLIGHT


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


def connect_measured(ground: Ground, in_flight: int) -> BitcoindNode:
    """Connections to the node whose calls are counted and timed; closed with the ground."""
    metrics = ground.metrics

    def observe(method: str, outcome: str, seconds: float) -> None:
        metrics.count("node_rpc_requests_total", method, outcome)
        metrics.observe("node_rpc_duration_seconds", method, value=seconds)
        _log.debug("rpc_answered", method=method, outcome=outcome, seconds=round(seconds, 6))

    node = connect(ground.settings.node, observe, in_flight=in_flight)
    ground.stack.callback(node.close)
    return node


def second_node(settings: Settings, stack: ExitStack) -> SecondNode | None:
    """The optional second node, closed with the stack."""
    if not settings.second_node.rpc_url:
        return None
    node = connect(settings.second_node, seconds=SECOND_NODE_SECONDS)
    stack.callback(node.close)
    return SecondNode(node, settings.network, time.monotonic)


def zmq_endpoints(settings: Settings) -> dict[str, str]:
    """Addresses by topic, of those that are configured."""
    chosen = {
        "sequence": settings.node.zmq_sequence,
        "rawtx": settings.node.zmq_rawtx,
        "hashblock": settings.node.zmq_hashblock,
    }
    return {topic: address for topic, address in chosen.items() if address}
