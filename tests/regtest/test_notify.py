"""A real tower on a real node tells people what happens to a real breach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.live_tower import Changes, live_tower
from tests.support.receivers import HttpReceiver, receiving

KEY = "0123456789abcdef0123456789abcdef"
PATIENCE = 90.0
"""Seconds; behind five messages each further one may take ten, and a node that comes back has its time to load."""


def notify(http: HttpReceiver) -> Changes:
    """Settings with a webhook; a lost node is told at once."""
    url = f"http://127.0.0.1:{http.port}/"
    return {"notify": {"webhook_url": url, "webhook_secret": KEY, "grace_seconds": 0.0}}


def kinds(posts: list[Any]) -> list[str]:
    """Kinds of what was told, in its order; messages of the same moment may come as one digest."""
    return [notice["kind"] for post in posts for notice in post.document["notices"]]


def told(http: HttpReceiver, kind: str) -> list[Any]:
    """What has arrived once this kind of message has."""
    return http.posts.wait_for(lambda posts: kind in kinds(posts), PATIENCE)


def test_a_breach_is_told_to_its_end_over_a_kill_and_a_lost_node(tmp_path: Path, prepared_chain: Path) -> None:
    """Seen, sent, confirmed and final, once each and in order, although tower and receiver fail; then the node."""
    with (
        receiving(HttpReceiver()) as http,
        live_tower(tmp_path, prepared=prepared_chain, settings=notify(http)) as live,
    ):
        (pair,) = live.open_channels(1, updates=2)
        http.statuses = [503] * 1_000  # the receiver fails while the breach is seen and answered
        live.breach(pair)
        first = http.tries.wait(1)[0]
        live.process.kill()
        http.statuses = []
        live.restart()
        seen = told(http, "penalty_sent")[0]
        live.mine(1)
        told(http, "penalty_confirmed")
        live.mine(99)
        breach = told(http, "penalty_final")
        live.node.stop()
        told(http, "node_lost")
        live.node.restart()
        posts = told(http, "node_back")

    assert ["breach_seen", "penalty_sent", "penalty_confirmed", "penalty_final"] == kinds(breach)
    assert first.body == seen.body
    assert ("page", "regtest", False) == tuple(seen.document[name] for name in ("severity", "network", "act"))
    assert ["node_lost", "node_back"] == [kind for kind in kinds(posts) if kind in ("node_lost", "node_back")]
