"""The task `notifier` and its couriers against real receivers: nothing lost, nothing repeated, nobody held up."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from tests.support.notifying import TOWER, Scene, hook
from tests.support.receivers import HttpReceiver, SmtpReceiver, receiving
from tests.support.tries import least
from tests.unit.test_notify_story import COMMIT, PERIOD, H, breach, confirmed, connected, prepared, resolved, sent
from watchtower.config import ConfigError, NotifySettings, Secret
from watchtower.notify import courier as courier_module
from watchtower.notify.breaches import Tracked
from watchtower.notify.courier import BURST, REFILL_SECONDS, Bucket

pytestmark = pytest.mark.slow  # real servers and threads

LIFE = (connected(H), breach(), prepared(), sent(), breach(H + 1), confirmed(H + 2), resolved())
TOLD = ["breach_seen", "penalty_sent", "penalty_confirmed", "penalty_final"]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Ends with the test."""
    one = Scene(tmp_path)
    yield one
    one.stop()


@pytest.fixture
def http() -> Iterator[HttpReceiver]:
    """Where the webhook points to."""
    with receiving(HttpReceiver()) as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other quickly."""
    monkeypatch.setattr(courier_module, "FIRST_RETRY", 0.01)
    monkeypatch.setattr(courier_module, "LONGEST_RETRY", 0.05)


def kinds(posts: list[Any]) -> list[str]:
    """Kinds of the messages that arrived."""
    return [post.document["kind"] for post in posts]


def test_a_breach_is_told_in_order(scene: Scene, http: HttpReceiver) -> None:
    """From the first sight to the end of it, and whose tower says so."""
    scene.start(hook(http))
    scene.record(*LIFE)
    posts = http.posts.wait(4)

    assert TOLD == kinds(posts)
    assert (TOWER, "regtest") == (posts[0].document["tower"], posts[0].document["network"])


def test_a_breach_arrives_within_a_second(scene: Scene, http: HttpReceiver) -> None:
    """From the commit of the event to the arrival of the message; a busy machine may take ten times as long."""
    scene.start(hook(http))

    def arrival() -> float:
        before = len(http.posts.all)
        event = msgspec.structs.replace(breach(H), txid=before.to_bytes(32, "big"))
        began = time.monotonic()
        scene.record(event, stream=f"c{before:022d}")
        return float(http.posts.wait(before + 1)[before].at - began)

    assert least(arrival, 10.0) < 10.0


def test_history_is_not_told(scene: Scene, http: HttpReceiver) -> None:
    """A first start with an old log tells what comes after it, with what it needs to know of before."""
    scene.record(*LIFE[:3])
    scene.open = [Tracked(stream="c" + "x" * 22, txid=COMMIT, sequence=3, value=100_000, bids=((b"\x02" * 32, 111),))]
    scene.start(hook(http))
    scene.record(*LIFE[3:])
    posts = http.posts.wait(4)

    assert ["notifications_begin", "penalty_sent", "penalty_confirmed", "penalty_final"] == kinds(posts)
    assert "Notifications begin: 1 breaches open" == posts[0].document["title"]


def test_an_orderly_restart_repeats_nothing(scene: Scene, http: HttpReceiver) -> None:
    """And what happens between two runs is told by the second."""
    scene.start(hook(http))
    scene.record(*LIFE[:4])
    http.posts.wait(2)
    scene.stop()
    scene.record(*LIFE[4:])
    scene.start(hook(http))

    assert TOLD == kinds(http.posts.wait(4))
    scene.stop()
    assert 4 == len(http.tries.all)


def test_what_was_not_delivered_comes_after_a_restart(scene: Scene, http: HttpReceiver) -> None:
    """Under the id of the first tries, byte for byte."""
    http.statuses = [500] * 1_000
    scene.start(hook(http))
    scene.record(*LIFE)
    http.tries.wait(3)
    scene.stop()
    http.statuses = []
    tried = {post.document["id"] for post in http.tries.all}
    scene.start(hook(http))
    posts = http.posts.wait(4)

    assert TOLD == kinds(posts)
    assert {posts[0].document["id"]} == tried
    assert 1 == len({post.body for post in http.tries.all if post.document["id"] in tried})


def test_a_run_that_was_killed_loses_nothing(scene: Scene, http: HttpReceiver) -> None:
    """After each single step of the outbox, the next run tells all that is missing; ids tell what came twice."""
    scene.start(hook(http))
    abandoned = scene.notifier
    assert abandoned is not None
    http.statuses = [-2]  # the message is on its way for ever
    scene.record(*LIFE)
    http.tries.wait(1)
    scene.notifier = None
    scene.start(hook(http))
    http.posts.wait_for(lambda posts: set(TOLD) <= set(kinds(posts)))
    http.released.set()
    abandoned.stop(1)

    assert set(TOLD) == set(kinds(http.posts.all))
    assert 4 == len({post.document["id"] for post in http.posts.all})


def test_a_thousand_breaches_are_few_messages(scene: Scene, http: HttpReceiver) -> None:
    """And none of them is missing from the numbers."""
    scene.start(hook(http))
    for number in range(1_000):
        event = msgspec.structs.replace(breach(H), txid=number.to_bytes(32, "big"))
        scene.record(event, stream=f"c{number:022d}")
    posts = http.posts.wait_for(lambda posts: sum(post.document["count"] for post in posts) >= 1_000, 90)
    took = posts[-1].at - posts[0].at

    assert 1_000 == sum(post.document["count"] for post in posts)
    assert len(posts) <= BURST + 1 + took / REFILL_SECONDS


def test_a_target_that_hangs_holds_up_no_other(
    scene: Scene, http: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a thread of its own: the letters are there while the other one still waits for its first answer."""
    monkeypatch.setattr("watchtower.notify.sending.STEP_SECONDS", 60.0)
    monkeypatch.setattr("watchtower.notify.sending.SEND_SECONDS", 60.0)
    http.statuses = [-2] * 10
    with receiving(SmtpReceiver()) as smtp:
        mail = {"smtp_url": Secret(f"smtp://127.0.0.1:{smtp.port}"), "mail_from": "t@e.org", "mail_to": "a@e.org"}
        scene.start(hook(http, **mail))
        scene.record(*LIFE)
        letters = smtp.letters.wait(4)
        tries = len(http.tries.all)
        http.released.set()
        scene.stop()

    assert ["[page]", "[ticket]", "[ticket]", "[ticket]"] == [subject(letter.text) for letter in letters]
    assert tries <= 1


def subject(mail: str) -> str:
    """The urgency in the subject of a mail."""
    return next(line.split()[1] for line in mail.splitlines() if line.startswith("Subject:"))


def test_tries_are_counted_and_logged_without_addresses(scene: Scene, http: HttpReceiver) -> None:
    """Two failures, then it arrives; the log says why and how soon it is tried again."""
    http.statuses = [500, 503]
    with capture_logs() as logs:
        scene.start(hook(http))
        scene.record(*LIFE[:2])
        http.posts.wait(1)
        scene.stop()
    failed = [line for line in logs if line["event"] == "notification_failed"]

    assert (1, 2, 0) == (scene.counted("sent"), scene.counted("failed"), scene.counted("dropped"))
    assert ["it answers 500", "it answers 503"] == [line["reason"] for line in failed]
    said = json.dumps(logs)
    assert (False, False) == ("127.0.0.1" in said, f":{http.port}" in said)


def test_a_message_that_is_refused_again_and_again_is_given_up(scene: Scene, http: HttpReceiver) -> None:
    """It must not stand in the way of the next ones for ever; refusals of the sender are another matter."""
    http.statuses = [413] * courier_module.MESSAGE_TRIES
    scene.start(hook(http))
    scene.record(*LIFE[:4])

    assert ["penalty_sent"] == kinds(http.posts.wait(1))
    scene.stop()
    assert 1 == scene.counted("dropped")


def test_a_wrong_token_is_tried_for_ever(scene: Scene, http: HttpReceiver) -> None:
    """Whoever mends it gets what waited."""
    http.statuses = [401] * (3 * courier_module.MESSAGE_TRIES)
    scene.start(hook(http))
    scene.record(*LIFE[:2])

    assert ["breach_seen"] == kinds(http.posts.wait(1))


def test_less_urgent_things_are_not_sent(scene: Scene, http: HttpReceiver) -> None:
    """With `page` only what wakes somebody, with `info` everything."""
    scene.start(hook(http, min_severity="page"))
    scene.record(*LIFE)
    http.posts.wait(1)
    scene.stop()
    scene.start(hook(http, min_severity="info"))
    scene.record(connected(H), breach(H + 1))

    assert ["breach_seen", "breach_seen"] == kinds(http.posts.wait(2))


def test_a_lost_node_and_its_return_are_told(scene: Scene, http: HttpReceiver) -> None:
    """With what is at stake, and over a restart in between."""
    scene.start(hook(http))
    scene.record(connected(H), breach(H))
    http.posts.wait(1)
    scene.holds("node_unreachable", "refused by http://me:hush@10.0.0.1")
    lost = http.posts.wait(2)[1].document
    scene.stop()
    scene.nothing_holds()
    scene.start(hook(http))
    posts = http.posts.wait(3)

    assert ["breach_seen", "node_lost", "node_back"] == kinds(posts)
    assert lost["text"].endswith(
        "1 breaches wait for a penalty in a block: 100,000 sat, nearest deadline in 23 blocks."
    )
    assert "hush" not in lost["text"]


def test_a_failing_backup_is_told(scene: Scene, http: HttpReceiver) -> None:
    """It is no readiness reason, and still worth a look."""
    scene.start(hook(http))
    scene.troubles = {"backup_failed": "no space left"}
    begins = http.posts.wait(1)
    scene.troubles = {}
    ends = http.posts.wait(2)

    assert [("backup_failed", "begins"), ("backup_failed", "ends")] == [
        (post.document["kind"], post.document["status"]) for post in ends
    ]
    assert "(no space left)" == begins[0].document["text"]


def test_other_targets_tell_of_one_that_fails(
    scene: Scene, http: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some time; a target cannot tell of itself."""
    monkeypatch.setattr("watchtower.notify.notifier.TARGET_PATIENCE", 0.05)
    with receiving(SmtpReceiver()) as smtp:
        smtp.greeting = "554 go away"
        mail = {"smtp_url": Secret(f"smtp://127.0.0.1:{smtp.port}"), "mail_from": "t@e.org", "mail_to": "a@e.org"}
        scene.start(hook(http, **mail))
        scene.record(*LIFE[:2])
        posts = http.posts.wait(2)
        scene.stop()

    assert ["breach_seen", "notifications_failed"] == kinds(posts)
    assert "email: the mail server greets with 554" in posts[1].document["text"]


def test_other_settings_are_taken_while_it_runs(scene: Scene, http: HttpReceiver) -> None:
    """Another address gets what comes; settings that cannot be used change nothing."""
    with receiving(HttpReceiver()) as other:
        notifier = scene.start(hook(http))
        scene.record(*LIFE[:2])
        http.posts.wait(1)
        with pytest.raises(ConfigError, match="ca_path cannot be used"):
            notifier.reload(NotifySettings(ntfy_url=Secret("https://n.example/t"), ca_path="/nowhere"))
        notifier.reload(hook(other))
        scene.record(*LIFE[2:])

        assert TOLD[1:] == kinds(other.posts.wait(3))
        scene.stop()
    assert 1 == len(http.tries.all)


def test_without_targets_nothing_runs_and_nothing_is_kept(scene: Scene, http: HttpReceiver) -> None:
    """A target that comes later hears of nothing before it."""
    notifier = scene.start(NotifySettings())
    scene.record(*LIFE[:2])
    kept = scene.path.exists()
    notifier.reload(hook(http))
    scene.record(*LIFE[:1], *LIFE[5:])
    posts = http.posts.wait(2)
    notifier.reload(NotifySettings())

    assert (False, False) == (kept, scene.path.exists())
    assert ["penalty_confirmed", "penalty_final"] == kinds(posts)


def test_a_tower_that_took_over_begins_anew(scene: Scene, http: HttpReceiver) -> None:
    """What it had told when it led before is long past; that it leads now is news."""
    scene.start(hook(http))
    scene.stop()
    scene.record(*LIFE)
    scene.start(hook(http), took_over=True)

    assert ["took_over"] == kinds(http.posts.wait(1))


def test_an_error_of_its_own_ends_a_turn_not_the_task(
    scene: Scene, http: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins again from what is stored."""
    monkeypatch.setattr("watchtower.watch.recurring.RETRY_SECONDS", 0.05)
    scene.start(hook(http))
    scene.broken = True
    scene.record(*LIFE)
    posts = http.posts.wait(4)
    scene.stop()

    assert TOLD == kinds(posts)
    assert 1 == scene.value("watchtower_task_restarts_total", task="notifier")


def test_a_damaged_outbox_is_replaced(scene: Scene, http: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Telling goes on at the end of the log."""
    monkeypatch.setattr("watchtower.watch.recurring.RETRY_SECONDS", 0.05)
    scene.start(hook(http))
    with sqlite3.connect(scene.path) as other:
        other.execute("DROP TABLE facts")
    other.close()
    scene.record(connected(H))
    until(lambda: 1 == scene.value("watchtower_task_restarts_total", task="notifier"))
    scene.record(*LIFE)

    assert TOLD == kinds(http.posts.wait(4))


def test_an_outbox_that_is_locked_for_a_while_loses_nothing(
    scene: Scene, http: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another program does with the file must not end telling for the rest of the run."""
    monkeypatch.setattr("watchtower.watch.recurring.RETRY_SECONDS", 0.05)
    monkeypatch.setattr("watchtower.store.notices.BUSY_SECONDS", 0.01)
    scene.start(hook(http))
    with closing(sqlite3.connect(scene.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        scene.record(*LIFE)
        until(lambda: 2 <= scene.value("watchtower_task_restarts_total", task="notifier"))

    assert TOLD == kinds(http.posts.wait(4))


def test_a_start_with_a_locked_outbox_is_a_start(
    scene: Scene, http: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tower watches, and tells as soon as it can."""
    monkeypatch.setattr("watchtower.watch.recurring.RETRY_SECONDS", 0.05)
    monkeypatch.setattr("watchtower.store.notices.BUSY_SECONDS", 0.01)
    scene.start(hook(http))
    scene.stop()
    with closing(sqlite3.connect(scene.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with capture_logs() as logs:
            scene.start(hook(http))
        scene.record(*LIFE)

    assert "outbox_failed" in [line["event"] for line in logs]
    assert TOLD == kinds(http.posts.wait(4))


def test_an_outbox_that_cannot_be_removed_is_no_reason_not_to_start(scene: Scene) -> None:
    """It is told, and the tower watches."""
    scene.path.mkdir()
    with capture_logs() as logs:
        scene.start(NotifySettings())

    assert ["outbox_failed"] == [line["event"] for line in logs]


def test_waiting_messages_are_a_metric(scene: Scene, http: HttpReceiver) -> None:
    """As many as the target that is furthest behind has not got."""
    http.statuses = [500] * 100_000
    scene.start(hook(http))
    scene.record(*LIFE)
    http.tries.wait(2)
    until(lambda: 4 == scene.value("watchtower_queue_depth", queue="notifications"))


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Until true; fails after the time."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        threading.Event().wait(0.02)


def test_a_deadline_that_nears_is_told_over_restarts_once(scene: Scene, http: HttpReceiver) -> None:
    """The steps that were told are kept."""
    scene.start(hook(http))
    scene.record(breach(H), connected(H + PERIOD - 7))
    http.posts.wait(2)
    scene.stop()
    scene.start(hook(http))
    scene.record(connected(H + PERIOD - 6), connected(H + PERIOD - 4))
    posts = http.posts.wait(3)

    assert ["breach_seen", "deadline_approaching", "deadline_approaching"] == kinds(posts)
    assert [6, 3] == [post.document["notices"][0]["blocks_left"] for post in posts[1:]]


def test_a_bucket_lets_a_burst_pass_and_then_one_at_a_time() -> None:
    """Five at once, then one per ten seconds."""
    now = [0.0]
    bucket = Bucket(lambda: now[0])
    bucket.take(BURST)
    empty = (bucket.available(), bucket.wait())
    now[0] += REFILL_SECONDS

    assert ((0, REFILL_SECONDS), 1) == (empty, bucket.available())
    now[0] += 1_000
    assert BURST == bucket.available()
