"""For every alert what makes it fire, and what must not: changes to the healthy tower of rules_baseline.py."""

from __future__ import annotations

import msgspec

from tests.support.rules import MAINNET, RECORDINGS, REGTEST, Network
from tests.support.rules_baseline import ALWAYS, INSTANCE, NEVER, healthy, series, standing_by
from tests.support.rules_groups import alerts
from tests.support.rules_promql import read_by

FIRING = 'count by (alertname) (ALERTS{alertstate="firing"})'
"""What the tests ask: exactly these alerts fire, each once."""

SOON, LATER, LATE = 24, 40, 74
"""Minutes after which a test looks; later for alerts that last half an hour, late for a whole one."""

OTHER = "standby:9816"
NOW = "1300x150"
"""A moment ago, seen after `SOON`."""

JUMP = "0x30 1x120"
"""A counter that counts one event some minutes before a test looks."""


class Case(msgspec.Struct, frozen=True):
    """`changes` (series -> values) to a healthy tower after which exactly `fires` and the dead man's switch fire."""

    name: str
    fires: tuple[str, ...]
    changes: dict[str, str]
    minutes: int = SOON
    whole: bool = False

    def series(self) -> dict[str, str]:
        """What the test feeds: all of the healthy tower if `whole`, else what the changed alerts read."""
        changed = {_metric(name) for name in self.changes} | {"up"}
        read = changed.union(*(names for names in _READ.values() if names & changed - {"up"}))
        kept = {name: values for name, values in healthy().items() if self.whole or _metric(name) in read}
        return {**kept, **self.changes}


_RECORDED = {row.name: row.expression for row in RECORDINGS}
_READ = {alert.name: read_by(alert.expression, _RECORDED) for alert in alerts()}


def _metric(name: str) -> str:
    return name.partition("{")[0]


def suites() -> dict[str, tuple[Case, ...]]:
    """File name -> tests; several files so that workers can share them."""
    return {
        "healthy": (Case("a healthy fleet", (), {}, LATE, whole=True), *_quiet()),
        "tower": _tower(),
        "standby": _standby(),
        "node": _node(),
        "breaches": _breaches(),
        "store": _store(),
        "clients": _clients(),
    }


def cases_of(network: Network) -> tuple[Case, ...]:
    """Tests of the rules of another network than mainnet: quiet where nothing is wrong, its own thresholds."""
    aged = _stamp("node_tip", "-9000x150")
    late = _stamp("node_tip", "-20000x150")
    left = series("watchtower_breach_min_remaining_blocks")
    alone = {series("watchtower_node_peers", direction=direction): NEVER for direction in ("inbound", "outbound")}
    own = () if network is REGTEST else ("WatchtowerTipStale",)
    peers = () if network is REGTEST else ("WatchtowerNodeFewPeers", "WatchtowerNodeIsolated")
    return (
        Case("a healthy fleet", (), {}, LATE, whole=True),
        Case("a block that is late on mainnet", (), aged),
        Case("a block that is late here", own, late),
        Case("a node without peers", peers, alone, LATER),
        Case("few blocks left", ("WatchtowerBreachDeadlineAtRisk",), {left: f"{network.blocks_left - 1}x150"}),
        Case("enough blocks left", (), {left: f"{network.blocks_left}x150"}),
    )


def _stamp(name: str, values: str, **labels: str) -> dict[str, str]:
    return {series(f"watchtower_{name}_timestamp_seconds", **labels): values}


def _one(name: str, values: str, **labels: str) -> dict[str, str]:
    return {series(name if name in ("up", "process_start_time_seconds") else f"watchtower_{name}", **labels): values}


def _reason(reason: str, instance: str = INSTANCE, values: str = ALWAYS) -> dict[str, str]:
    return {series("watchtower_not_ready", instance, reason=reason): values}


def _slow(histogram: str, bound: str, **labels: str) -> dict[str, str]:
    """All observations in the last bucket but one; none in the low one."""
    name = f"watchtower_{histogram}_bucket"
    low, high = series(name, **labels, le="0.05"), series(name, **labels, le=bound)
    return {low: NEVER, high: "0+300x150"}


def _alert(name: str, changes: dict[str, str], *also: str, minutes: int = SOON) -> Case:
    return Case(f"Watchtower{name}", (f"Watchtower{name}", *(f"Watchtower{each}" for each in also)), changes, minutes)


def _quiet() -> tuple[Case, ...]:
    """Negatives that matter: what looks like trouble and is none."""
    started = series("watchtower_phase", phase="watching")
    return (
        Case(
            "no requests at all",
            (),
            {name: NEVER for name in healthy() if "http_request" in name or "state_updates" in name},
            LATE,
            whole=True,
        ),
        Case("an old incident", (), _stamp("incident_last", "-90000x150", kind="funds_lost")),
        Case("penalties that wait for depth", (), _one("breaches_open", "50x150", stage="confirming")),
        Case("a refused first bid", (), _one("penalty_broadcasts_total", "0x40 5x110", outcome="insufficient_fee")),
        Case(
            "conflicts that were tried again",
            (),
            _one("event_store_errors_total", "0+9x150", operation="insert_events", kind="integrity"),
        ),
        Case("a short look away", (), {started: "1x25 0x125"}),
        Case(
            "a node that is not pruned",
            (),
            {
                series(f"watchtower_{name}"): "100x150"
                for name in ("chain_processed_height", "node_blocks", "node_headers")
            },
        ),
        Case("a node that syncs for a moment", (), _reason("node_syncing", values="0x32 1x118")),
    )


def _tower() -> tuple[Case, ...]:
    watching = series("watchtower_phase", phase="watching")
    return (
        _alert("Down", _one("up", NEVER)),
        Case("a tower that is not scraped at all", ("WatchtowerDown",), {series("up"): "_x150"}),
        _alert("RestartLoop", _one("process_start_time_seconds", "0+60x150")),
        _alert("NotWatching", {watching: NEVER}),
        _alert("NotReadyCritical", _reason("behind_receipts")),
        _alert("NotReady", _reason("node_behind")),
        _alert("ReadinessFlapping", _one("readiness_changes_total", "0+1x150", reason="tip_stale"), minutes=LATE),
        _alert("TaskDown", _one("task_up", NEVER, task="pass")),
        _alert("TaskStalled", _stamp("task_last_progress", NEVER, task="writer")),
        _alert("TaskRestarting", _one("task_restarts_total", "0+1x150", task="notifier")),
        _alert("CanaryFailing", _one("canary_failures_total", JUMP, stage="classify")),
        Case("a canary whose node is away", (), _one("canary_failures_total", "0+1x150", stage="node")),
        _alert("CanaryStale", _stamp("canary_last_success", "-9500x150")),
        _alert("AuditStale", _stamp("audit_last_run", "-30000x150")),
        _alert("EventLoopLag", _slow("event_loop_lag_seconds", "5.0")),
    )


def _standby() -> tuple[Case, ...]:
    known = frozenset[str]().union(*_READ.values())
    waiting = {name: values for name, values in standing_by(OTHER).items() if _metric(name) in known}
    lead = {series("watchtower_phase", phase="watching"): NEVER}
    return (
        Case("a standby beside the tower that leads", (), waiting, whole=True),
        Case(
            "a standby whose leader is gone",
            ("WatchtowerDown", "WatchtowerNobodyLeads"),
            {**waiting, series("up"): NEVER, **{name: "_x150" for name in healthy() if "not_ready" in name}},
        ),
        _alert("NobodyLeads", {**waiting, **_reason("standby"), **lead}),
        _alert("StandbyUnfit", {**waiting, **_reason("node_unreachable", OTHER)}),
        _alert("TookOver", _reason("standby", values="1x30 0x120")),
        Case("a standby that took over long ago", (), _reason("standby", values="1x10 0x140")),
        _alert("StoreUnreachable", _reason("store_unreachable")),
        Case(
            "a server that is away from a standby",
            ("WatchtowerStandbyUnfit",),
            {**waiting, **_reason("store_unreachable", OTHER)},
        ),
    )


def _node() -> tuple[Case, ...]:
    blocks, headers = series("watchtower_node_blocks"), series("watchtower_node_headers")
    peers = {series("watchtower_node_peers", direction=direction): NEVER for direction in ("inbound", "outbound")}
    return (
        _alert("NodeUnreachable", _one("node_up", NEVER)),
        Case("a node that answers only some questions", ("WatchtowerNodeUnreachable",), _reason("node_unreachable")),
        _alert("NodeNotSynced", {blocks: "800000x150", headers: "800010x150"}),
        Case("a node in its first download", ("WatchtowerNodeNotSynced",), _one("node_initial_block_download", ALWAYS)),
        _alert("NodeIsolated", peers, "NodeFewPeers", minutes=LATER),
        _alert("NodeFewPeers", _one("node_peers", "3x150", direction="outbound"), minutes=LATER),
        _alert("TipStale", _stamp("node_tip", "-9000x150")),
        _alert("NodePruneRisk", _one("node_pruned_height", "799800x150")),
        _alert("SecondNodeDown", _one("second_node_up", NEVER), minutes=LATER),
        _alert(
            "RpcErrors",
            _one("node_rpc_requests_total", "0+30x150", method="getblockchaininfo", outcome="timeout"),
        ),
        _alert("ChainLag", _one("chain_processed_height", "799990x150")),
        _alert("ZmqGap", _one("zmq_missed_messages_total", "0x30 3x120", topic="rawtx")),
        _alert(
            "ZmqSilent",
            {
                series("watchtower_zmq_last_message_timestamp_seconds", topic=topic): NEVER
                for topic in ("sequence", "rawtx", "hashblock")
            },
        ),
        _alert("ZmqDegraded", _reason("zmq_silent")),
        _alert(
            "DeepReorg",
            _one("chain_reorg_depth_blocks_count", JUMP) | _one("chain_reorg_depth_blocks_bucket", NEVER, le="3.0"),
        ),
        _alert("WatchIndexIncomplete", _one("watched_outpoints", "9x150")),
    )


def _breaches() -> tuple[Case, ...]:
    def incident(kind: str) -> dict[str, str]:
        return _stamp("incident_last", NOW, kind=kind)

    def bids(outcome: str) -> dict[str, str]:
        return _one("penalty_broadcasts_total", JUMP, outcome=outcome)

    return (
        *(
            Case(f"WatchtowerUnexpectedSpend: {kind}", ("WatchtowerUnexpectedSpend",), incident(kind))
            for kind in ("unarmed_breach", "self_breach", "future_state", "unknown_spend")
        ),
        _alert("BreachOpen", _one("breaches_open", ALWAYS, stage="detected")),
        _alert("BreachUnanswered", _stamp("breach_oldest_unanswered", NOW)),
        _alert("BreachDeadlineAtRisk", _one("breach_min_remaining_blocks", "35x150")),
        Case("a deadline that is far", (), _one("breach_min_remaining_blocks", "36x150")),
        _alert("PenaltyRejected", bids("rejected")),
        Case("a contest output that is gone", ("WatchtowerPenaltyRejected",), bids("missing_inputs")),
        _alert("AnswerHindered", incident("penalty_skipped")),
        _alert("PenaltyUnderpriced", _one("penalty_min_feerate_sats_per_vbyte", "3x150"), minutes=LATER),
        _alert("FundsLost", incident("funds_lost")),
        _alert("OutputMissed", incident("output_claimed_by_counterparty")),
        _alert("Equivocation", incident("equivocation")),
        _alert("PartyMustAct", incident("settlement_unavailable")),
        _alert("PenaltyFeeHigh", _one("penalty_max_fee_ratio", "0.3x150")),
    )


def _store() -> tuple[Case, ...]:
    free = series("watchtower_storage_available_bytes")
    errors = _one("event_store_errors_total", JUMP, operation="insert_events", kind="operational")
    return (
        _alert("EventStoreErrors", errors),
        _alert("EventStoreSlow", _slow("event_store_operation_seconds", "2.5", operation="insert_events")),
        _alert("ProjectionLag", _one("projection_position", "0+290x150", projection="channels")),
        _alert("ProjectionErrors", _one("projection_errors_total", JUMP, projection="channels")),
        _alert("StorageLow", {free: "8x150"}),
        _alert("StorageCritical", {free: "4x150"}, "StorageLow"),
        _alert("StorageFillingUp", {free: "50-0.2x150"}, minutes=LATE),
        _alert("BackupStale", _stamp("backup_last_success", "-93000x150")),
        _alert("BackupFailing", _one("backup_failures_total", JUMP)),
    )


def _clients() -> tuple[Case, ...]:
    route = "/v1/channels/{id}/states"

    def errors(per_step: int) -> dict[str, str]:
        return _one("http_requests_total", f"0+{per_step}x150", method="POST", route=route, code="503")

    return (
        _alert("ApiErrorBudgetFastBurn", errors(60), "ApiErrorBudgetSlowBurn", minutes=LATE),
        _alert("ApiErrorBudgetSlowBurn", errors(15), minutes=LATE),
        _alert("ApiSlow", _slow("http_request_duration_seconds", "5.0", route=route)),
        Case("a stream that lasts", (), _slow("http_request_duration_seconds", "5.0", route="/v1/events")),
        _alert("ClientsSilent", _stamp("last_state_update", "-21000x150")),
        Case(
            "silence without channels",
            (),
            _stamp("last_state_update", "-21000x150") | _one("channels", NEVER, status="active"),
        ),
        _alert("StateRejections", _one("state_updates_total", "0+300x150", outcome="invalid_signature")),
        _alert("NotificationsFailing", _one("notifications_total", JUMP, transport="webhook", outcome="failed")),
        Case("WatchtowerDeadMansSwitch", (), {}),
    )


__all__ = ["FIRING", "INSTANCE", "MAINNET", "Case", "cases_of", "suites"]
