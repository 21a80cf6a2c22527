"""The task `notifier`: follows the log and the readiness, puts what is worth telling into the outbox, wakes couriers.

It reads behind the commit and is never waited for. An error of its own ends a turn, not the task; the next turn
begins from what is stored.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from domain.events import Recorded
from watchtower.config import ConfigError, NotifySettings
from watchtower.notify.breaches import Tracked
from watchtower.notify.courier import Courier
from watchtower.notify.message import Sender
from watchtower.notify.notice import RANKS, Notice, blocks, notice_id, sats
from watchtower.notify.reasons import Held, Reasons
from watchtower.notify.sending import SendFailed, Target
from watchtower.notify.story import Story
from watchtower.notify.targets import make_targets
from watchtower.ports import StoreError
from watchtower.store.notices import Entry, NoticeStore, remove
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import Readiness
from watchtower.telemetry.redaction import scrub
from watchtower.telemetry.runbook import runbook_url
from watchtower.watch.recurring import RecurringTask

_log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
"""Without events the readiness is looked at this often: its changes are told within a second, too."""

PAGE = 500
TARGET_PATIENCE = 600.0
"""Seconds that a target may fail until the other targets tell of it."""

FILE_RETRY_SECONDS = 60.0
DETAIL_MAX = 200


class Log(Protocol):
    """The part of the log that is read."""

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """Events behind `after_id`."""

    def last_id(self) -> int:
        """Highest committed notification id."""

    def wait_beyond(self, after_id: int, timeout: float) -> bool:
        """True as soon as there is an event behind `after_id`."""


class World(msgspec.Struct, frozen=True):
    """What the notifier looks at. `open_breaches` and `tip_height` are asked once, when telling begins.

    `troubles` are conditions that are no readiness reason: name and what was observed.
    """

    log: Log
    log_id: bytes
    sender: Sender
    readiness: Callable[[], Readiness]
    open_breaches: Callable[[], Sequence[Tracked]]
    tip_height: Callable[[], int]
    troubles: Callable[[], Mapping[str, str]] = dict
    took_over: bool = False
    """A tower that stood by: what it had told when it led before is too old to go on from."""


class Notifier:
    """Made with settings; does nothing without a target. `reload` changes targets while it runs."""

    def __init__(
        self,
        chosen: NotifySettings,
        path: Path,
        world: World,
        metrics: Metrics,
        *,
        wall: Callable[[], float] = time.time,
        make: Callable[[NotifySettings], list[Target]] = make_targets,
    ) -> None:
        """Raises `ConfigError` if a target cannot be made of the settings. `path` is that of the outbox."""
        self._path, self._world, self._metrics, self._wall, self._make = path, world, metrics, wall, make
        self._lock = threading.RLock()
        self._chosen = chosen
        self._couriers: list[Courier] = []
        self._task: RecurringTask | None = None
        self._store: NoticeStore | None = None
        self._story: Story | None = None
        self._reasons: Reasons | None = None
        self._position = 0
        self._running = False
        self._file_retry_at = 0.0
        self._told_trouble = ""
        self._begin_anew = world.took_over
        self._is_shut = False
        self._use(self._targets(chosen))

    def start(self) -> None:
        """Begin to follow, and to deliver what an earlier run left."""
        with self._lock:
            self._running = True
            self._start_threads()

    def reload(self, chosen: NotifySettings) -> None:
        """Use other settings from now on; raises `ConfigError` and changes nothing if they cannot be used.

        A target that is new is told nothing of the past; one that stays keeps what it has not got yet.
        """
        targets = self._targets(chosen)
        with self._lock:
            self._chosen = chosen
            self._use(targets)
            if self._story is not None and self._reasons is not None:
                self._story.deadline_blocks, self._reasons.grace = chosen.deadline_blocks, chosen.grace_seconds
            if self._running:
                self._start_threads()

    def stop(self, timeout: float) -> bool:
        """End; a message that is under way may be sent again by the next run. False if it took longer."""
        end = time.monotonic() + timeout
        task, couriers = self._task, self._couriers
        for courier in couriers:
            courier.stop()
        ended = task is None or task.stop(timeout)
        left = [courier for courier in couriers if not courier.join(max(0.0, end - time.monotonic()))]
        self.close()
        return ended and not left

    def close(self) -> None:
        """Close the outbox."""
        with self._lock:
            self._running = False
            if self._store is not None:
                self._store.close()
                self._store = None

    def turn(self) -> float:
        """Wait for news, tell it; seconds until the next turn."""
        self._world.log.wait_beyond(self._position, LOOK_SECONDS)
        with self._lock:
            if self._is_shut:
                self._open_again()
            if self._store is None or not self._couriers:
                return LOOK_SECONDS
            try:
                self._tell(self._store)
            except StoreError:
                self._open_again()
                raise
            except BaseException:
                self._story = None  # what is in memory may be ahead of what is stored
                raise
        return 0.0

    # --- targets ------------------------------------------------------------------------------------------------

    def _targets(self, chosen: NotifySettings) -> list[Target]:
        try:
            return self._make(chosen)
        except SendFailed as error:
            raise ConfigError([str(error)]) from None

    def _use(self, targets: Sequence[Target]) -> None:
        """An outbox that is locked or broken keeps nobody from watching: the task tries again."""
        try:
            self._take_targets(targets)
            self._is_shut = False
        except StoreError as error:
            self._is_shut = True
            _log.error("outbox_failed", path=self._path.name, reason=str(error))

    def _take_targets(self, targets: Sequence[Target]) -> None:
        before = {courier.name: courier for courier in self._couriers}
        for courier in self._couriers:
            courier.stop()
        self._couriers = []
        if not targets:
            self._forget()
            return
        if self._store is None:
            self._open()
        assert self._store is not None
        self._store.set_targets(target.transport for target in targets)
        self._couriers = [
            Courier(target, self._store, self._world.sender, self._metrics, before=before.get(target.transport))
            for target in targets
        ]
        if self._story is None:
            self._load(self._store)

    def _open(self) -> None:
        if self._begin_anew:
            self._remove()
            self._begin_anew = False
        self._store = NoticeStore(self._path, self._world.log_id, self._world.log.last_id())
        self._story = None

    def _forget(self) -> None:
        """Nobody is told: what was kept would be told as news when there is a target again."""
        if self._store is not None:
            self._store.close()
            self._store = None
        self._remove()

    def _remove(self) -> None:
        try:
            remove(self._path)
        except StoreError as error:  # no reason not to watch
            _log.error("outbox_failed", path=self._path.name, reason=str(error))

    def _open_again(self) -> None:
        """The outbox cannot be used as it is: from its file, or from a new one at the end of the log."""
        self._is_shut = True
        if self._store is not None:
            self._store.close()
            self._store = None
        self._take_targets(self._targets(self._chosen))
        self._is_shut = False
        self._start_threads()

    def _start_threads(self) -> None:
        if (self._couriers or self._is_shut) and self._task is None:
            self._task = RecurringTask("notifier", self.turn, self._metrics)
            self._task.start()
        for courier in self._couriers:
            if not courier.is_started:
                courier.start()

    # --- telling ------------------------------------------------------------------------------------------------

    def _tell(self, store: NoticeStore) -> None:
        if self._story is None:
            self._load(store)
        story, reasons = self._story, self._reasons
        assert story is not None
        assert reasons is not None
        while page := self._world.log.read_log(self._position, PAGE):
            notices = [notice for recorded in page for notice in story.told(recorded)]
            self._keep(store, page[-1].id, story.changes(), notices)
        notices = self._look(story, reasons)
        if notices:
            self._keep(store, self._position, reasons.changes(), notices)
        self._metrics.set("queue_depth", "notifications", value=store.depth())
        self._look_after_file(store)

    def _load(self, store: NoticeStore) -> None:
        facts, chosen = store.facts(), self._chosen
        self._story = Story(self._world.log_id, facts, deadline_blocks=chosen.deadline_blocks)
        self._reasons = Reasons(self._world.log_id, facts, grace=chosen.grace_seconds)
        self._position = store.position()
        if not store.is_new:
            return
        story = self._story
        story.tip = self._world.tip_height()
        for one in self._world.open_breaches():
            story.breaches.put(one)
        self._keep(store, self._position, story.changes(), self._beginning(story))
        store.is_new = False

    def _keep(
        self, store: NoticeStore, position: int, facts: Mapping[str, bytes | None], notices: Sequence[Notice]
    ) -> None:
        least = RANKS[self._chosen.min_severity]
        wanted = [notice for notice in notices if RANKS[notice.severity] >= least]
        entries = [Entry(notice.id, RANKS[notice.severity], msgspec.json.encode(notice)) for notice in wanted]
        store.record(position, facts, entries)
        self._position = position
        if entries:
            for courier in self._couriers:
                courier.ring()

    def _look(self, story: Story, reasons: Reasons) -> list[Notice]:
        state = self._world.readiness()
        if state.phase == "draining":
            return []
        held = {reason.name: Held(reason.sentence, _public(reason.detail)) for reason in state.reasons}
        for name, detail in {**self._world.troubles(), **self._failing_targets()}.items():
            held[name] = Held("", _public(detail))
        return reasons.look(held, self._wall(), watching=state.watching, more=_at_stake(story))

    def _failing_targets(self) -> dict[str, str]:
        """Told by the others; one that fails alone is in log and metrics only."""
        failing = [c for c in self._couriers if c.failing_for() > TARGET_PATIENCE]
        if not failing or len(failing) == len(self._couriers):
            return {}
        return {"notifications_failed": ", ".join(f"{courier.name}: {courier.reason}" for courier in failing)}

    def _look_after_file(self, store: NoticeStore) -> None:
        if store.trouble and store.trouble != self._told_trouble:
            _log.error("outbox_failed", path=self._path.name, reason=store.trouble)
        self._told_trouble = store.trouble
        if store.trouble and self._wall() >= self._file_retry_at:
            self._file_retry_at = self._wall() + FILE_RETRY_SECONDS
            store.return_to_file()

    def _beginning(self, story: Story) -> list[Notice]:
        """The first thing that is ever told, if there is something to worry about; and that a tower took over."""
        world, count = self._world, len(story.breaches)
        if not count and not world.took_over:
            return []
        kind = "took_over" if world.took_over else "notifications_begin"
        title = "A tower took over" if world.took_over else "Notifications begin"
        return [
            Notice(
                id=notice_id(world.log_id.hex(), kind, self._position, self._wall()),
                kind=kind,
                severity="page" if count else "ticket",
                at=int(self._wall()),
                title=title + (f": {count:,} breaches open" if count else ""),
                text=_at_stake(story) or "No breach waits for its penalty.",
                runbook_url=runbook_url("WatchtowerTookOver" if world.took_over else "WatchtowerBreachOpen"),
            )
        ]


def _at_stake(story: Story) -> str:
    """What an outage endangers; empty if nothing is contested."""
    waiting = story.breaches.open()
    if not waiting:
        return ""
    left = max((waiting[0].deadline or 0) - story.tip, 0)
    amount = sats(sum(one.value for one in waiting))
    return f"{len(waiting):,} breaches wait for a penalty in a block: {amount}, nearest deadline in {blocks(left)}."


def _public(detail: str) -> str:
    return scrub(detail)[:DETAIL_MAX]
