"""SIGHUP to a real tower: new level, new targets, new quotas without a restart; mistakes change nothing."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import httpx

from tests.support.receivers import HttpReceiver, receiving
from tests.support.service import Run
from watchtower.devnode.regtest import RegtestNode
from watchtower.new_tower import NewTower


def changed(path: Path, section: str, line: str) -> str:
    """Put a line at the head of a section (made if it is missing); returns the text from before."""
    old = path.read_text()
    head = f"[{section}]\n"
    body = old if head in old else f"{old}\n{head}"
    path.write_text(body.replace(head, f"{head}{line}\n"))
    return old


def test_a_running_tower_takes_over_what_may_change(tower: NewTower, run: Run, tmp_path: Path) -> None:
    """Level, rate of requests and a target at once; the limit of a channel's value waits for a restart."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        service = run(tower.config_path, {"NOTIFY_SOCKET": str(tmp_path / "notify")})
        while "READY=1" != manager.recv(300).decode():
            pass  # told a moment after the phase has changed; before that no reload is announced
        changed(tower.config_path, "log", 'level = "debug"')
        changed(tower.config_path, "policy", "max_total_capacity = 5_000_000")
        tower.config_path.write_text(f"max_value = 60_000\n{tower.config_path.read_text()}")

        service.process.send_signal(signal.SIGHUP)
        told = service.wait_for("config_reloaded")
        question = service.wait_for("config_questioned")
        datagrams = [manager.recv(300).decode()]
        while not (datagrams[-1] == "READY=1" and any(text.startswith("RELOADING=1\n") for text in datagrams)):
            datagrams.append(manager.recv(300).decode())

    assert ["max_value"] == told["needs_restart"]
    assert ["policy.max_total_capacity", "log.level"] == told["changed"]
    assert "max_value has changed and needs a restart; the old value stays" == question["reason"]
    service.process.send_signal(signal.SIGHUP)
    assert [] == service.wait_for("config_reloaded")["changed"]
    assert service.ready()["watching"]
    assert 0 == service.terminate()


def test_a_wrong_file_changes_nothing(tower: NewTower, run: Run) -> None:
    """Each mistake is named; when it is mended, the next signal takes everything over."""
    service = run(tower.config_path)
    service.wait_watching()
    good = changed(tower.config_path, "log", 'level = "loud"')
    service.process.send_signal(signal.SIGHUP)
    refused = service.wait_for("config_refused")
    tower.config_path.write_text("this is [not TOML")
    service.process.send_signal(signal.SIGHUP)
    broken = service.wait_for("config_refused")
    tower.config_path.write_text(good)
    service.process.send_signal(signal.SIGHUP)
    assert [] == service.wait_for("config_reloaded")["changed"]
    assert "log.level must be one of debug, info, warning, error, critical" in refused["reason"]
    assert "is not TOML" in broken["reason"]
    assert 0 == service.terminate()


def test_a_new_target_is_told_what_happens_next(node: RegtestNode, tower: NewTower, run: Run) -> None:
    """A tower that told nobody tells the new topic that its node is lost; the topic's address is not logged."""
    service = run(tower.config_path)
    service.wait_watching()
    with receiving(HttpReceiver()) as http:
        changed(tower.config_path, "notify", f'ntfy_url = "http://127.0.0.1:{http.port}/topic51"\ngrace_seconds = 0.0')
        service.process.send_signal(signal.SIGHUP)
        told = service.wait_for("config_reloaded")
        node.stop()
        posts = http.posts.wait(1, seconds=60)
        assert 0 == service.terminate()
    assert {"notify.ntfy_url", "notify.grace_seconds"} == set(told["changed"])
    assert "/topic51" == posts[0].path
    assert [] == [line for line in service.lines if "topic51" in str(line)]


def test_a_quota_counts_from_the_next_request(tower: NewTower, run: Run) -> None:
    """With one connection allowed from now on, the second one is told that the service is too busy."""
    service = run(tower.config_path)
    service.wait_watching()
    changed(tower.config_path, "api", "max_connections = 1")
    service.process.send_signal(signal.SIGHUP)
    assert ["api.max_connections"] == service.wait_for("config_reloaded")["changed"]
    headers = {"Authorization": f"Bearer {tower.token_path.read_text().strip()}"}
    url = f"http://{service.address('api')}"
    with (
        httpx.Client(base_url=url, headers=headers, timeout=20) as http,
        http.stream("GET", "/v1/events?after=0") as stream,
    ):
        lines = stream.iter_lines()
        next(lines)  # the connection stays as long as the lines do
        assert 503 == httpx.get(f"{url}/healthz", timeout=20).status_code
    assert 0 == service.terminate()
