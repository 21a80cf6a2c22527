"""docs/notifications.md and the schema beside it say what is sent."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from domain.events import AlertKind
from tests.support import notification_page
from tests.support.rules import RUNBOOK as RUNBOOK_OF_ALERTS
from watchtower.notify.alerts import ALERTS
from watchtower.notify.message import Sender, digest, encode, single, trial_message
from watchtower.notify.notice import Notice
from watchtower.notify.reasons import CONDITIONS
from watchtower.notify.webhook import signature
from watchtower.telemetry.runbook import RUNBOOK, runbook_url

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "notifications.md").read_text()
NOTIFY = Path(__file__).parents[2] / "watchtower" / "notify"
SENDER = Sender("ab" * 32, "regtest")
NOTICE = Notice(id="1" * 32, kind="breach_seen", severity="page", at=1, title="a", text="b", channel="c", sats=5)


def test_the_schema_is_made_from_the_struct() -> None:
    """After a change: python -m tests.support.notification_page > docs/notification.schema.json."""
    assert notification_page.page() == (DOCS / "notification.schema.json").read_text()


@pytest.mark.parametrize(
    "message", [single(SENDER, NOTICE), digest(SENDER, [NOTICE] * 30, dropped=3), trial_message(SENDER, 1)]
)
def test_what_is_sent_fits_the_schema(message: object) -> None:
    """One notice, a digest, a test."""
    Draft202012Validator(notification_page.schema()).validate(json.loads(encode(message)))  # type: ignore[arg-type]


def test_every_kind_is_on_the_page() -> None:
    """Kinds of the story, alerts of channels; readiness reasons are explained where they are listed."""
    told = set(re.findall(r'place,\s+(?:one,\s+)?"([a-z_]+)"', (NOTIFY / "story.py").read_text()))
    told |= {kind.name.lower() for kind in AlertKind if kind is not AlertKind.UNKNOWN}

    assert len(told) > 25
    assert [] == sorted(kind for kind in told if f"`{kind}`" not in PAGE)


def test_every_link_leads_to_a_section_of_the_runbook() -> None:
    """The same base as the alerts of Prometheus, and a heading for each."""
    text = "".join(path.read_text() for path in NOTIFY.glob("*.py"))
    used = set(re.findall(r'"(Watchtower[A-Z]\w+)"', text))
    runbook = (DOCS / "runbook.md").read_text()
    headings = {heading.lower() for heading in re.findall(r"^### (\w+)", runbook, re.MULTILINE)}

    assert {meaning.alert for meaning in ALERTS.values()} | {one.alert for one in CONDITIONS.values()} <= used
    assert [] == sorted(name for name in used if name.lower() not in headings)
    assert RUNBOOK == RUNBOOK_OF_ALERTS
    assert f"{RUNBOOK}#watchtowerbreachopen" == runbook_url("WatchtowerBreachOpen")


def test_the_check_on_the_page_takes_what_is_signed() -> None:
    """And nothing that was changed, is old, or has another secret."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, "notifications.md", "exec"), names)  # the page's own example
    check, now, body = names["is_from_the_tower"], int(time.time()), b'{"id": 1}'
    assert callable(check)

    def answer(timestamp: int, sent: bytes, secret: bytes) -> object:
        headers = {
            "Watchtower-Timestamp": str(timestamp),
            "Watchtower-Signature": signature(b"k" * 16, timestamp, body),
        }
        return check(headers, sent, secret)

    assert True is answer(now, body, b"k" * 16)
    assert [False, False, False] == [
        answer(now, body + b" ", b"k" * 16),
        answer(now - 1_000, body, b"k" * 16),
        answer(now, body, b"x" * 16),
    ]
