"""What metrics tell of the node: height, peers, tip, feerates. Asked for often, beside the pass and never in its way.

While the node is away the gauges keep their last values, and `node_up` says so.
"""

from __future__ import annotations

from typing import Protocol

import structlog

from domain.fees import Market
from watchtower.node.rpc import NodeVersion
from watchtower.ports import ChainInfo, NodeError, NodeUnavailable
from watchtower.telemetry.catalog import FEE_TARGETS
from watchtower.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)

LOOK_SECONDS = 15.0


class AskedNode(Protocol):
    """The part of the node's adapter that is asked. Every method raises `NodeError`."""

    def chain_info(self) -> ChainInfo:
        """Tip and sync state."""

    def version(self) -> NodeVersion:
        """Peers by direction."""

    def fee_market(self, targets: tuple[int, ...]) -> Market:
        """Minimum and estimates in sat/vB."""


class NodeGauges:
    """Sets the gauges of the node; `turn` is called by one thread."""

    def __init__(self, node: AskedNode, metrics: Metrics) -> None:
        self._node = node
        self._metrics = metrics

    def turn(self) -> float:
        """Ask and tell; the seconds until the next time."""
        try:
            show_chain(self._node.chain_info(), self._metrics)
        except NodeUnavailable:
            self._metrics.set("node_up", value=0)
            return LOOK_SECONDS
        except NodeError as error:
            _log.warning("rpc_failed", method="getblockchaininfo", reason=str(error))
        for show in (self._show_peers, self._show_fees):
            try:
                show()
            except NodeError as error:  # a right that is missing, or one slow answer, is no node that is away
                _log.warning("rpc_failed", method="any", reason=str(error))
        return LOOK_SECONDS

    def _show_peers(self) -> None:
        version = self._node.version()
        self._metrics.set("node_peers", "inbound", value=version.inbound)
        self._metrics.set("node_peers", "outbound", value=version.outbound)

    def _show_fees(self) -> None:
        """An estimate that the node no longer gives is no series: an old one would mislead."""
        market = self._node.fee_market(tuple(map(int, FEE_TARGETS)))
        self._metrics.set("node_mempool_min_feerate_sats_per_vbyte", value=market.minimum)
        known = {str(target): rate for target, rate in market.estimates}
        for target in FEE_TARGETS:
            self._metrics.set("node_estimated_feerate_sats_per_vbyte", target, value=known.get(target))


def show_chain(info: ChainInfo, metrics: Metrics) -> None:
    """What the node says about its chain; it answered."""
    metrics.set("node_up", value=1)
    metrics.set("node_blocks", value=info.blocks)
    metrics.set("node_headers", value=info.headers)
    metrics.set("node_initial_block_download", value=float(info.initial_block_download))
    metrics.set("node_pruned_height", value=info.pruned_height)
    if info.tip_time:
        metrics.set("node_tip_timestamp_seconds", value=info.tip_time)
