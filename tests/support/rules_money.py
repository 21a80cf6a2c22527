"""Alerts about breaches, what is stored, and those who ask: is money at risk, will it be?"""

from __future__ import annotations

from tests.support.rules import Alert, Network

SPENDS = ("unarmed_breach", "self_breach", "future_state", "unknown_spend")
"""Incidents in which a funding output was spent and the tower cannot answer by itself."""

HINDERED = ("penalty_refused", "penalty_skipped", "ladder_too_short", "unarmed_claim")
"""Incidents in which an answer is under way that may not be enough."""

FOR_THE_PARTY = ("settlement_unavailable", "secret_inconsistent", "uneconomical_to_punish")
"""Incidents after which the owner of the channel has something to do; no deadline is near."""

STREAMS = r"/v1/events|/v1/channels/\\{id\\}/events"
"""Routes whose requests last as long as somebody listens."""


def _recent(kinds: tuple[str, ...], seconds: int) -> str:
    """The time of recording is durable: also what was found while catching up after a downtime alarms."""
    names = "|".join(kinds)
    selector = f'watchtower_incident_last_timestamp_seconds{{kind=~"{names}"}}'
    return f"time() - max by (job, instance, kind) ({selector}) < {seconds}"


def breach_alerts(network: Network) -> tuple[Alert, ...]:
    """Alerts about breaches and money; only the number of blocks left depends on the network."""
    at_risk = Alert(
        "WatchtowerBreachDeadlineAtRisk",
        "page",
        "",
        f"watchtower_breach_min_remaining_blocks < {network.blocks_left}",
        "Only {{ $value }} blocks left",
        "Until the deadline the penalty has no competitor; behind it the revoked settlement is valid.",
    )
    return (*_BREACHES, at_risk, *_MONEY)


_BREACHES = (
    Alert(
        "WatchtowerUnexpectedSpend",
        "page",
        "",
        _recent(SPENDS, 3600),
        "A funding outpoint was spent: {{ $labels.kind }}",
        "The tower cannot answer this one by itself.",
    ),
    Alert(
        "WatchtowerBreachOpen",
        "page",
        "",
        'sum by (job, instance) (watchtower_breaches_open{stage!="confirming"}) > 0',
        "{{ $value }} breach(es) in progress",
        "Somebody published a revoked state. The tower answers by itself; see that it does.",
    ),
    Alert(
        "WatchtowerBreachUnanswered",
        "page",
        "",
        "time() - watchtower_breach_oldest_unanswered_timestamp_seconds > 60",
        "A breach has no accepted penalty for {{ $value | humanizeDuration }}",
    ),
)

_MONEY = (
    Alert(
        "WatchtowerPenaltyRejected",
        "page",
        "",
        "sum by (job, instance, outcome)"
        ' (increase(watchtower_penalty_broadcasts_total{outcome=~"rejected|missing_inputs"}[15m])) > 0',
        "Penalty broadcast: {{ $labels.outcome }}",
        "The node refuses the penalty by a rule, or somebody else spent the contest output.",
    ),
    Alert(
        "WatchtowerAnswerHindered",
        "page",
        "",
        _recent(HINDERED, 3600),
        "An answer may not be enough: {{ $labels.kind }}",
        "Somebody has to act before the deadline.",
    ),
    Alert(
        "WatchtowerPenaltyUnderpriced",
        "ticket",
        "30m",
        "watchtower_penalty_min_feerate_sats_per_vbyte < on (job, instance) (max by (job, instance)"
        ' (watchtower_node_estimated_feerate_sats_per_vbyte{target_blocks="6"}))',
        "A penalty pays only {{ $value }} sat/vB",
    ),
    Alert(
        "WatchtowerFundsLost",
        "page",
        "",
        _recent(("funds_lost",), 3600),
        "A revoked settlement confirmed: funds were lost",
    ),
    Alert(
        "WatchtowerOutputMissed",
        "page",
        "",
        _recent(("output_claimed_by_counterparty",), 3600),
        "The counterparty took an output that was ours",
    ),
    Alert(
        "WatchtowerEquivocation",
        "ticket",
        "",
        _recent(("equivocation",), 21600),
        "Two different states with one sequence number",
    ),
    Alert(
        "WatchtowerPartyMustAct",
        "ticket",
        "",
        _recent(FOR_THE_PARTY, 21600),
        "The owner of a channel has something to do: {{ $labels.kind }}",
    ),
    Alert(
        "WatchtowerPenaltyFeeHigh",
        "ticket",
        "5m",
        "watchtower_penalty_max_fee_ratio > 0.25",
        "A penalty pays {{ $value | humanizePercentage }} of the contest value",
    ),
)

STORE = (
    Alert(
        "WatchtowerEventStoreErrors",
        "page",
        "",
        'sum by (job, instance, operation) (increase(watchtower_event_store_errors_total{kind!="integrity"}[10m])) > 0',
        "Event store {{ $labels.operation }} is failing",
    ),
    Alert(
        "WatchtowerEventStoreSlow",
        "ticket",
        "10m",
        'job_operation:watchtower_event_store_operation_seconds:p99_5m{operation="insert_events"} > 0.5',
        "Commit p99 is {{ $value | humanizeDuration }}",
    ),
    Alert(
        "WatchtowerProjectionLag",
        "ticket",
        "10m",
        "instance_projection:watchtower_projection_lag:events > 100",
        "{{ $labels.projection }} is {{ $value }} events behind",
    ),
    Alert(
        "WatchtowerProjectionErrors",
        "ticket",
        "",
        "sum by (job, instance, projection) (increase(watchtower_projection_errors_total[15m])) > 0",
        "{{ $labels.projection }} is failing",
        "Channels in quarantine are missing in its answers.",
    ),
    Alert(
        "WatchtowerStorageLow",
        "ticket",
        "15m",
        "instance:watchtower_storage_available:ratio < 0.10",
        "{{ $value | humanizePercentage }} disk left",
    ),
    Alert(
        "WatchtowerStorageCritical",
        "page",
        "5m",
        "instance:watchtower_storage_available:ratio < 0.05",
        "{{ $value | humanizePercentage }} disk left; receipts will stop",
    ),
    Alert(
        "WatchtowerStorageFillingUp",
        "ticket",
        "1h",
        "predict_linear(watchtower_storage_available_bytes[6h], 4 * 86400) < 0",
        "Disk fills within 4 days at this rate",
    ),
    Alert(
        "WatchtowerBackupStale",
        "ticket",
        "",
        "time() - watchtower_backup_last_success_timestamp_seconds > 93600",
        "Last verified backup is {{ $value | humanizeDuration }} old",
    ),
    Alert(
        "WatchtowerBackupFailing",
        "ticket",
        "",
        "increase(watchtower_backup_failures_total[1h]) > 0",
        "A backup could not be made or did not verify",
    ),
)

CLIENTS = (
    Alert(
        "WatchtowerApiErrorBudgetFastBurn",
        "page",
        "2m",
        "job:watchtower_http_errors:ratio_rate5m > 14.4 * 0.005"
        " and job:watchtower_http_errors:ratio_rate1h > 14.4 * 0.005",
        "Error budget burns 14 times too fast",
        "Clients cannot bring their states: what they bring later is protected later.",
    ),
    Alert(
        "WatchtowerApiErrorBudgetSlowBurn",
        "ticket",
        "15m",
        "job:watchtower_http_errors:ratio_rate30m > 6 * 0.005 and job:watchtower_http_errors:ratio_rate6h > 6 * 0.005",
        "Error budget burns 6 times too fast",
    ),
    Alert(
        "WatchtowerApiSlow",
        "ticket",
        "10m",
        f'job_route:watchtower_http_request_duration_seconds:p99_5m{{route!~"{STREAMS}"}} > 1',
        "{{ $labels.route }} p99 is {{ $value | humanizeDuration }}",
    ),
    Alert(
        "WatchtowerStateRejections",
        "ticket",
        "15m",
        "sum by (job, instance)"
        ' (rate(watchtower_state_updates_total{outcome!~"accepted|duplicate"}[15m]))'
        " / sum by (job, instance) (rate(watchtower_state_updates_total[15m])) > 0.2",
        "{{ $value | humanizePercentage }} of state updates are rejected",
    ),
    Alert(
        "WatchtowerNotificationsFailing",
        "ticket",
        "",
        'sum by (job, instance, transport) (increase(watchtower_notifications_total{outcome="failed"}[30m])) > 0',
        "Notifications over {{ $labels.transport }} fail",
    ),
)

HEARTBEAT = (
    Alert(
        "WatchtowerDeadMansSwitch",
        "heartbeat",
        "",
        "vector(1)",
        "Always firing; route it to an external heartbeat monitor",
    ),
)
