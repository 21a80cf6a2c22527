"""A notifier with a log in a list and readiness by hand, for receivers to look at."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from domain.events import Envelope, Payload, Recorded
from tests.support.receivers import HttpReceiver
from watchtower.config import NotifySettings, Secret
from watchtower.notify.breaches import Tracked
from watchtower.notify.message import Sender
from watchtower.notify.notifier import Notifier, World
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import SENTENCES, Readiness, Reason

LOG_ID = bytes(range(16))
TOWER = "cd" * 32
HEIGHT = 500


class Scene:
    """A log in a list, readiness by hand, and a notifier that can be ended and started again."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "notify.db"
        self.rows: list[Recorded] = []
        self._news = threading.Condition()
        self.reasons: tuple[Reason, ...] = ()
        self.phase = "watching"
        self.open: list[Tracked] = []
        self.troubles: dict[str, str] = {}
        self.metrics = Metrics(build=("", "", "", ""))
        self.notifier: Notifier | None = None
        self.broken = False

    # The log

    def record(self, *events: Payload, stream: str = "c" + "x" * 22) -> None:
        """Events are committed, all at once: who reads sees none of them, or all."""
        with self._news:
            self.rows += [
                Recorded(id=number, envelope=Envelope(stream=stream, version=1, topic=event.TOPIC, payload=event))
                for number, event in enumerate(events, len(self.rows) + 1)
            ]
            self._news.notify_all()

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """A page."""
        if self.broken:
            self.broken = False
            raise ValueError("a page that nobody foresaw")
        return self.rows[after_id : after_id + limit]

    def last_id(self) -> int:
        """The end."""
        return len(self.rows)

    def wait_beyond(self, after_id: int, timeout: float) -> bool:
        """Until there is more."""
        with self._news:
            return self._news.wait_for(lambda: len(self.rows) > after_id, timeout)

    # The notifier

    def start(self, settings: NotifySettings, *, took_over: bool = False) -> Notifier:
        """From the files that are there."""
        world = World(
            log=self,
            log_id=LOG_ID,
            sender=Sender(TOWER, "regtest"),
            readiness=lambda: Readiness(self.phase, self.phase == "watching", self.reasons),
            open_breaches=lambda: self.open,
            tip_height=lambda: HEIGHT,
            troubles=lambda: self.troubles,
            took_over=took_over,
        )
        self.notifier = Notifier(settings, self.path, world, self.metrics)
        self.notifier.start()
        return self.notifier

    def stop(self) -> None:
        """An orderly end."""
        if self.notifier is not None:
            self.notifier.stop(5)
            self.notifier = None

    def holds(self, reason: str, detail: str = "") -> None:
        """A readiness reason begins to hold."""
        self.phase = "degraded"
        self.reasons = (Reason(reason, SENTENCES[reason], detail),)

    def nothing_holds(self) -> None:
        """All is well."""
        self.phase, self.reasons = "watching", ()

    def counted(self, outcome: str, transport: str = "webhook") -> float:
        """Messages by outcome."""
        return self.value("watchtower_notifications_total", transport=transport, outcome=outcome)

    def value(self, name: str, **labels: str) -> float:
        """A metric as it is now."""
        found = self.metrics.registry.get_sample_value(name, labels)
        assert found is not None
        return found


def hook(http: HttpReceiver, **more: Any) -> NotifySettings:
    """Settings with a webhook."""
    return NotifySettings(
        webhook_url=Secret(f"http://127.0.0.1:{http.port}/"),
        webhook_secret=Secret("0123456789abcdef"),
        **{"grace_seconds": 0.0, **more},
    )
