"""The stage of the rehearsal: a tower on regtest, its Prometheus, its Alertmanager, and where all messages arrive.

    with rehearsal(tmp_path) as stage:
        (pair,) = stage.live.open_channels(1)
        stage.live.breach(pair)
        stage.alert("page", "WatchtowerBreachOpen").body["annotations"]["runbook_url"]
        stage.told("breach_seen").at

Prometheus and Alertmanager run with the files of deploy/; what they do by the minute is done by the second here.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hmac
import html
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from tests.support.alertmanager import Alertmanager
from tests.support.commands import document
from tests.support.dashboards.drift import RULES
from tests.support.dashboards.play import JOB, RECORDING, REGTEST
from tests.support.dashboards.server import Prometheus
from tests.support.live_tower import LiveTower, live_tower
from tests.support.receivers import HttpReceiver, Post, receiving
from watchtower.devnode.launch import free_ports

SOONER = {
    "WatchtowerNodeUnreachable": {"for": "2s", "keep_firing_for": "12s"},
    "WatchtowerNotWatching": {"for": "30s"},  # a slow machine catches up for a while with the blocks of the story
}
"""Of the alerts that are waited for; in deploy/ they are 3, 2 and 15 minutes. Their order stays."""

GROUP_INTERVAL = "2s"
"""A minute in deploy/: so long Alertmanager waits before it says that an alert is over."""

GRACE_SECONDS = 1.0
SECRET = "a secret of sixteen or more"
PATIENCE = 60.0


class Delivered(msgspec.Struct, frozen=True):
    """An alert or a notice, and the Unix time at which it arrived."""

    at: float
    body: dict[str, Any]


class Stage:
    """What plays, and what arrived so far."""

    def __init__(
        self, live: LiveTower, prometheus: Prometheus, alertmanager: Alertmanager, inbox: HttpReceiver
    ) -> None:
        self.live, self.prometheus, self.alertmanager, self.inbox = live, prometheus, alertmanager, inbox

    # ── what arrived ─────────────────────────────────────────────────────────────────────────────────────

    def alert(self, receiver: str, name: str, status: str = "firing") -> Delivered:
        """The first delivery of this alert by Alertmanager; waits for it."""
        return self._first(lambda post: _alerts(post, receiver), _is_alert(name, status))

    def told(self, kind: str) -> Delivered:
        """The first notice of this kind from the tower itself; waits for it."""
        return self._first(_notices, lambda notice: notice["kind"] == kind)

    def alerts(self, receiver: str) -> set[str]:
        """Names of all alerts that this receiver ever heard of."""
        return {each["labels"]["alertname"] for post in list(self.inbox.posts.all) for each in _alerts(post, receiver)}

    def diary(self) -> list[str]:
        """What Alertmanager delivered, with the seconds since its first message: for the report of a failure."""
        posts = [post for post in self.inbox.posts.all if post.path != "/tower"]
        return [
            f"{post.at - posts[0].at:.1f} {post.path} {each['labels']['alertname']} {each['status']}"
            for post in posts
            for each in post.document["alerts"]
        ]

    def unsigned(self) -> list[str]:
        """Ids of the tower's messages whose signature is wrong, by the recipe of docs/notifications.md."""
        posts = [post for post in self.inbox.posts.all if post.path == "/tower"]
        assert posts
        return [post.document["id"] for post in posts if not _is_signed(post)]

    def _first(
        self, parts: Callable[[Post], list[dict[str, Any]]], fits: Callable[[dict[str, Any]], bool]
    ) -> Delivered:
        def found(posts: list[Post]) -> Iterator[Delivered]:
            return (Delivered(_unix(post.at), each) for post in posts for each in parts(post) if fits(each))

        return next(found(self.inbox.posts.wait_for(lambda posts: any(found(posts)), PATIENCE)))

    # ── what is shown ────────────────────────────────────────────────────────────────────────────────────

    def page(self, path: str = "/") -> str:
        """The words of the status page, without its marks."""
        status, body = self.live.process.get("admin", path)
        assert 200 == status
        shown = re.sub(r"<(script|style)\b.*?</\1>", " ", body.decode(), flags=re.DOTALL)
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", shown)).split())

    def wait_page(self, *words: str) -> None:
        """Until the status page says all of this."""
        try:
            self.live.until(lambda: all(each in self.page() for each in words))
        except TimeoutError as late:
            raise AssertionError(f"{words} are not all on the page: {self.page()}") from late

    def widget(self) -> dict[str, tuple[str, str]]:
        """Title -> (text, subtext) of the fields for home screens."""
        items = json.loads(self.live.process.get("admin", "/v1/widgets/status")[1])["items"]
        return {each["title"]: (each["text"], each["subtext"]) for each in items}

    def ask(self, *words: str) -> dict[str, Any]:
        """What `watchtower … --json` prints."""
        return document(*words, "--config", str(self.live.made.config_path))

    def logged(self, event: str) -> float:
        """Unix time of the next line of the tower's log with this event; waits for it."""
        line = self.live.process.wait_for(event, PATIENCE)
        return dt.datetime.fromisoformat(line["timestamp"]).timestamp()

    def wait_firing(self, *names: str) -> None:
        """Until exactly these alerts fire in Prometheus."""
        self.prometheus.wait(lambda: set(names) == self.prometheus.firing(), PATIENCE)


@contextlib.contextmanager
def rehearsal(directory: Path) -> Iterator[Stage]:
    """Start all of it below `directory`; all of it ends with the block."""
    with contextlib.ExitStack() as stack:
        inbox = stack.enter_context(receiving(HttpReceiver()))
        alertmanager = stack.enter_context(Alertmanager(directory / "alertmanager", inbox, GROUP_INTERVAL))
        notify = {
            "webhook_url": f"{inbox.url}/tower",
            "webhook_secret": SECRET,
            "grace_seconds": GRACE_SECONDS,
        }
        api, admin = free_ports(2)  # fixed, so that `watchtower status` knows where to ask
        listen = {"api": {"listen": f"127.0.0.1:{api}"}, "admin": {"listen": f"127.0.0.1:{admin}"}}
        live = stack.enter_context(live_tower(directory, settings={"notify": notify, **listen}))
        prometheus = stack.enter_context(
            Prometheus(
                directory / "prometheus",
                {JOB: live.admin_url.removeprefix("http://")},
                rules=[RULES / RECORDING, RULES / REGTEST],
                alertmanager=alertmanager.url.removeprefix("http://"),
                sooner=SOONER,
            )
        )
        yield Stage(live, prometheus, alertmanager, inbox)


def _alerts(post: Post, receiver: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = post.document["alerts"] if post.path == f"/{receiver}" else []
    return found


def _is_alert(name: str, status: str) -> Callable[[dict[str, Any]], bool]:
    return lambda alert: (alert["labels"]["alertname"], alert["status"]) == (name, status)


def _notices(post: Post) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = post.document["notices"] if post.path == "/tower" else []
    return found


def _is_signed(post: Post) -> bool:
    timestamp = post.headers["Watchtower-Timestamp"]
    expected = "v1=" + hmac.digest(SECRET.encode(), timestamp.encode() + b"." + post.body, "sha256").hex()
    return hmac.compare_digest(expected, post.headers["Watchtower-Signature"])


def _unix(monotonic: float) -> float:
    return time.time() - time.monotonic() + monotonic
