"""The names of log events: an interface that dashboards and alerts read, so it has one table.

Names are snake case and past tense. A domain event is logged under its class name in snake case; those names are
derived. docs/logs.md is made from this table. A change needs a line in the changelog.
"""

from __future__ import annotations

import inspect
import re

import msgspec

from domain.events import (
    EVENT_TYPES,
    ChannelResolved,
    ClaimConfirmed,
    Payload,
    ResolvedAs,
    SettleConfirmed,
    SpendConfirmed,
    SpendKind,
    SpendSeen,
)


class LogEvent(msgspec.Struct, frozen=True):
    """One name: its levels (the usual one first), the fields that are always there beside the context, its meaning."""

    levels: tuple[str, ...]
    fields: tuple[str, ...]
    meaning: str


def _event(levels: str, fields: str, meaning: str) -> LogEvent:
    return LogEvent(tuple(levels.split()), tuple(fields.split()), meaning)


SERVICE_EVENTS: dict[str, LogEvent] = {
    "service_started": _event("info", "api admin pid", "The listeners are open."),
    "service_stopping": _event("info", "reason", "A signal asked for the end."),
    "service_stopped": _event("info", "seconds clean", "Everything is closed."),
    "service_failed": _event("critical", "reason", "The process ends with code 1, to be started again."),
    "phase_changed": _event("info", "phase reason", "The tower loads, catches up, watches or drains; why."),
    "readiness_changed": _event("error info", "reason holds", "A reason not to be ready began, or ended (info)."),
    "config_loaded": _event("info", "path", "Which file was read at the start."),
    "config_questioned": _event("warning", "reason", "A setting is valid and yet doubtful, or waits for a restart."),
    "config_refused": _event("error", "reason hint", "After SIGHUP: the configuration is wrong; nothing has changed."),
    "config_reloaded": _event("info", "path changed needs_restart", "After SIGHUP: which keys were taken over."),
    "store_locked_out": _event("critical", "reason", "Another process uses this log; this one ends with code 3."),
    "store_opened": _event("info", "notification_id", "The log is open; the id is that of its last event."),
    "task_ended": _event("critical", "task reason", "A task that must run has ended; the process ends with it."),
    "task_restarted": _event("error", "task reason", "An error that nobody had foreseen did not end the task."),
    "canary_passed": _event("info", "height seconds", "The synthetic breach went through every stage."),
    "canary_failed": _event("error", "stage reason", "The synthetic breach stopped at a stage: a real one might, too."),
    "gauges_failed": _event("error", "reason", "Some metrics could not be computed; the others are shown."),
    "verifier_failed": _event("warning", "reason again", "A process that verifies states failed; the tower does it."),
}

NODE_EVENTS: dict[str, LogEvent] = {
    "node_reached": _event("info", "endpoint height", "The right node answers, at the start or again."),
    "node_lost": _event("error", "endpoint reason", "The node cannot be asked any more."),
    "node_wrong_chain": _event("error", "endpoint reason", "The node follows another chain; it is not believed."),
    "second_node_lost": _event("warning", "endpoint reason", "The second node cannot be asked any more."),
    "rpc_answered": _event("debug", "method outcome seconds", "One call to the node."),
    "rpc_failed": _event("warning", "method reason", "The node's figures could not be asked for."),
    "zmq_connected": _event("info", "endpoint", "Notifications of a topic can arrive."),
    "zmq_disconnected": _event("warning", "endpoint", "They cannot; the timer finds blocks meanwhile."),
    "zmq_gap_detected": _event("warning", "topic missed", "Notifications were lost; the mempool is swept."),
    "zmq_restart_detected": _event("info", "topic", "The node counts its notifications from the beginning again."),
    "zmq_topic_missing": _event("error", "topic reason", "The node does not publish what the tower listens to."),
}

CHAIN_EVENTS: dict[str, LogEvent] = {
    "reorg_observed": _event("warning", "height depth", "The node left a branch; so many blocks were undone."),
    "catch_up_progressed": _event("info", "height target", "The tower is behind the node and comes nearer."),
    "pass_failed": _event("debug", "reason retry_seconds", "A pass ended early; readiness says why."),
    "channel_not_served": _event("error", "channel reason", "One channel could not be answered for yet."),
}

EDGE_EVENTS: dict[str, LogEvent] = {
    "http_request": _event("info", "method route code seconds", "One answered request of the API."),
    "access_list_unreadable": _event("error", "reason", "Tokens and parties of access.json are refused with 503."),
    "http_rejected": _event("error", "route reason", "A request met a mistake of this program (500)."),
    "event_stream_ended": _event("info", "reason", "A reader of events took nothing and was left."),
    "notification_failed": _event("warning", "transport reason", "A message was not delivered; it is tried again."),
    "notification_sent": _event("info", "transport kind id seconds", "A message was delivered."),
    "notifications_dropped": _event("warning error", "transport count reason", "Messages were given up."),
    "outbox_failed": _event("error", "reason", "The file of unsent messages fails; they are kept in memory."),
    "state_refused": _event("warning", "channel outcome reason", "An update was refused."),
}

STORE_EVENTS: dict[str, LogEvent] = {
    "backup_failed": _event("error", "reason", "No verified backup was made; it is tried again."),
    "backup_verified": _event("info", "path notification_id seconds", "A backup was made and read back."),
    "commit_failed": _event("error", "reason", "The log did not take what a pass wanted to store."),
    "copy_caught_up": _event("info", "notification_id", "The copy of a log on a server is complete."),
    "copy_failed": _event("error", "path reason", "The copy of a log on a server cannot be written."),
    "copy_set_aside": _event("warning", "path reason", "A copy that does not fit the server's log was renamed."),
    "segment_not_closed": _event("warning", "reason", "The log goes on in its present file."),
    "server_silent": _event("error", "seconds", "The database server does not answer."),
    "head_task_failed": _event("error", "reason", "The chain head could not be sealed or noted; it is tried again."),
    "high_water_failed": _event("error", "path reason", "The high-water mark cannot be written."),
    "high_water_missing": _event("warning", "path", "No high-water mark: an old copy would not be noticed."),
    "leadership_taken": _event("info", "term", "This tower leads the log on the server."),
    "mark_failed": _event("error", "path reason", "A mark beside the views or the copy cannot be written."),
    "reserve_released": _event("error", "bytes", "The disk is full: its reserve is left to answers."),
    "erase_failed": _event("warning error", "reason channels", "Keys of ended channels are still in the keystore."),
    "projection_failed": _event("critical", "projection channel reason", "A channel's events do not fit a view."),
    "projection_rebuilt": _event("info", "path notification_id seconds", "The views were made anew from the log."),
    "standby_began": _event("info", "notification_id", "Another tower leads; this one follows."),
    "standby_ended": _event("info", "notification_id seconds", "It is this tower's turn."),
    "views_discarded": _event("warning", "path", "The views were ahead of the log and are made anew."),
}

PARTY_EVENTS: dict[str, LogEvent] = {
    "admission_failed": _event("error", "peer", "A peer could not be let in because of a mistake of this program."),
    "application_failed": _event("error", "app state reason", "An application's code failed."),
    "application_unknown": _event(
        "warning", "app", "Nobody judges the states of this application: start the party with --application."
    ),
    "call_dropped": _event("info", "reason", "A command ended before its answer."),
    "call_failed": _event("error", "", "A command met a mistake of this program."),
    "consent_failed": _event("error", "channel state reason", "The application's rule of consent failed."),
    "fee_child_failed": _event(
        "warning error", "about reason", "A close may wait for its fee child; it is tried again."
    ),
    "fee_child_sent": _event("info", "channel parent txid fee", "A child pays for a commitment or settlement."),
    "funding_not_sent": _event("warning", "txid reason", "The funding transaction was not taken by the node."),
    "link_ended": _event("info", "peer reason", "The connection to a peer has ended."),
    "link_failed": _event("error", "peer slug reason", "The connection to a peer broke over a rule."),
    "link_work_failed": _event("debug", "peer error", "Work for a peer that is gone failed."),
    "listener_failed": _event("error", "channel news", "The application's listener of HTLCs failed."),
    "message_refused": _event("warning", "peer message slug", "A peer's message breaks a rule."),
    "party_failed": _event("error", "", "The party's process met a mistake of this program."),
    "party_started": _event("info", "address", "The party can be reached."),
    "payment_delayed": _event("warning", "about reason", "A step of a payment failed; it is tried again."),
    "payment_goes_on_chain": _event("warning", "channel sequence", "A payment can end in time on the chain only."),
    "peer_gone": _event("info", "peer reason", "A peer's transport has ended."),
    "peer_over_allowance": _event("warning", "peer reason", "A peer sends more than is allowed."),
    "peer_refused": _event("warning", "peer address", "A stranger was not let in."),
    "peer_unreachable": _event("info", "peer reason", "A peer cannot be connected to; it is tried again."),
    "spends_not_followed": _event("warning", "reason", "The tower cannot be asked for spends; it is tried again."),
    "state_unarmed": _event("error", "channel seconds reason", "No tower has the newest state yet."),
    "tower_behind": _event("warning", "channel reason", "The tower does not hold all that this party has."),
    "tower_compared": _event("info", "channel epoch", "A restored tower was compared with what this party has."),
    "tower_not_compared": _event("warning", "reason", "The comparison did not come to an end; it is tried again."),
    "tower_unreachable": _event("warning", "reason", "The tower cannot be asked; it is tried again."),
}
"""Of a party, which lives in an application's process: through the standard library, as `name field=value …`."""

_CRITICAL = {
    "alert_raised",
    "audit_mismatch",
    "block_unavailable",
    "breach_detected",
    "channel_frozen",
    "equivocation_found",
    "funding_double_spent",
}
_WARNING = {
    "block_disconnected",
    "challenge_received",
    "funding_disconnected",
    "penalty_disconnected",
    "penalty_refused",
    "penalty_replaced",
    "spend_disconnected",
    "store_restored",
}
_DEBUG = {"state_offered", "state_proposed", "state_accepted", "state_committed"}
_WORSE = {"spend_seen": "critical", "spend_confirmed": "critical", "settle_confirmed": "critical"}
_WORSE |= {"claim_confirmed": "error", "channel_resolved": "critical"}
"""Names that are told more loudly when they mean a loss or a spend that nobody had signed for."""


def snake_case(class_name: str) -> str:
    """`BreachDetected` -> `breach_detected`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower()


def level_of(payload: Payload) -> str:
    """The level of a domain event: loud where somebody may lose money."""
    name = snake_case(type(payload).__name__)
    return _WORSE[name] if _is_bad(payload) else _usual_level(name)


def _usual_level(name: str) -> str:
    levels = {"critical": _CRITICAL, "warning": _WARNING, "debug": _DEBUG}
    return next((level for level, names in levels.items() if name in names), "info")


def _is_bad(payload: Payload) -> bool:
    match payload:
        case SettleConfirmed():
            return payload.revoked
        case ClaimConfirmed():
            return payload.missed
        case ChannelResolved():
            return payload.outcome is ResolvedAs.LOST
        case SpendSeen() | SpendConfirmed():
            return payload.kind in (SpendKind.UNKNOWN_SPEND, SpendKind.FUTURE_STATE)
        case _:
            return False


def _of_domain(event: type[Payload]) -> LogEvent:
    name = snake_case(event.__name__)
    worse = (_WORSE[name],) if name in _WORSE else ()
    meaning = inspect.cleandoc(event.__doc__ or "").split("\n")[0]
    return LogEvent((_usual_level(name), *worse), ("channel", "notification_id"), meaning)


DOMAIN_EVENTS: dict[str, LogEvent] = {snake_case(event.__name__): _of_domain(event) for event in EVENT_TYPES}

GROUPS: dict[str, dict[str, LogEvent]] = {
    "Service": SERVICE_EVENTS,
    "Node": NODE_EVENTS,
    "Chain": CHAIN_EVENTS,
    "Edge": EDGE_EVENTS,
    "Store and backup": STORE_EVENTS,
    "Events of the log": DOMAIN_EVENTS,
    "Parties": PARTY_EVENTS,
}
"""All names, as docs/logs.md shows them."""

ALL_EVENTS: dict[str, LogEvent] = {name: event for group in GROUPS.values() for name, event in group.items()}
