"""The catalog of metrics: names, types, labels with all their values, bounds. The one source for registry and tests.

Only metrics that something sets exist: one that is always 0 would hide a missing feature. A label value is never an
identifier, an address or a text from outside. Names, label values and bounds are read by alerts and dashboards.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from watchtower.ports import ALLOWED_METHODS

Kind = Literal["gauge", "counter", "histogram", "optional"]
"""`optional` is a gauge without a series while it has no value: 0 would page."""

OPEN = ("*",)
"""Marks a label whose values are given at start: static facts, route templates."""

PHASES = ("starting", "catching_up", "watching", "degraded", "draining")
BLOCKING_REASONS = (
    "node_unreachable",
    "node_warming_up",
    "node_syncing",
    "node_behind",
    "wrong_chain",
    "cursor_unknown",
    "block_unavailable",
    "block_unparseable",
)
"""While one of these holds, a breach could be missed: the tower does not claim to watch."""

OTHER_REASONS = (
    "tip_stale",
    "second_source_ahead",
    "zmq_silent",
    "audit_mismatch",
    "store_read_only",
    "store_unreachable",
    "standby",
    "disk_low",
    "log_damaged",
    "behind_receipts",
    "task_stalled",
)
TASKS = ("pass", "writer", "reporter", "heads", "node", "canary", "backup", "notifier", "zmq", "api", "admin")
"""What runs beside each other. Following, answering, the audit of outputs and the projections are all in `pass`."""

RESTARTED_TASKS = ("heads", "node", "canary", "backup", "notifier")
"""Tasks that go on after an error of their own; the end of any other ends the process."""

QUEUES = ("chain_writes", "http_writes", "notifications")
FEE_TARGETS = ("1", "2", "3", "6")
CANARY_STAGES = ("index", "classify", "build", "node")
CHANNEL_STATES = (
    "proposed",
    "funding_broadcast",
    "active",
    "frozen",
    "coop_closing",
    "unilateral",
    "settled",
    "punished",
    "lost",
    "double_spent",
    "unknown_spend",
    "resolved",
)
RPC_METHODS = (*ALLOWED_METHODS, "other")
ZMQ_TOPICS = ("sequence", "rawtx", "hashblock")
STORE_OPERATIONS = ("insert_events", "select_events", "select_notifications")
SOURCES = ("mempool", "block", "catch_up")
HTTP_CODES = (
    "200 201 202 204 400 401 403 404 405 409 413 415 422 429 500 503 507 other".split()  # noqa: SIM905 - one line reads better
)

PROJECTIONS = ("channels", "preimages", "chain_tip", "landmarks", "moments", "log_standing", "milestones")
INCIDENTS = (
    "funds_lost",
    "unarmed_breach",
    "self_breach",
    "future_state",
    "unknown_spend",
    "equivocation",
    "uneconomical_to_punish",
    "output_claimed_by_counterparty",
    "secret_inconsistent",
    "settlement_unavailable",
    "unarmed_claim",
    "penalty_refused",
    "penalty_skipped",
    "ladder_too_short",
)
"""The kinds of alerts that a channel can raise; all but `unknown`."""

REJECTIONS = (
    "rate_limit",
    "body_too_large",
    "overload",
    "bad_auth",
    "forbidden",
    "replay",
    "clock_skew",
    "timeout",
)

_HTTP = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_RPC = (*_HTTP, 10, 30)
_BLOCK = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ANSWER = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_LAG = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 5)
_STORE = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_BLOCKS = (0, 1, 2, 3, 6, 12, 24, 48, 72, 144)


class Metric(msgspec.Struct, frozen=True):
    """One row: the name without prefix, its type, label -> all values, meaning, bounds of a histogram."""

    name: str
    kind: Kind
    help: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    bounds: tuple[float, ...] = ()


def _row(name: str, kind: Kind, help_: str, bounds: tuple[float, ...] = (), /, **labels: tuple[str, ...]) -> Metric:
    return Metric(name, kind, help_, tuple(labels.items()), bounds)


CATALOG: tuple[Metric, ...] = (
    _row(
        "build_info",
        "gauge",
        "Always 1; static facts about the running build.",
        version=OPEN,
        revision=OPEN,
        network=OPEN,
        event_store=OPEN,
    ),
    _row("phase", "gauge", "1 for the current phase, 0 for the others.", phase=PHASES),
    _row("not_ready", "gauge", "1 while the reason holds.", reason=BLOCKING_REASONS + OTHER_REASONS),
    _row(
        "readiness_changes_total",
        "counter",
        "How often the reason began to hold.",
        reason=BLOCKING_REASONS + OTHER_REASONS,
    ),
    _row("task_up", "optional", "1 while the task runs; absent where there is no such task.", task=TASKS),
    _row(
        "task_last_progress_timestamp_seconds",
        "optional",
        "Unix time the task last finished a unit of work or an idle heartbeat.",
        task=TASKS,
    ),
    _row("task_restarts_total", "counter", "Errors after which the task went on.", task=RESTARTED_TASKS),
    _row("event_loop_lag_seconds", "histogram", "Scheduling delay of a timer of one second.", _LAG),
    _row("queue_depth", "gauge", "Items waiting.", queue=QUEUES),
    _row("log_messages_total", "counter", "Log records.", level=("warning", "error", "critical")),
    _row("node_up", "gauge", "1 if the last getblockchaininfo poll succeeded."),
    _row("node_blocks", "optional", "Height of the node's active chain tip."),
    _row("node_headers", "optional", "Best known header height of the node."),
    _row("node_initial_block_download", "gauge", "1 while the node reports initialblockdownload."),
    _row("node_peers", "optional", "P2P connections of the node.", direction=("inbound", "outbound")),
    _row("node_tip_timestamp_seconds", "optional", "Header time of the node's tip block."),
    _row("node_pruned_height", "gauge", "Lowest height whose block data is still stored; 0 when not pruned."),
    _row("node_mempool_min_feerate_sats_per_vbyte", "optional", "Least feerate that the node's mempool takes."),
    _row(
        "node_estimated_feerate_sats_per_vbyte",
        "optional",
        "The node's estimate for a confirmation within so many blocks; absent without one.",
        target_blocks=FEE_TARGETS,
    ),
    _row(
        "node_rpc_requests_total",
        "counter",
        "JSON-RPC calls.",
        method=RPC_METHODS,
        outcome=("ok", "rpc_error", "transport_error", "timeout", "auth_error"),
    ),
    _row("node_rpc_duration_seconds", "histogram", "Latency of a call.", _RPC, method=RPC_METHODS),
    _row(
        "zmq_connected",
        "optional",
        "1 while the socket monitor reports a connection; absent for a topic without an address.",
        endpoint=ZMQ_TOPICS,
    ),
    _row("zmq_messages_total", "counter", "Notifications received.", topic=ZMQ_TOPICS),
    _row(
        "zmq_missed_messages_total", "counter", "Notifications proved missing by the sequence number.", topic=ZMQ_TOPICS
    ),
    _row("zmq_last_message_timestamp_seconds", "gauge", "Unix time of the last notification.", topic=ZMQ_TOPICS),
    _row(
        "zmq_resyncs_total",
        "counter",
        "Full reconciliations over RPC.",
        reason=("sequence_gap", "node_restart", "reconnect", "poll_divergence"),
    ),
    _row("chain_processed_height", "optional", "Highest block height durably processed by the tower."),
    _row(
        "chain_last_block_processed_timestamp_seconds",
        "gauge",
        "Unix time the last block was durably processed.",
    ),
    _row("chain_blocks_processed_total", "counter", "Blocks processed.", source=("zmq", "poll", "catch_up")),
    _row(
        "chain_block_processing_seconds",
        "histogram",
        "Start of the fetch to durable commit of the block's events.",
        _BLOCK,
    ),
    _row(
        "chain_transactions_scanned_total",
        "counter",
        "Transactions compared with the watch index; a new one is announced before its block and counts in both.",
        source=("mempool", "block"),
    ),
    _row("chain_reorgs_total", "counter", "Reorganizations observed."),
    _row("chain_reorg_depth_blocks", "histogram", "Blocks disconnected per reorganization.", (1, 2, 3, 6, 12, 100)),
    _row("second_node_up", "optional", "1 if the second node answered when it was last asked."),
    _row("audit_runs_total", "counter", "Complete comparisons of all funding outputs with the node."),
    _row("audit_mismatches", "gauge", "Channels whose funding output is not what the log says."),
    _row("audit_last_run_timestamp_seconds", "optional", "Unix time of the last complete comparison."),
    _row("canary_last_success_timestamp_seconds", "gauge", "Unix time the canary last passed."),
    _row("canary_failures_total", "counter", "Failures of the canary.", stage=CANARY_STAGES),
    _row("channels", "gauge", "Channels by protocol state.", status=CHANNEL_STATES),
    _row("watched_outpoints", "gauge", "Watched outpoints in memory, each once per channel that watches it."),
    _row(
        "revoked_states_covered",
        "gauge",
        "Revoked states for which a penalty can be built now, over all watched channels.",
    ),
    _row("protected_sats", "gauge", "Capacities of channels that are active, frozen, coop_closing or unilateral."),
    _row(
        "clients",
        "gauge",
        "Keys of parties: with a channel that is not resolved, or on the list of those that may register without one.",
        status=("active", "allowed"),
    ),
    _row("receipts_signed_total", "counter", "Receipts signed, those of repeated uploads included."),
    _row(
        "state_updates_total",
        "counter",
        "Submissions of states.",
        outcome=(
            "accepted",
            "duplicate",
            "sequence_gap",
            "equivocation",
            "invalid_signature",
            "invalid_secret",
            "invalid_state",
            "unknown_channel",
            "error",
        ),
    ),
    _row("last_state_update_timestamp_seconds", "optional", "Unix time of the last accepted state update."),
    _row(
        "incident_last_timestamp_seconds",
        "optional",
        "Unix time at which the latest incident was recorded; absent while there was none.",
        kind=INCIDENTS,
    ),
    _row(
        "funding_spends_total",
        "counter",
        "Spends of a watched funding outpoint.",
        kind=("coop", "own_close", "self_breach", "breach", "peer_close", "future_state", "unknown_spend"),
    ),
    _row("breaches_detected_total", "counter", "Commitments of revoked states seen.", source=SOURCES),
    _row(
        "breaches_open",
        "gauge",
        "Breaches that are not final.",
        stage=("detected", "deferred", "broadcast", "confirming", "blocked"),
    ),
    _row(
        "breaches_resolved_total",
        "counter",
        "Final outcomes of channels with a breach.",
        result=("penalty_confirmed", "honest_close", "counterparty_won", "reorged_out"),
    ),
    _row(
        "breach_detection_delay_seconds",
        "histogram",
        "Receipt of the commitment from the node to the durable breach event.",
        _ANSWER,
        source=SOURCES,
    ),
    _row(
        "breach_response_seconds",
        "histogram",
        "Durable breach event to first acceptance of the penalty by a node.",
        _ANSWER,
    ),
    _row(
        "breach_resolution_blocks",
        "histogram",
        "Blocks between the confirmations of commitment and penalty, counted when the penalty is 6 deep.",
        _BLOCKS,
    ),
    _row(
        "breach_oldest_unanswered_timestamp_seconds",
        "optional",
        "Unix time at which the answer clock of the oldest breach without an accepted penalty began.",
    ),
    _row("breach_min_remaining_blocks", "optional", "Smallest deadline minus tip over open, confirmed breaches."),
    _row("breach_at_risk_sats", "gauge", "Contest value of breaches that are not final."),
    _row(
        "penalty_broadcasts_total",
        "counter",
        "Attempts by the interpreted answer.",
        outcome=(
            "accepted",
            "already_known",
            "insufficient_fee",
            "parent_missing",
            "missing_inputs",
            "not_yet_final",
            "rejected",
            "rpc_error",
        ),
    ),
    _row("penalty_fee_bumps_total", "counter", "Penalties signed again at a higher fee.", method=("resign", "ladder")),
    _row(
        "conditional_outputs_total",
        "counter",
        "Conditional outputs taken in a block; missed ones were ours to take.",
        taker=("ours", "theirs", "missed"),
    ),
    _row("preimages_learned_total", "counter", "Preimages that became known.", source=("chain", "upload")),
    _row("penalty_unconfirmed", "gauge", "Penalty transactions broadcast and unconfirmed."),
    _row(
        "penalty_min_feerate_sats_per_vbyte",
        "optional",
        "Lowest feerate among unconfirmed penalties.",
    ),
    _row("penalty_max_fee_ratio", "optional", "Highest fee over contest value among unconfirmed penalties."),
    _row("penalty_fees_paid_sats_total", "counter", "Fees of penalties that are 6 blocks deep."),
    _row("penalty_recovered_sats_total", "counter", "Value swept by penalties that are 6 blocks deep."),
    _row(
        "penalty_lost_sats_total",
        "counter",
        "Contest value taken by a revoked settlement, counted at its first confirmation.",
    ),
    _row("event_store_operation_seconds", "histogram", "Latency of the store.", _STORE, operation=STORE_OPERATIONS),
    _row(
        "event_store_errors_total",
        "counter",
        "Operations that failed.",
        operation=STORE_OPERATIONS,
        kind=("integrity", "operational", "interface", "other"),
    ),
    _row(
        "event_store_events_total",
        "counter",
        "Events committed, by what they are about.",
        aggregate=("channel", "chain", "log"),
    ),
    _row("event_store_notification_id", "gauge", "Highest committed notification id."),
    _row("projection_position", "gauge", "Notification id up to which a projection is.", projection=PROJECTIONS),
    _row(
        "projection_errors_total",
        "counter",
        "Streams that a projection skips since an event could not be applied.",
        projection=PROJECTIONS,
    ),
    _row(
        "backup_last_success_timestamp_seconds",
        "optional",
        "Unix time of the last verified backup; of the log's beginning while there is none.",
    ),
    _row("backup_failures_total", "counter", "Backups that could not be made or did not verify."),
    _row("event_store_size_bytes", "gauge", "Database size including WAL."),
    _row("storage_available_bytes", "gauge", "Free bytes on the data directory's filesystem."),
    _row("storage_size_bytes", "gauge", "Size of the data directory's filesystem."),
    _row(
        "http_requests_total",
        "counter",
        "Requests; the route is the template.",
        method=("GET", "POST", "other"),
        route=OPEN,
        code=tuple(HTTP_CODES),
    ),
    _row("http_request_duration_seconds", "histogram", "Latency.", _HTTP, route=OPEN),
    _row("http_requests_in_flight", "gauge", "Requests being served, event streams not counted."),
    _row("http_rejected_total", "counter", "Requests refused before a handler ran.", reason=REJECTIONS),
    _row("event_streams", "gauge", "Open event streams."),
    _row(
        "notifications_total",
        "counter",
        "Messages of the tower itself to people.",
        transport=("webhook", "ntfy", "email"),
        outcome=("sent", "failed", "dropped"),
    ),
)
