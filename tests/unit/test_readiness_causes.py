"""Every readiness reason: what sets it, that it is set within a minute, and that it clears by itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.new_towers import create
from tests.support.parties import open_pair
from tests.support.towers import Bench
from tests.unit.test_watch import Stage, report
from watchtower import run
from watchtower.bootstrap.parts import open_parts
from watchtower.chain.follow import CursorUnknown, NodeBehind
from watchtower.config import load
from watchtower.http.services import Standing
from watchtower.node.blocks import BlockUnparseable
from watchtower.node.transport import CALL_SECONDS
from watchtower.ports import NodeError
from watchtower.store import places
from watchtower.store.create import open_store
from watchtower.store.event_store import SqliteEventStore
from watchtower.telemetry.catalog import BLOCKING_REASONS, OTHER_REASONS
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import SENTENCES
from watchtower.watch import bells, watch

MINUTE = 60.0
STREAM = "c" + "x" * 22
ANYWHERE = {"listen": "127.0.0.1:0"}
ANY_ERROR = "test_every_error_is_a_reason_that_clears_by_itself"
DOUBT = "test_a_doubt_of_the_follower_is_a_reason_that_clears_by_itself"
SHOWN_BY = {
    "node_unreachable": ANY_ERROR,
    "node_warming_up": ANY_ERROR,
    "node_syncing": "test_a_node_that_still_downloads_is_not_trusted",
    "node_behind": DOUBT,
    "wrong_chain": ANY_ERROR,
    "cursor_unknown": DOUBT,
    "block_unavailable": ANY_ERROR,
    "block_unparseable": DOUBT,
    "tip_stale": "test_fault_N12_no_block_for_ninety_minutes_is_a_reason",
    "second_source_ahead": "test_fault_N12_second_source_ahead",
    "zmq_silent": "test_silence_is_a_reason_until_both_topics_are_connected",
    "audit_mismatch": "test_an_audit_that_disagrees_is_a_reason_until_it_agrees",
    "store_read_only": ANY_ERROR,
    "store_unreachable": "test_fault_the_server_is_away_while_a_channel_is_cheated",
    "standby": "test_fault_takeover_with_a_breach_in_the_middle",
    "disk_low": "test_fault_P4_little_space_is_told_and_untold",
    "log_damaged": "test_damaged_channels_are_a_reason_from_the_start",
    "behind_receipts": "test_a_rolled_back_log_is_a_reason_until_all_owners_came",
    "task_stalled": "test_fault_P12_a_stalled_thread",
}
"""Reason -> the test in which its cause comes and goes."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NodeBehind("less work"), "node_behind"),
        (CursorUnknown("foreign"), "cursor_unknown"),
        (BlockUnparseable("odd"), "block_unparseable"),
    ],
)
def test_a_doubt_of_the_follower_is_a_reason_that_clears_by_itself(error: NodeError, reason: str) -> None:
    """It stands in the report of a pass whose responder worked; the next good pass takes it back."""
    stage = Stage(report(), report(error=error), report()).turns(2)
    held, phase = stage.reasons, stage.board.snapshot().phase
    stage.turns(1)

    assert ([reason], "degraded") == (held, phase)
    assert ([], "watching") == (stage.reasons, stage.board.snapshot().phase)


@pytest.mark.slow
def test_damaged_channels_are_a_reason_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log names them when it is opened; the reason ends with the next start, after a backup was restored."""
    made = create(tmp_path / "t", tmp_path / "t" / "config.toml", "regtest", {"api": ANYWHERE, "admin": ANYWHERE})

    def damaged(*arguments: Any, **options: Any) -> SqliteEventStore:
        store = open_store(*arguments, **options)
        store.damaged = frozenset({STREAM})
        return store

    monkeypatch.setattr(places, "open_store", damaged)
    settings = load({}, config_path=str(made.config_path)).settings
    parts = open_parts(settings, Metrics(build=("0", "0", "regtest", "sqlite")))
    reasons = parts.board.snapshot().reasons
    parts.close()

    assert [("log_damaged", f"channels: {STREAM}")] == [(reason.name, reason.detail) for reason in reasons]


def test_every_reason_has_its_test() -> None:
    """A reason that no test sets and clears could never be set, or hold for ever."""
    sources = "\n".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    defined = set(re.findall(r"def (test_\w+)\(", sources))

    assert set(BLOCKING_REASONS + OTHER_REASONS) == set(SHOWN_BY)
    assert set() == set(SHOWN_BY.values()) - defined


def test_every_reason_is_set_within_a_minute() -> None:
    """The longest waits in front of a reason: for the next pass and its question, for a topic, for a thread."""
    assert watch.BREACH_IDLE + CALL_SECONDS < MINUTE
    assert bells.PATIENCE + run.TICK < MINUTE
    assert run.STALL <= MINUTE


@pytest.mark.asyncio
async def test_reasons_are_told_to_anybody_in_sentences(tmp_path: Path) -> None:
    """/readyz needs no token, names each reason with what helps, and nothing of what was observed."""
    tower = Bench(tmp_path)
    tower.registered(open_pair())
    tower.standing = Standing(
        operational=True,
        watching=False,
        phase="degraded",
        reasons=tuple(f"{reason}: {sentence}" for reason, sentence in SENTENCES.items()),
        details=("node_unreachable: connection refused by 192.0.2.7:8332",),
    )
    async with tower.http() as http:
        del http.headers["Authorization"]
        answer = await http.get("/readyz")

    assert (200, False) == (answer.status_code, answer.json()["watching"])
    assert [f"{reason}: {sentence}" for reason, sentence in SENTENCES.items()] == answer.json()["reasons"]
    assert "192.0.2.7" not in answer.text
