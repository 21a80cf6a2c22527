"""The dashboard for the question that follows a red field of the overview: which part, since when, how much."""

from __future__ import annotations

from tests.support.dashboards.board import Row, dashboard
from tests.support.dashboards.panel import GREEN, ORANGE, RED, YELLOW, Document, Panel, q, quantile

COMMIT = "watchtower_event_store_operation_seconds"
INSERT = '{operation="insert_events"}'
LIVE = "funding_broadcast|active|frozen|coop_closing|unilateral"
HALF = (12, 8)

_STORE = (
    Panel(
        title="Commit latency",
        kind="timeseries",
        unit="s",
        description="From the order to store events to their durable commit.",
        queries=tuple(
            q(quantile(share, COMMIT, where=INSERT), name)
            for share, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
        ),
    ),
    Panel(
        title="Events committed",
        kind="timeseries",
        unit="cps",
        description="Events a second by what they are about.",
        queries=(q("sum by (aggregate) (rate(watchtower_event_store_events_total[R]))", "{{aggregate}}"),),
    ),
    Panel(
        title="Event store errors",
        kind="timeseries",
        unit="cps",
        description="Operations a second that failed. Integrity errors are refused duplicates and races.",
        queries=(q("sum by (kind) (rate(watchtower_event_store_errors_total[R]))", "{{kind}}"),),
    ),
    Panel(
        title="Database size",
        kind="timeseries",
        unit="bytes",
        description="The event log with its write-ahead log.",
        queries=(q("watchtower_event_store_size_bytes", "{{instance}}"),),
    ),
    Panel(
        title="Free disk",
        kind="timeseries",
        unit="percentunit",
        description="Free part of the file system that holds the data directory.",
        queries=(q("instance:watchtower_storage_available:ratio", "{{instance}}"),),
    ),
    Panel(
        title="Projection lag",
        kind="timeseries",
        unit="none",
        description="Events that a read model has not seen yet.",
        queries=(q("instance_projection:watchtower_projection_lag:events", "{{projection}}"),),
    ),
    Panel(
        title="Watch index",
        kind="timeseries",
        unit="none",
        description="Outputs that are looked for in every transaction, beside the channels that need it.",
        queries=(
            q("watchtower_watched_outpoints", "outpoints"),
            q(f'sum by (job, instance) (watchtower_channels{{status=~"{LIVE}"}})', "live channels"),
        ),
        size=HALF,
        stepped=True,
    ),
    Panel(
        title="Revoked states covered",
        kind="timeseries",
        unit="short",
        description="Revoked states that the tower could punish now.",
        queries=(q("watchtower_revoked_states_covered", "{{instance}}"),),
        size=HALF,
        stepped=True,
    ),
)

_TRUTH = (
    Panel(
        title="Audit",
        kind="timeseries",
        unit="none",
        description="Channels whose funding output is not what the log says. Anything above zero needs a person.",
        queries=(q("watchtower_audit_mismatches", "mismatches"),),
        colors=((".*", RED),),
    ),
    Panel(
        title="Age of the last proofs",
        kind="timeseries",
        unit="s",
        description="Time since the last complete audit, the last canary that passed, and the last verified backup.",
        queries=(
            q("time() - watchtower_audit_last_run_timestamp_seconds", "audit"),
            q("time() - watchtower_canary_last_success_timestamp_seconds", "canary"),
            q("time() - watchtower_backup_last_success_timestamp_seconds", "backup"),
        ),
    ),
    Panel(
        title="Failed proofs",
        kind="timeseries",
        unit="none",
        description="Canaries by the stage that failed, backups and read models with errors, in the last hour.",
        queries=(
            q("sum by (stage) (increase(watchtower_canary_failures_total[1h]))", "canary {{stage}}"),
            q("sum(increase(watchtower_backup_failures_total[1h]))", "backup"),
            q("sum(increase(watchtower_projection_errors_total[1h]))", "read models"),
        ),
    ),
    Panel(
        title="Second node",
        kind="timeseries",
        unit="none",
        description="1 while the second node answers; no line without a second node.",
        queries=(q("watchtower_second_node_up", "{{instance}}"),),
        stepped=True,
        colors=((".*", GREEN),),
        size=HALF,
    ),
    Panel(
        title="Changes of readiness",
        kind="timeseries",
        unit="none",
        description="How often each reason not to be ready began in the last hour.",
        queries=(q("sum by (reason) (increase(watchtower_readiness_changes_total[1h])) > 0", "{{reason}}"),),
        colors=((".*(unreachable|unavailable|unparseable|wrong_chain|damaged|mismatch|read_only)", RED),),
        size=HALF,
        long_legend=True,
    ),
)

_TASKS = (
    Panel(
        title="Task progress age",
        kind="timeseries",
        unit="s",
        description="Time since each task last finished work or said that it idles.",
        queries=(q("time() - watchtower_task_last_progress_timestamp_seconds", "{{task}}"),),
    ),
    Panel(
        title="Task restarts",
        kind="timeseries",
        unit="none",
        description="Errors of the last hour after which a task went on.",
        queries=(q("sum by (task) (increase(watchtower_task_restarts_total[1h]))", "{{task}}"),),
    ),
    Panel(
        title="Queue depth",
        kind="timeseries",
        unit="none",
        description="Items that wait for the writer or for a messenger.",
        queries=(q("max by (queue) (watchtower_queue_depth)", "{{queue}}"),),
    ),
    Panel(
        title="Event loop lag",
        kind="timeseries",
        unit="s",
        description="How late a timer of one second fires, in the worst hundredth.",
        queries=(q(quantile(0.99, "watchtower_event_loop_lag_seconds"), "p99"),),
    ),
    Panel(
        title="Log messages",
        kind="timeseries",
        unit="cps",
        description="Log lines a second from warning upwards.",
        queries=(q("sum by (level) (rate(watchtower_log_messages_total[R]))", "{{level}}"),),
        colors=(("^warning$", YELLOW), ("^error$", ORANGE), ("^critical$", RED)),
    ),
    Panel(
        title="Notifications",
        kind="timeseries",
        unit="none",
        description="Messages of the last hour that the tower itself sent to people.",
        queries=(
            q(
                "sum by (transport, outcome) (increase(watchtower_notifications_total[1h]))",
                "{{transport}} {{outcome}}",
            ),
        ),
    ),
)

_NODE = (
    Panel(
        title="RPC rate",
        kind="timeseries",
        unit="reqps",
        description="Calls a second by method.",
        queries=(q("sum by (method) (rate(watchtower_node_rpc_requests_total[R])) > 0", "{{method}}"),),
        size=HALF,
        long_legend=True,
    ),
    Panel(
        title="RPC p99",
        kind="timeseries",
        unit="s",
        description="The slowest hundredth of the calls of each method.",
        queries=(q(quantile(0.99, "watchtower_node_rpc_duration_seconds", by="method, le") + " >= 0", "{{method}}"),),
        size=HALF,
        long_legend=True,
    ),
    Panel(
        title="RPC failures",
        kind="timeseries",
        unit="reqps",
        description="Calls a second that were not answered with success. A refused transaction counts as rpc_error.",
        queries=(q('sum by (outcome) (rate(watchtower_node_rpc_requests_total{outcome!="ok"}[R]))', "{{outcome}}"),),
    ),
    Panel(
        title="Peers",
        kind="timeseries",
        unit="none",
        description="The node's connections. A node without peers sees no blocks and looks healthy.",
        queries=(q("watchtower_node_peers", "{{direction}}"),),
        stepped=True,
    ),
    Panel(
        title="Resynchronizations",
        kind="timeseries",
        unit="none",
        description="Complete comparisons with the node in the last hour, by their cause.",
        queries=(q("sum by (reason) (increase(watchtower_zmq_resyncs_total[1h]))", "{{reason}}"),),
    ),
)

_RUNTIME = (
    Panel(
        title="CPU",
        kind="timeseries",
        unit="percentunit",
        description="Share of one core.",
        queries=(q("rate(process_cpu_seconds_total[R])", "{{instance}}"),),
    ),
    Panel(
        title="Memory",
        kind="timeseries",
        unit="bytes",
        description="Resident memory of the tower's process.",
        queries=(q("process_resident_memory_bytes", "{{instance}}"),),
    ),
    Panel(
        title="File descriptors",
        kind="timeseries",
        unit="percentunit",
        description="Open descriptors as a share of what the process may open.",
        queries=(q("process_open_fds / process_max_fds", "{{instance}}"),),
    ),
)


def internals() -> Document:
    """`watchtower-internals`."""
    return dashboard(
        "watchtower-internals",
        "Watchtower: internals",
        "Store, proofs, tasks, node and process of the selected towers.",
        (
            Row("Event store", _STORE),
            Row("Proofs", _TRUTH),
            Row("Tasks", _TASKS),
            Row("bitcoind", _NODE),
            Row("Runtime", _RUNTIME),
        ),
    )
