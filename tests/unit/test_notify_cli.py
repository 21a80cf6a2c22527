"""`watchtower notify test` says of each target whether it works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.receivers import HttpReceiver, receiving
from watchtower.cli.notify import command
from watchtower.cli.output import Context

pytestmark = pytest.mark.slow  # a real server


def tried(monkeypatch: pytest.MonkeyPatch, home: Path, *options: str, **settings: str) -> tuple[int, str, str]:
    """Exit code and what was printed."""
    monkeypatch.setenv("HOME", str(home))
    for name, value in settings.items():
        monkeypatch.setenv(f"STATE_CHANNEL_NOTIFY__{name}", value)
    done = CliRunner().invoke(command, ["test", *options], obj=Context(None, no_color=True))
    return done.exit_code, done.stdout, done.stderr


def test_without_a_target_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Exit code 2: a matter of configuration."""
    code, _, said = tried(monkeypatch, tmp_path)

    assert 2 == code
    assert "no target is set; set notify.webhook_url" in said


def test_each_target_gets_a_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One works, one does not: exit code 1, and both are told; no address is."""
    with receiving(HttpReceiver()) as http, receiving(HttpReceiver()) as failing:
        failing.statuses = [403]
        code, printed, _ = tried(
            monkeypatch,
            tmp_path,
            "--json",
            WEBHOOK_URL=f"http://127.0.0.1:{http.port}/hush",
            WEBHOOK_SECRET="0123456789abcdef",
            NTFY_URL=f"http://127.0.0.1:{failing.port}/hush",
        )
        post = http.posts.wait(1)[0]
    found = json.loads(printed)["targets"]

    assert 1 == code
    assert [("webhook", True, ""), ("ntfy", False, "it answers 403: token or rights are wrong")] == [
        (one["transport"], one["sent"], one["reason"]) for one in found
    ]
    assert ("test", "info") == (post.document["kind"], post.document["severity"])
    assert "hush" not in printed


def test_a_table_for_people(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Exit code 0 if all targets took it."""
    with receiving(HttpReceiver()) as http:
        code, printed, _ = tried(monkeypatch, tmp_path, NTFY_URL=f"http://127.0.0.1:{http.port}/t")

    assert 0 == code
    assert "sent" in printed
