"""The names of log events: an interface that dashboards and alerts read, so it has one table.

Names are snake case and past tense. A domain event is logged under its class name in snake case; those names are
derived. A change needs a line in the changelog.
"""

from __future__ import annotations

import re

from domain.events import EVENT_TYPES

SERVICE_EVENTS: dict[str, tuple[str, ...]] = {
    "service_started": ("version", "network", "api", "admin"),
    "service_stopping": ("reason",),
    "service_stopped": ("seconds",),
    "service_failed": ("reason",),
    "phase_changed": ("phase", "reason"),
    "readiness_changed": ("reason", "holds"),
    "config_loaded": ("path",),
    "config_questioned": ("reason",),
    "config_refused": ("reason",),
    "config_reloaded": ("path", "changed", "needs_restart"),
    "store_locked_out": ("reason",),
    "store_opened": ("notification_id",),
    "task_ended": ("task", "reason"),
    "task_restarted": ("task", "reason"),
    "canary_passed": ("height", "seconds"),
    "canary_failed": ("stage", "reason"),
}

NODE_EVENTS: dict[str, tuple[str, ...]] = {
    "node_reached": ("endpoint", "height"),
    "node_lost": ("endpoint", "reason"),
    "node_wrong_chain": ("endpoint", "reason"),
    "second_node_lost": ("endpoint", "reason"),
    "rpc_failed": ("method", "reason"),
    "zmq_connected": ("endpoint",),
    "zmq_disconnected": ("endpoint",),
    "zmq_gap_detected": ("topic", "missed"),
    "zmq_restart_detected": ("topic",),
    "zmq_topic_missing": ("topic", "reason"),
}

CHAIN_EVENTS: dict[str, tuple[str, ...]] = {
    "reorg_observed": ("height", "depth"),
    "catch_up_progressed": ("height", "target"),
    "pass_failed": ("reason", "retry_seconds"),
    "channel_not_served": ("channel", "reason"),
}

EDGE_EVENTS: dict[str, tuple[str, ...]] = {
    "http_request": ("route", "code", "seconds"),
    "http_rejected": ("route", "reason"),
    "event_stream_ended": ("reason",),
    "notification_failed": ("transport", "reason"),
    "notification_sent": ("transport", "kind", "id", "seconds"),
    "notifications_dropped": ("transport", "count", "reason"),
    "outbox_failed": ("reason",),
    "state_refused": ("channel", "outcome"),
}

STORE_EVENTS: dict[str, tuple[str, ...]] = {
    "backup_failed": ("reason",),
    "backup_verified": ("path", "notification_id", "seconds"),
    "commit_failed": ("reason",),
    "copy_caught_up": ("notification_id",),
    "copy_failed": ("path", "reason"),
    "segment_not_closed": ("reason",),
    "server_silent": ("seconds",),
    "copy_set_aside": ("path", "reason"),
    "gauges_failed": ("reason",),
    "head_task_failed": ("reason",),
    "high_water_failed": ("path", "reason"),
    "high_water_missing": ("path",),
    "leadership_taken": ("term",),
    "mark_failed": ("path", "reason"),
    "reserve_released": ("bytes",),
    "erase_failed": ("reason", "channels"),
    "projection_failed": ("projection", "reason"),
    "projection_rebuilt": ("notification_id", "seconds"),
    "standby_began": ("notification_id",),
    "standby_ended": ("notification_id", "seconds"),
    "views_discarded": ("path",),
}

PARTY_EVENTS: dict[str, tuple[str, ...]] = {
    "admission_failed": ("peer",),
    "application_failed": ("app", "state", "reason"),
    "call_dropped": ("reason",),
    "call_failed": (),
    "funding_not_sent": ("txid", "reason"),
    "link_ended": ("peer", "reason"),
    "link_failed": ("peer", "slug", "reason"),
    "link_work_failed": ("peer", "error"),
    "message_refused": ("peer", "message", "slug"),
    "party_failed": (),
    "party_started": ("address",),
    "peer_gone": ("peer", "reason"),
    "peer_over_allowance": ("peer", "reason"),
    "peer_refused": ("peer", "address"),
    "peer_unreachable": ("peer", "reason"),
    "state_unarmed": ("channel", "seconds", "reason"),
    "tower_behind": ("channel", "reason"),
    "tower_compared": ("channel", "epoch"),
    "tower_not_compared": ("reason",),
    "tower_unreachable": ("reason",),
}
"""Of a party, which lives in an application's process: through the standard library, as `name field=value …`."""

PAYMENT_EVENTS: dict[str, tuple[str, ...]] = {
    "payment_delayed": ("reason",),
    "payment_goes_on_chain": ("channel", "sequence"),
}


def snake_case(class_name: str) -> str:
    """`BreachDetected` -> `breach_detected`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower()


DOMAIN_EVENTS: frozenset[str] = frozenset(snake_case(event.__name__) for event in EVENT_TYPES)

ALL_EVENTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(DOMAIN_EVENTS, ()),
    **SERVICE_EVENTS,
    **NODE_EVENTS,
    **CHAIN_EVENTS,
    **EDGE_EVENTS,
    **STORE_EVENTS,
    **PARTY_EVENTS,
    **PAYMENT_EVENTS,
}
"""Name -> fields that are always present beside the context."""
