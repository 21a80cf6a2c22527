"""One target's own thread: cut what waits into messages, send them in order, try again for ever.

A target that hangs or is gone delays nobody but itself.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import msgspec
import structlog

from watchtower.notify.message import Sender, compose, decode, encode
from watchtower.notify.notice import Notice
from watchtower.notify.sending import SEND_SECONDS, SendFailed, Target
from watchtower.ports import StoreError
from watchtower.store.notices import Delivery, NoticeStore
from watchtower.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)

BURST = 5
"""Messages that may follow each other at once; a breach and its answer are two."""

REFILL_SECONDS = 10.0
"""After a burst one message in this time, and what came meanwhile is in it."""

FIRST_RETRY, LONGEST_RETRY = 1.0, 300.0
"""Seconds until the next try, doubled each time, half of it by chance, so that towers do not come all at once."""

MESSAGE_TRIES = 10
"""Refusals of a message as such after which it is given up; five to nine minutes, in which what came behind it waits.
Everything else is tried for ever."""


class Bucket:
    """How many messages may leave now: `BURST` at first, then one per `REFILL_SECONDS`."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._tokens, self._at = float(BURST), monotonic()

    def available(self) -> int:
        """Messages that may leave now."""
        now = self._monotonic()
        self._tokens = min(BURST, self._tokens + (now - self._at) / REFILL_SECONDS)
        self._at = now
        return int(self._tokens)

    def take(self, count: int) -> None:
        """So many leave."""
        self._tokens -= count

    def wait(self) -> float:
        """Seconds until one more may leave."""
        return max(0.0, (1 - self._tokens) * REFILL_SECONDS)


class Courier:
    """Follows the outbox for one target until `stop`."""

    def __init__(
        self,
        target: Target,
        store: NoticeStore,
        sender: Sender,
        metrics: Metrics,
        *,
        before: Courier | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`before` had the same target until now and was told to stop: what it is sending is not sent twice."""
        self.name = target.transport
        self._target, self._store, self._sender, self._metrics = target, store, sender, metrics
        self._before, self._monotonic = before, monotonic
        self._bucket = Bucket(monotonic)
        self._thread = threading.Thread(target=self.run, name=f"courier-{self.name}", daemon=True)
        self._bell, self._stopping = threading.Event(), threading.Event()
        self._failures, self._failing_since = 0, 0.0
        self.reason = ""
        """Why the last try failed; empty after a success."""

    @property
    def is_started(self) -> bool:
        """Whether `start` was called."""
        return self._thread.ident is not None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ring(self) -> None:
        """There is something new."""
        self._bell.set()

    def stop(self) -> None:
        """End after the present try; does not wait for it."""
        self._stopping.set()
        self._bell.set()

    def join(self, timeout: float) -> bool:
        """Wait for the end; False if it takes longer."""
        if self.is_started:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def failing_for(self) -> float:
        """Seconds since tries began to fail; 0 if the last one did not."""
        return self._monotonic() - self._failing_since if self._failures else 0.0

    def run(self) -> None:
        """The body of the thread."""
        if self._before is not None:
            self._before.join(SEND_SECONDS)
            self._before = None
        while not self._stopping.is_set():
            try:
                pause = self.turn()
            except Exception as error:  # noqa: BLE001 - the border of the task: the tower goes on, and so does this
                if self._stopping.is_set():
                    return  # the outbox was closed meanwhile
                pause = self._failed(f"{type(error).__name__}", 0.0)
                _log.error("task_restarted", task="notifier", reason=type(error).__name__, exc_info=error)
            self._rest(pause)

    def turn(self) -> float | None:
        """Send one message if there is one; seconds until the next look, None: until there is news."""
        self._bell.clear()
        delivery = self._store.next_delivery(self.name)
        if delivery is None:
            return self._cut()
        return self._try(delivery)

    def _rest(self, pause: float | None) -> None:
        """A pause after a failure is not cut short by news; one for want of news is."""
        if pause is None:
            self._bell.wait()
        elif pause:
            self._stopping.wait(pause)

    def _cut(self) -> float | None:
        upto, dropped, bodies = self._store.waiting(self.name)
        if not bodies:
            return None
        singles = self._bucket.available()
        if not singles:
            return self._bucket.wait()
        notices = [msgspec.json.decode(body, type=Notice) for body in bodies]
        messages = compose(self._sender, notices, dropped, singles)
        self._bucket.take(len(messages))
        if dropped:
            self._metrics.count("notifications_total", self.name, "dropped", by=dropped)
            _log.warning("notifications_dropped", transport=self.name, count=dropped, reason="the queue was full")
        self._store.cut(self.name, upto, [(message.id, encode(message)) for message in messages])
        return 0.0

    def _try(self, delivery: Delivery) -> float:
        message = decode(delivery.body)
        began = self._monotonic()
        try:
            self._target.send(message, delivery.body)
        except SendFailed as error:
            if error.about_message and delivery.tries + 1 >= MESSAGE_TRIES:
                self._store.done(delivery.number)
                self._metrics.count("notifications_total", self.name, "dropped")
                _log.error("notifications_dropped", transport=self.name, count=1, reason=str(error))
                return 0.0
            self._store.tried(delivery.number)
            return self._failed(str(error), error.wait)
        self._failures, self.reason = 0, ""
        self._metrics.count("notifications_total", self.name, "sent")
        _log.info(
            "notification_sent",
            transport=self.name,
            kind=message.kind,
            id=message.id,
            seconds=round(self._monotonic() - began, 3),
        )
        self._done(delivery)
        return 0.0

    def _done(self, delivery: Delivery) -> None:
        try:
            self._store.done(delivery.number)
        except StoreError as error:  # it arrived: better once more later than not at all
            _log.error("outbox_failed", reason=str(error))

    def _failed(self, reason: str, wait: float) -> float:
        if not self._failures:
            self._failing_since = self._monotonic()
        pause = max(wait, _backoff(self._failures))
        self._failures, self.reason = self._failures + 1, reason
        self._metrics.count("notifications_total", self.name, "failed")
        _log.warning("notification_failed", transport=self.name, reason=reason, retry_seconds=round(pause, 1))
        return pause


def _backoff(failures: int) -> float:
    full = min(LONGEST_RETRY, FIRST_RETRY * (1 << min(failures, 20)))
    return full * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, keeps no secret
