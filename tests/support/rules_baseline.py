"""A healthy tower as Prometheus sees it: one value per series that a rule reads, 150 samples, 30 seconds apart.

The clock of promtool's tests begins at 0, so a timestamp that is renewed all the time grows by 30 a step, and an age
comes from a start below 0. Two penalties are in blocks and one incident is a day old: neither may alarm.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.support.rules import JOB
from watchtower.telemetry import catalog
from watchtower.telemetry.catalog import BLOCKING_REASONS, OTHER_REASONS, PHASES
from watchtower.telemetry.metrics import PREFIX, Metrics

INSTANCE = "tower:9816"
ALWAYS, NEVER, RENEWED = "1x150", "0x150", "0+30x150"
DAY_OLD = "-86400x150"
BUSY = "0+300x150"
"""Ten a second."""


def series(name: str, instance: str = INSTANCE, **labels: str) -> str:
    """The name of one series of the tower, as promtool writes it."""
    pairs = {"job": JOB, "instance": instance, **labels}
    inside = ",".join(f'{label}="{value}"' for label, value in pairs.items())
    return f"{name}{{{inside}}}"


def healthy(instance: str = INSTANCE) -> dict[str, str]:
    """Series -> values of one tower without trouble."""
    made: dict[str, str] = {}

    def put(name: str, values: str, **labels: str) -> None:
        made[series(name, instance, **labels)] = values

    def each(name: str, label: str, label_values: Iterable[str], values: str) -> None:
        for value in label_values:
            put(name, values, **{label: value})

    for name, values in _SINGLE.items():
        put(name, values)
    each("watchtower_phase", "phase", PHASES, NEVER)
    put("watchtower_phase", ALWAYS, phase="watching")
    for name, label, label_values, values in _FAMILIES:
        each(name, label, label_values, values)
    for name, bound, labels in _HISTOGRAMS:
        put(f"{name}_bucket", BUSY, **labels, le=bound)
        put(f"{name}_bucket", BUSY, **labels, le="+Inf")
    for outcome, values in (("ok", BUSY), ("timeout", NEVER)):
        put("watchtower_node_rpc_requests_total", values, method="getblockchaininfo", outcome=outcome)
    for code, values in (("200", BUSY), ("503", NEVER)):
        put("watchtower_http_requests_total", values, method="POST", route="/v1/channels/{id}/states", code=code)
    put("watchtower_event_store_errors_total", NEVER, operation="insert_events", kind="operational")
    put("watchtower_event_store_errors_total", "0+2x150", operation="insert_events", kind="integrity")
    put("watchtower_notifications_total", NEVER, transport="webhook", outcome="failed")
    put("watchtower_node_estimated_feerate_sats_per_vbyte", "5x150", target_blocks="6")
    return made


_SINGLE = {
    "up": ALWAYS,
    "process_start_time_seconds": NEVER,
    "watchtower_node_up": ALWAYS,
    "watchtower_node_blocks": "800000x150",
    "watchtower_node_headers": "800000x150",
    "watchtower_chain_processed_height": "800000x150",
    "watchtower_node_pruned_height": NEVER,
    "watchtower_node_initial_block_download": NEVER,
    "watchtower_node_tip_timestamp_seconds": RENEWED,
    "watchtower_second_node_up": ALWAYS,
    "watchtower_canary_last_success_timestamp_seconds": RENEWED,
    "watchtower_audit_last_run_timestamp_seconds": RENEWED,
    "watchtower_last_state_update_timestamp_seconds": RENEWED,
    "watchtower_backup_last_success_timestamp_seconds": RENEWED,
    "watchtower_backup_failures_total": NEVER,
    "watchtower_chain_reorg_depth_blocks_count": "0+0.01x150",
    "watchtower_watched_outpoints": "12x150",
    "watchtower_storage_available_bytes": "50x150",
    "watchtower_storage_size_bytes": "100x150",
    "watchtower_event_store_notification_id": BUSY,
}

_FAMILIES: tuple[tuple[str, str, Iterable[str], str], ...] = (
    ("watchtower_not_ready", "reason", BLOCKING_REASONS + OTHER_REASONS, NEVER),
    ("watchtower_readiness_changes_total", "reason", ("tip_stale", "zmq_silent"), NEVER),
    ("watchtower_task_up", "task", catalog.TASKS, ALWAYS),
    ("watchtower_task_last_progress_timestamp_seconds", "task", catalog.TASKS, RENEWED),
    ("watchtower_task_restarts_total", "task", catalog.RESTARTED_TASKS, NEVER),
    ("watchtower_canary_failures_total", "stage", catalog.CANARY_STAGES, NEVER),
    ("watchtower_node_peers", "direction", ("inbound", "outbound"), "10x150"),
    ("watchtower_zmq_missed_messages_total", "topic", catalog.ZMQ_TOPICS, NEVER),
    ("watchtower_zmq_last_message_timestamp_seconds", "topic", catalog.ZMQ_TOPICS, RENEWED),
    ("watchtower_chain_reorg_depth_blocks_bucket", "le", ("3.0",), "0+0.01x150"),
    ("watchtower_channels", "status", ("active",), "10x150"),
    ("watchtower_channels", "status", ("proposed", "punished"), "100x150"),
    ("watchtower_incident_last_timestamp_seconds", "kind", catalog.INCIDENTS, DAY_OLD),
    ("watchtower_breaches_open", "stage", ("detected", "deferred", "broadcast", "blocked"), NEVER),
    ("watchtower_breaches_open", "stage", ("confirming",), "2x150"),
    ("watchtower_penalty_broadcasts_total", "outcome", ("accepted", "insufficient_fee"), "0+1x150"),
    ("watchtower_penalty_broadcasts_total", "outcome", ("rejected", "missing_inputs"), NEVER),
    ("watchtower_projection_position", "projection", catalog.PROJECTIONS, BUSY),
    ("watchtower_projection_errors_total", "projection", catalog.PROJECTIONS, NEVER),
    ("watchtower_state_updates_total", "outcome", ("accepted", "duplicate"), BUSY),
    ("watchtower_state_updates_total", "outcome", ("invalid_signature",), NEVER),
)

_HISTOGRAMS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("watchtower_event_loop_lag_seconds", "0.05", {}),
    ("watchtower_event_store_operation_seconds", "0.05", {"operation": "insert_events"}),
    ("watchtower_http_request_duration_seconds", "0.05", {"route": "/v1/channels/{id}/states"}),
)


def standing_by(instance: str) -> dict[str, str]:
    """The gauges of a tower that follows another one: what each is at the start, and the little that a standby sets."""
    metrics = Metrics(build=("0", "0", "mainnet", "postgresql"), start=-9_500.0)
    made = {
        series(sample.name, instance, **sample.labels): f"{sample.value:.0f}x150"
        for family in metrics.registry.collect()
        if family.type == "gauge" and family.name.startswith(PREFIX) and family.name != f"{PREFIX}build_info"
        for sample in family.samples
    }
    positions = {name: BUSY for name in made if f"{PREFIX}projection_position" in name}
    return {
        **made,
        **positions,
        series("up", instance): ALWAYS,
        series("watchtower_not_ready", instance, reason="standby"): ALWAYS,
        series("watchtower_event_store_notification_id", instance): BUSY,
    }


ABSENT = (
    "watchtower_breach_min_remaining_blocks",
    "watchtower_breach_oldest_unanswered_timestamp_seconds",
    "watchtower_penalty_max_fee_ratio",
    "watchtower_penalty_min_feerate_sats_per_vbyte",
)
"""Gauges that rules read and that a healthy tower does not have."""
