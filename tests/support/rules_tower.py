"""Alerts about the tower itself and its node: is anybody watching?"""

from __future__ import annotations

from tests.support.rules import JOB, STANDING_BY, Alert, Network

CRITICAL = (
    "wrong_chain",
    "cursor_unknown",
    "block_unavailable",
    "block_unparseable",
    "audit_mismatch",
    "store_read_only",
    "log_damaged",
    "behind_receipts",
)
"""Readiness reasons that do not end by themselves, and under which money may already be unprotected."""

WAITING = ("node_warming_up", "node_syncing", "node_behind", "second_source_ahead", "disk_low")
"""Readiness reasons that are normal for some minutes."""

UNFIT = ("node_unreachable", "node_warming_up", "wrong_chain", "store_unreachable", "disk_low")
"""What a standby says while it could not take over."""


def _holds(reasons: tuple[str, ...]) -> str:
    return f'watchtower_not_ready{{reason=~"{"|".join(reasons)}"}} == 1'


TOWER = (
    Alert(
        "WatchtowerDown",
        "page",
        "2m",
        f'up{{job="{JOB}"}} == 0 or absent(up{{job="{JOB}"}})',
        "Watchtower is not being scraped; no channel is protected while it is down",
        "Prometheus cannot read the tower's metrics: the process, its machine or the way to it is gone.",
    ),
    Alert(
        "WatchtowerRestartLoop",
        "page",
        "",
        f'changes(process_start_time_seconds{{job="{JOB}"}}[30m]) > 3',
        "Restarted {{ $value }} times in 30 minutes",
        "The tower ends itself when it cannot trust itself, and comes back with the same trouble.",
    ),
    Alert(
        "WatchtowerNotWatching",
        "page",
        "15m",
        f'watchtower_phase{{phase="watching"}} == 0 {STANDING_BY}',
        "Not in the watching phase (catching up, degraded or draining)",
        "A breach now would not be seen in time. /readyz says why.",
    ),
    Alert(
        "WatchtowerNotReadyCritical",
        "page",
        "1m",
        f"{_holds(CRITICAL)} {STANDING_BY}",
        "Cannot protect: {{ $labels.reason }}",
        "This reason does not end by itself.",
    ),
    Alert(
        "WatchtowerNotReady",
        "page",
        "10m",
        f"{_holds(WAITING)} {STANDING_BY}",
        "Not ready for 10 minutes: {{ $labels.reason }}",
    ),
    Alert(
        "WatchtowerStoreUnreachable",
        "page",
        "2m",
        f'watchtower_not_ready{{reason="store_unreachable"}} == 1 {STANDING_BY}',
        "The database server of the log is away",
        "Breaches are answered from the local copy; new states are refused, and facts wait in memory.",
    ),
    Alert(
        "WatchtowerNobodyLeads",
        "page",
        "2m",
        'min by (job) (watchtower_not_ready{reason="standby"}) == 1',
        "All towers stand by, none protects",
        "The tower that led is gone or waits too, and none of the others got its place.",
    ),
    Alert(
        "WatchtowerStandbyUnfit",
        "ticket",
        "15m",
        f'{_holds(UNFIT)} and on (job, instance) watchtower_not_ready{{reason="standby"}} == 1',
        "The standby could not take over: {{ $labels.reason }}",
        "The leading tower protects, but nobody would follow it.",
    ),
    Alert(
        "WatchtowerTookOver",
        "ticket",
        "",
        'watchtower_not_ready{reason="standby"} == 0'
        ' and on (job, instance) max_over_time(watchtower_not_ready{reason="standby"}[15m]) == 1',
        "A standby took over",
        "It protects now. Find out why the other one ended, and give this one a standby again.",
    ),
    Alert(
        "WatchtowerReadinessFlapping",
        "ticket",
        "",
        "increase(watchtower_readiness_changes_total[1h]) > 6",
        "The reason {{ $labels.reason }} came and went {{ $value | humanize }} times in an hour",
    ),
    Alert(
        "WatchtowerTaskDown",
        "page",
        "2m",
        f"watchtower_task_up == 0 {STANDING_BY}",
        "Task {{ $labels.task }} is not running",
    ),
    Alert(
        "WatchtowerTaskStalled",
        "page",
        "2m",
        f"time() - watchtower_task_last_progress_timestamp_seconds > 300 {STANDING_BY}",
        "Task {{ $labels.task }} made no progress for {{ $value | humanizeDuration }}",
    ),
    Alert(
        "WatchtowerTaskRestarting",
        "ticket",
        "",
        "increase(watchtower_task_restarts_total[1h]) > 3",
        "Task {{ $labels.task }} failed and was started again {{ $value | humanize }} times in an hour",
    ),
    Alert(
        "WatchtowerCanaryFailing",
        "page",
        "",
        'increase(watchtower_canary_failures_total{stage!="node"}[30m]) > 0',
        "The canary failed at the stage {{ $labels.stage }}",
        "A made-up breach was not found, not recognized, or no penalty could be built: a real one may fare the same.",
    ),
    Alert(
        "WatchtowerEventLoopLag",
        "ticket",
        "10m",
        "histogram_quantile(0.99,"
        " sum by (job, instance, le) (rate(watchtower_event_loop_lag_seconds_bucket[5m]))) > 0.5",
        "Event loop p99 lag is {{ $value | humanizeDuration }}",
        "The machine is overloaded, or something blocks the process.",
    ),
)

NODE = (
    Alert(
        "WatchtowerNodeUnreachable",
        "page",
        "3m",
        # A node that answers one question and fails at another: one poll sets `node_up`, the next pass takes it back.
        "(watchtower_node_up == 0"
        ' or max by (job, instance) (watchtower_not_ready{reason="node_unreachable"}) == 1)'
        f" {STANDING_BY}",
        "bitcoind RPC is unreachable",
        "The tower sees neither blocks nor mempool and cannot send penalties. Blocks go on, deadlines too.",
        lingering="2m",
    ),
    Alert(
        "WatchtowerNodeNotSynced",
        "page",
        "15m",
        "watchtower_node_initial_block_download == 1 or (watchtower_node_headers - watchtower_node_blocks > 3)",
        "bitcoind is behind the header chain",
    ),
    Alert(
        "WatchtowerNodePruneRisk",
        "page",
        "",
        "(watchtower_chain_processed_height - watchtower_node_pruned_height < 288)"
        " and watchtower_node_pruned_height > 0",
        "The node may prune blocks the tower has not processed",
        "Only {{ $value }} blocks are left between what the node keeps and what the tower has read.",
    ),
    Alert(
        "WatchtowerSecondNodeDown",
        "ticket",
        "30m",
        "watchtower_second_node_up == 0",
        "The second node does not answer",
        "Without it a stuck or isolated node is noticed later, and penalties have one way less into the network.",
    ),
    Alert(
        "WatchtowerRpcErrors",
        "ticket",
        "10m",
        "sum by (job, instance)"
        ' (rate(watchtower_node_rpc_requests_total{outcome=~"transport_error|timeout|auth_error"}[10m]))'
        " / sum by (job, instance) (rate(watchtower_node_rpc_requests_total[10m])) > 0.05",
        "{{ $value | humanizePercentage }} of RPC calls fail",
    ),
    Alert(
        "WatchtowerChainLag",
        "page",
        "10m",
        "instance:watchtower_chain_lag:blocks > 2",
        "{{ $value }} blocks behind the node",
    ),
    Alert(
        "WatchtowerZmqGap",
        "ticket",
        "",
        "sum by (job, instance, topic) (increase(watchtower_zmq_missed_messages_total[15m])) > 0",
        "Topic {{ $labels.topic }} lost notifications (resync follows)",
    ),
    Alert(
        "WatchtowerZmqDegraded",
        "ticket",
        "15m",
        'watchtower_not_ready{reason="zmq_silent"} == 1',
        "ZMQ does not deliver; the tower polls",
        "Breaches are found within the poll interval instead of at once. /readyz names the topic.",
    ),
    Alert(
        "WatchtowerDeepReorg",
        "page",
        "",
        "increase(watchtower_chain_reorg_depth_blocks_count[1h])"
        ' - ignoring (le) increase(watchtower_chain_reorg_depth_blocks_bucket{le="3.0"}[1h]) > 0',
        "Reorg deeper than 3 blocks",
        "Confirmations that counted may be undone, penalties among them. The tower follows by itself.",
    ),
    Alert(
        "WatchtowerWatchIndexIncomplete",
        "page",
        "5m",
        "watchtower_watched_outpoints < on (job, instance) (sum by (job, instance)"
        ' (watchtower_channels{status=~"funding_broadcast|active|frozen|coop_closing|unilateral"}))',
        "The watch index holds fewer outpoints than there are live channels",
        "Spends of the channels that are missing would not be seen.",
    ),
)


def of_network(network: Network) -> tuple[Alert, ...]:
    """The alerts whose thresholds depend on the chain; those that make no sense on it are left out."""
    return (*_ages(network), *_peers(network))


def _ages(network: Network) -> tuple[Alert, ...]:
    on_clients = 'and on (job, instance) (sum by (job, instance) (watchtower_channels{status="active"}) > 0)'
    silence = "No accepted state for {{ $value | humanizeDuration }}"
    zmq_age = "time() - max by (job, instance) (watchtower_zmq_last_message_timestamp_seconds)"
    rows = (
        (
            network.canary_stale,
            "WatchtowerCanaryStale",
            "page",
            "2m",  # a standby that takes over sings within a minute; until then its stamp is that of its start
            f"time() - watchtower_canary_last_success_timestamp_seconds > {network.canary_stale} {STANDING_BY}",
            "Canary has not passed for {{ $value | humanizeDuration }}: detection is unproven",
        ),
        (
            network.audit_stale,
            "WatchtowerAuditStale",
            "ticket",
            "",
            f"time() - watchtower_audit_last_run_timestamp_seconds > {network.audit_stale}",
            "Funding outputs were not compared with the node for {{ $value | humanizeDuration }}",
        ),
        (
            network.tip_stale,
            "WatchtowerTipStale",
            "page",
            "",
            f"time() - watchtower_node_tip_timestamp_seconds > {network.tip_stale}",
            "No block for {{ $value | humanizeDuration }}",
        ),
        (
            network.zmq_silent,
            "WatchtowerZmqSilent",
            "ticket",
            "5m",
            f"({zmq_age} > {network.zmq_silent}) and on (job, instance) watchtower_node_up == 1",
            "No ZMQ message for {{ $value | humanizeDuration }} while RPC works",
        ),
        (
            network.clients_silent,
            "WatchtowerClientsSilent",
            "ticket",
            "",
            f"(time() - watchtower_last_state_update_timestamp_seconds > {network.clients_silent}) {on_clients}",
            f"{silence} (dead onion service, firewall, expired certificate?)",
        ),
    )
    return tuple(Alert(*row) for limit, *row in rows if limit is not None)  # type: ignore[arg-type]


def _peers(network: Network) -> tuple[Alert, ...]:
    if not network.has_peers:
        return ()
    return (
        Alert(
            "WatchtowerNodeIsolated",
            "page",
            "5m",
            "sum by (job, instance) (watchtower_node_peers) == 0",
            "bitcoind has no peers; it may look synced",
            "An isolated node reports that it knows all blocks, because it hears of no others.",
        ),
        Alert(
            "WatchtowerNodeFewPeers",
            "ticket",
            "30m",
            f'watchtower_node_peers{{direction="outbound"}} < {network.outbound_peers}',
            "Only {{ $value }} outbound peers",
        ),
    )
