"""The rules for Prometheus: the shapes, what differs between networks, and the recording rules.

The alerts are in rules_tower.py and rules_money.py, the tests that make them fire in rules_cases.py; rules_files.py
writes all of it into deploy/prometheus.
"""

from __future__ import annotations

from typing import Literal

import msgspec

RUNBOOK = "https://github.com/state-channel-watchtower/state-channel-watchtower/blob/main/docs/runbook.md"
"""Where the runbook is read; every alert links to its section."""

JOB = "watchtower"
"""The `job` under which Prometheus scrapes towers."""

STANDING_BY = 'unless on (job, instance) watchtower_not_ready{reason="standby"} == 1'
"""A tower that stands by protects nothing by itself, and need not: the one that leads does."""

Severity = Literal["page", "ticket", "heartbeat"]


class Recording(msgspec.Struct, frozen=True):
    """A series that Prometheus computes from others."""

    name: str
    expression: str


class Alert(msgspec.Struct, frozen=True):
    """One alert. `lasting` is how long the expression has to hold ("" for not at all).

    `lingering` is how long the alert outlives its expression: what it inhibits has to end before it does.
    """

    name: str
    severity: Severity
    lasting: str
    expression: str
    summary: str
    description: str = ""
    lingering: str = ""

    @property
    def runbook(self) -> str:
        """The section of the runbook."""
        return f"{RUNBOOK}#{self.name.lower()}"


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds of one chain; None switches the alert off.

    Ages are seconds. `blocks_left` is a quarter of the challenge period of the channels.
    """

    name: str
    tip_stale: int | None
    canary_stale: int | None
    audit_stale: int | None
    zmq_silent: int | None
    clients_silent: int | None
    outbound_peers: int | None
    has_peers: bool
    blocks_left: int


MAINNET = Network(
    name="mainnet",
    tip_stale=7_200,
    canary_stale=9_000,
    audit_stale=28_800,
    zmq_silent=900,
    clients_silent=21_600,
    outbound_peers=4,
    has_peers=True,
    blocks_left=36,
)
SIGNET = Network(
    name="signet",
    tip_stale=14_400,
    canary_stale=18_000,
    audit_stale=57_600,
    zmq_silent=3_600,
    clients_silent=86_400,
    outbound_peers=2,
    has_peers=True,
    blocks_left=36,
)
"""Also for the testnets: blocks are less regular and mempools often empty."""

REGTEST = Network(
    name="regtest",
    tip_stale=None,
    canary_stale=None,
    audit_stale=None,
    zmq_silent=None,
    clients_silent=None,
    outbound_peers=None,
    has_peers=False,
    blocks_left=3,
)
"""Blocks are made by hand, nodes are alone, challenge periods are short."""

NETWORKS = (MAINNET, SIGNET, REGTEST)


def _errors(window: str) -> str:
    failed = f'sum by (job, instance) (rate(watchtower_http_requests_total{{code=~"5.."}}[{window}]))'
    return f"{failed} / sum by (job, instance) (rate(watchtower_http_requests_total[{window}]))"


def _p99(histogram: str, label: str) -> str:
    return f"histogram_quantile(0.99, sum by (job, instance, {label}, le) (rate({histogram}_bucket[5m])))"


RECORDINGS = (
    Recording(
        "instance:watchtower_chain_lag:blocks",
        "clamp_min(watchtower_node_blocks - watchtower_chain_processed_height, 0)",
    ),
    Recording(
        "instance:watchtower_fresh:bool",
        "(instance:watchtower_chain_lag:blocks <= bool 1) * on (job, instance) watchtower_node_up",
    ),
    Recording(
        "instance:watchtower_storage_available:ratio",
        "watchtower_storage_available_bytes / watchtower_storage_size_bytes",
    ),
    Recording(
        "instance_projection:watchtower_projection_lag:events",
        "clamp_min(watchtower_event_store_notification_id"
        " - on (job, instance) group_right () watchtower_projection_position, 0)",
    ),
    Recording(
        "job:watchtower_http_requests:rate5m", "sum by (job, instance) (rate(watchtower_http_requests_total[5m]))"
    ),
    *(
        Recording(f"job:watchtower_http_errors:ratio_rate{window}", _errors(window))
        for window in ("5m", "30m", "1h", "6h")
    ),
    Recording(
        "job_route:watchtower_http_request_duration_seconds:p99_5m",
        _p99("watchtower_http_request_duration_seconds", "route"),
    ),
    Recording(
        "job_operation:watchtower_event_store_operation_seconds:p99_5m",
        _p99("watchtower_event_store_operation_seconds", "operation"),
    ),
)
