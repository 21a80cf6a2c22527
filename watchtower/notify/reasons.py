"""Conditions of the tower as a whole: when one that holds is told, and when its end is.

A node that is restarted should wake nobody, so what mostly ends by itself has some time to do so. What was told is
kept, so that a restart of the tower neither tells it again nor forgets to say that it is over.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from watchtower.notify.notice import Notice, Severity, Status, notice_id
from watchtower.telemetry.runbook import runbook_url

_PREFIX = "reason/"


class Condition(msgspec.Struct, frozen=True):
    """How urgent a reason is, how many times the grace period it may last untold, and what to say."""

    severity: Severity
    patience: int
    title: str
    over: str
    alert: str
    act: bool = True


CONDITIONS: dict[str, Condition] = {
    "node_unreachable": Condition("page", 1, "Node lost", "Node is back", "WatchtowerNodeUnreachable"),
    "node_warming_up": Condition("page", 10, "Node still loads", "Node has loaded", "WatchtowerNotReady", act=False),
    "node_syncing": Condition("page", 10, "Node is syncing", "Node has synced", "WatchtowerNotReady", act=False),
    "node_behind": Condition("page", 10, "Node is behind", "Node has caught up", "WatchtowerNotReady"),
    "second_source_ahead": Condition(
        "page", 10, "Own node may be cut off", "Both nodes agree again", "WatchtowerNotReady"
    ),
    "tip_stale": Condition("page", 0, "No block for long", "Blocks come again", "WatchtowerTipStale"),
    "zmq_silent": Condition("ticket", 10, "ZMQ is silent", "ZMQ is back", "WatchtowerZmqSilent"),
    "wrong_chain": Condition(
        "page", 0, "Node is on another chain", "Node is on our chain", "WatchtowerNotReadyCritical"
    ),
    "cursor_unknown": Condition(
        "page", 0, "Node knows none of our blocks", "Node knows our blocks", "WatchtowerNotReadyCritical"
    ),
    "block_unavailable": Condition("page", 1, "A block is missing", "Blocks can be read", "WatchtowerNotReadyCritical"),
    "block_unparseable": Condition(
        "page", 0, "A block cannot be read", "Blocks can be read", "WatchtowerNotReadyCritical"
    ),
    "audit_mismatch": Condition("page", 1, "Audit disagrees", "Audit agrees again", "WatchtowerNotReadyCritical"),
    "store_read_only": Condition(
        "page", 0, "Log cannot be written", "Log can be written", "WatchtowerNotReadyCritical"
    ),
    "store_unreachable": Condition("page", 1, "Database is away", "Database is back", "WatchtowerStoreUnreachable"),
    "disk_low": Condition("page", 0, "Disk is nearly full", "Disk has space", "WatchtowerStorageCritical"),
    "log_damaged": Condition("page", 0, "Log is damaged", "Log is whole", "WatchtowerNotReadyCritical"),
    "behind_receipts": Condition("page", 0, "Log is an old copy", "Log is complete", "WatchtowerNotReadyCritical"),
    "task_stalled": Condition("page", 0, "A task hangs", "The task goes on", "WatchtowerTaskStalled"),
    "backup_failed": Condition("ticket", 0, "Backup failed", "Backups work again", "WatchtowerBackupFailing"),
    "notifications_failed": Condition(
        "ticket", 0, "Notifications fail", "Notifications work again", "WatchtowerNotificationsFailing"
    ),
}
"""`standby` is none: a tower that stands by is as it should be."""

OTHER = Condition("page", 1, "Not ready", "Ready again", "WatchtowerNotReadyCritical")
"""For reasons that came later than this table."""

_KINDS: dict[tuple[str, Status], str] = {
    ("node_unreachable", "begins"): "node_lost",
    ("node_unreachable", "ends"): "node_back",
}
"""Kinds with a name of their own; all others are called like the reason."""

QUIET = frozenset({"standby"})


class Held(msgspec.Struct, frozen=True):
    """A reason that holds now: what to do about it, and what was observed."""

    sentence: str
    detail: str = ""


class Reasons:
    """Looks at what holds, again and again; `look` returns what to say and what to keep."""

    def __init__(self, log_id: bytes, facts: Mapping[str, bytes], *, grace: float) -> None:
        """`facts` are what `changes` gave before; `grace` in seconds."""
        self._log_id = log_id.hex()
        self.grace = grace
        self._since: dict[str, float] = {}
        self._told = {
            name.removeprefix(_PREFIX): int(value) for name, value in facts.items() if name.startswith(_PREFIX)
        }
        self._of_earlier_run = set(self._told)
        self._changed: dict[str, bytes | None] = {}

    def look(self, held: Mapping[str, Held], now: float, *, watching: bool, more: str = "") -> list[Notice]:
        """What to say at Unix time `now`.

        `watching` proves that what an earlier run told is over; `more` says what is at stake meanwhile.
        """
        found = []
        for name, what in held.items():
            self._of_earlier_run.discard(name)
            if name in QUIET or name in self._told:
                continue
            since = self._since.setdefault(name, now)
            condition = CONDITIONS.get(name, OTHER)
            if now - since >= condition.patience * self.grace:
                found.append(self._began(name, condition, what, now, more))
        for name in [name for name in self._since if name not in held]:
            del self._since[name]
        over = [name for name in self._told if name not in held and (watching or name not in self._of_earlier_run)]
        return found + [self._ended(name, now) for name in over]

    def changes(self) -> dict[str, bytes | None]:
        """What has to be stored since the last call."""
        changed, self._changed = self._changed, {}
        return changed

    def _began(self, name: str, condition: Condition, what: Held, now: float, more: str) -> Notice:
        began = int(now * 1e6)
        self._told[name] = began
        self._changed[_PREFIX + name] = str(began).encode()
        text = " ".join(part for part in (what.sentence, _sentence(what.detail), more) if part)
        return self._notice(name, condition, began, "begins", now, condition.title, text)

    def _ended(self, name: str, now: float) -> Notice:
        began = self._told.pop(name)
        self._changed[_PREFIX + name] = None
        condition = CONDITIONS.get(name, OTHER)
        text = f"After {_span(now - began / 1e6)}. Nothing to do."
        return self._notice(name, condition, began, "ends", now, condition.over, text)

    def _notice(
        self, name: str, condition: Condition, began: int, status: Status, now: float, title: str, text: str
    ) -> Notice:
        return Notice(
            id=notice_id(self._log_id, "reason", name, began, status),
            kind=_KINDS.get((name, status), name),
            severity=condition.severity,
            status=status,
            at=int(now),
            title=title,
            text=text,
            act=condition.act and status == "begins",
            runbook_url=runbook_url(condition.alert),
            reason=name,
        )


def _sentence(detail: str) -> str:
    return f"({detail})" if detail else ""


def _span(seconds: float) -> str:
    """A time for people: `40 s`, `12 min`, `5 h`."""
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.0f} h"
