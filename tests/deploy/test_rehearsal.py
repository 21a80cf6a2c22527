"""The rehearsal: a real breach, and everything that an operator would see and hear of it, from first page to last."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from pathlib import Path

import pytest

from domain.chain import display
from domain.units import Side
from tests.support.dashboards.server import RULE_SECONDS, SCRAPE_SECONDS
from tests.support.live_tower import CHALLENGE_PERIOD
from tests.support.parties import Pair
from tests.support.rehearsal import Stage, rehearsal
from watchtower.telemetry.runbook import RUNBOOK

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
HEARTBEAT = "WatchtowerDeadMansSwitch"
BREACH = "WatchtowerBreachOpen"
NODE = "WatchtowerNodeUnreachable"
CONSEQUENCES = {"WatchtowerNotWatching"}
PROTECTED = "Am I protected? Yes."

Latencies = dict[str, float]
"""Seconds from the cause to what is named."""


def test_a_breach_is_seen_told_and_answered(tmp_path: Path) -> None:
    """Healthy, breach in the mempool, its block, the penalty to its end, the node away and back."""
    clock = Clock()
    with rehearsal(tmp_path) as stage:
        pair, _other = stage.live.open_channels(2)
        clock.ends("start")
        healthy(stage)
        clock.ends("healthy")
        latencies = breach_in_the_mempool(stage, pair)
        clock.ends("breach in the mempool")
        countdown(stage, pair)
        clock.ends("countdown")
        penalty_to_its_end(stage, pair)
        clock.ends("penalty to its end")
        latencies |= node_away_and_back(stage)
        clock.ends("node away and back")
        nothing_else_was_said(stage)
    keep(latencies, clock.acts)


# ── the story ────────────────────────────────────────────────────────────────────────────────────────────────


def healthy(stage: Stage) -> None:
    """Only the dead man's switch fires, and its sign of life arrives; the page says yes."""
    stage.prometheus.wait_seen()
    stage.wait_firing(HEARTBEAT)
    stage.alert("heartbeat", HEARTBEAT)
    stage.wait_page(PROTECTED, "2 channels with 2,000,000 sat are protected")

    assert (set(), set()) == (stage.alerts("page"), stage.alerts("ticket"))
    assert ("Yes", ("0", "none open")) == (stage.widget()["Protected"][0], stage.widget()["Breaches"])


def breach_in_the_mempool(stage: Stage, pair: Pair) -> Latencies:
    """Log, own notification, Prometheus and Alertmanager tell it; no block is needed for any of them."""
    sent = time.time()
    txid = stage.live.breach(pair)
    seen, answered = stage.logged("breach_detected"), stage.logged("penalty_broadcast")
    told, page = stage.told("breach_seen"), stage.alert("page", BREACH)
    stage.wait_firing(HEARTBEAT, BREACH)
    stage.wait_page("Am I protected? Defending.", "not in a block yet", display(txid))

    assert told.at - seen < 30.0  # some hundredths on a quiet machine: the table has them
    assert (display(txid), "page") == (told.body["txid"], told.body["severity"])
    assert [] == stage.unsigned()
    notes = page.body["annotations"]
    assert ("1 breach(es) in progress", "page") == (notes["summary"], page.body["labels"]["severity"])
    assert [] == dead_links(notes["runbook_url"], told.body["runbook_url"])
    return {
        "breach sent -> event logged": seen - sent,
        "breach sent -> penalty broadcast": answered - sent,
        "breach sent -> own notification": told.at - sent,
        "event logged -> own notification": told.at - seen,
        "breach sent -> alert fires": moment(page.body["startsAt"]) - sent,
        "breach sent -> page at the webhook": page.at - sent,
    }


def countdown(stage: Stage, pair: Pair) -> None:
    """A block with the commitment alone: the clock runs, and page, widget and commands say the same."""
    stage.live.node.generate_block([pair.commitment(Side.A, 1)])
    stage.live.wait_height()
    stage.wait_page("Defending.", f"{CHALLENGE_PERIOD - 1} blocks left")
    stage.live.node.generate_block()
    stage.live.wait_height()
    stage.wait_page("Defending.", f"{CHALLENGE_PERIOD - 2} blocks left")

    listed, status = stage.ask("breach", "list"), stage.ask("status")
    names = ("channel_id", "commit_txid", "value", "deadline", "blocks_left", "answer", "fee")
    other = ("channel_id", "txid", "value", "deadline", "left", "stage", "fee")
    assert [[each[name] for name in names] for each in listed["breaches"]] == [
        [each[name] for name in other] for each in status["breaches"]
    ]
    assert [(CHALLENGE_PERIOD - 2, "broadcast")] == [
        (each["blocks_left"], each["answer"]) for each in listed["breaches"]
    ]
    assert ("Defending", ("1", f"{CHALLENGE_PERIOD - 2} blocks left")) == (
        stage.widget()["Protected"][0],
        stage.widget()["Breaches"],
    )


def penalty_to_its_end(stage: Stage, pair: Pair) -> None:
    """One block ends the alert, 100 end the story; each is told."""
    stage.live.mine(1)
    stage.told("penalty_confirmed")
    stage.alert("page", BREACH, "resolved")
    stage.wait_firing(HEARTBEAT)
    stage.wait_page(PROTECTED, "The penalty is in a block, 1 of 100 deep.")
    stage.live.mine(5)
    stage.wait_page("The penalty is in a block, 6 of 100 deep.")
    stage.live.mine(94)
    stage.told("penalty_final")
    stage.live.wait_status(pair, "RESOLVED")
    stage.wait_page(PROTECTED, "1 channel with 1,000,000 sat is protected")

    assert ("0", "none open") == stage.widget()["Breaches"]
    assert [("resolved", None)] == [
        (each["answer"], each["blocks_left"]) for each in stage.ask("breach", "list", "--all")["breaches"]
    ]


def node_away_and_back(stage: Stage) -> Latencies:
    """One page for its cause, none for what follows from it; then all is well again."""
    node = stage.live.node
    node.rpc("gettxoutsetinfo")  # writes the newest blocks down: no peer could give them back after the kill
    node.kill()
    killed = time.time()
    lost, page = stage.told("node_lost"), stage.alert("page", NODE)
    stage.prometheus.wait(lambda: CONSEQUENCES <= suppressed(stage), 120)
    stage.wait_page("Am I protected? No.")

    started = time.time()
    node.launch()
    back, over = stage.told("node_back"), stage.alert("page", NODE, "resolved")
    stage.wait_firing(HEARTBEAT)
    stage.wait_page(PROTECTED)

    assert [] == dead_links(page.body["annotations"]["runbook_url"], lost.body["runbook_url"])
    assert ["page", "page"] == [each.body["severity"] for each in (lost, back)]
    return {
        "node killed -> own notification": lost.at - killed,
        "node killed -> page at the webhook": page.at - killed,
        "node started again -> own notification": back.at - started,
        "node started again -> end of the page at the webhook": over.at - started,
    }


def nothing_else_was_said(stage: Stage) -> None:
    """Two pages in all, no ticket, and every message of the tower was signed."""
    assert ({BREACH, NODE}, set()) == (stage.alerts("page"), stage.alerts("ticket")), stage.diary()
    assert [] == stage.unsigned()


# ── what it is measured by ───────────────────────────────────────────────────────────────────────────────────


class Clock:
    """How long the acts take: `acts` in seconds by name."""

    def __init__(self) -> None:
        self.acts: dict[str, float] = {}
        self._last = time.monotonic()

    def ends(self, act: str) -> None:
        """This act has ended, the next begins."""
        now = time.monotonic()
        self.acts[act], self._last = now - self._last, now


def dead_links(*urls: str) -> list[str]:
    """Those that are not the address of a section which the runbook has."""
    lines = (ROOT / "docs" / "runbook.md").read_text().splitlines()
    sections = {f"{RUNBOOK}#{line.lstrip('# ').lower()}" for line in lines if line.startswith("### ")}
    return [url for url in urls if url not in sections]


def moment(text: str) -> float:
    """Unix time of a time as Alertmanager writes it."""
    return dt.datetime.fromisoformat(text).timestamp()


def suppressed(stage: Stage) -> set[str]:
    """Alerts that Alertmanager has and does not deliver."""
    return {name for name, state in stage.alertmanager.states().items() if state == "suppressed"}


def keep(latencies: Latencies, acts: dict[str, float]) -> None:
    """Print the table, and write it to build/rehearsal.json."""
    (ROOT / "build").mkdir(exist_ok=True)
    kept = {
        "scrape_seconds": SCRAPE_SECONDS,
        "rule_seconds": RULE_SECONDS,
        "latency_seconds": {name: round(value, 3) for name, value in latencies.items()},
        "act_seconds": {name: round(value, 1) for name, value in acts.items()},
    }
    (ROOT / "build" / "rehearsal.json").write_text(json.dumps(kept, indent=1) + "\n")
    lines = [f"{name:50} {value * 1000:8.0f} ms" for name, value in latencies.items()]
    lines += [f"{name:50} {value:8.1f} s" for name, value in (acts | {"all": sum(acts.values())}).items()]
    sys.stdout.write("\n".join(lines) + "\n")
