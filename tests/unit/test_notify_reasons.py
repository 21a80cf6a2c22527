"""Conditions of the whole tower: when somebody is told, and that the end is told to whoever heard of the beginning."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from watchtower.notify.reasons import CONDITIONS, QUIET, Held, Reasons
from watchtower.telemetry.readiness import SENTENCES

LOG_ID = bytes(16)
AWAY = {"node_unreachable": Held("The node does not answer.", "connection refused")}
ALONE: Mapping[str, Held] = {}


def kept(reasons: Reasons) -> dict[str, bytes]:
    """What a restart finds."""
    return {name: value for name, value in reasons.changes().items() if value is not None}


@pytest.mark.parametrize("name", sorted(SENTENCES))
def test_every_reason_is_in_the_table(name: str) -> None:
    """A new reason gets an urgency, or is quiet on purpose."""
    assert (name in CONDITIONS) != (name in QUIET)


def test_a_node_that_restarts_wakes_nobody() -> None:
    """Away for less than the grace period."""
    reasons = Reasons(LOG_ID, {}, grace=60)
    told = reasons.look(AWAY, 1_000, watching=False) + reasons.look(AWAY, 1_059, watching=False)

    assert [] == told + reasons.look(ALONE, 1_059.5, watching=True)


def test_a_lost_node_is_told_once_and_its_return_too() -> None:
    """With what was observed, how long it took, and what is at stake."""
    reasons = Reasons(LOG_ID, {}, grace=60)
    reasons.look(AWAY, 1_000, watching=False)
    (lost,) = reasons.look(AWAY, 1_060, watching=False, more="2 breaches wait.")
    again = reasons.look(AWAY, 1_500, watching=False)
    (back,) = reasons.look(ALONE, 1_900, watching=False)

    assert ("node_lost", "page", "begins", "Node lost", True) == (
        lost.kind,
        lost.severity,
        lost.status,
        lost.title,
        lost.act,
    )
    assert "The node does not answer. (connection refused) 2 breaches wait." == lost.text
    assert [] == again
    assert ("node_back", "page", "ends", "After 14 min. Nothing to do.", False) == (
        back.kind,
        back.severity,
        back.status,
        back.text,
        back.act,
    )


@pytest.mark.parametrize("name", ["wrong_chain", "log_damaged", "store_read_only", "disk_low"])
def test_what_does_not_end_by_itself_is_told_at_once(name: str) -> None:
    """No grace period."""
    (notice,) = Reasons(LOG_ID, {}, grace=60).look({name: Held("")}, 1_000, watching=False)

    assert (name, "page") == (notice.kind, notice.severity)


def test_a_node_that_syncs_has_ten_times_as_long() -> None:
    """It mostly ends by itself."""
    reasons = Reasons(LOG_ID, {}, grace=60)
    syncing = {"node_syncing": Held("")}

    assert [0, 0, 1] == [len(reasons.look(syncing, now, watching=False)) for now in (0, 599, 600)]


def test_a_restart_neither_tells_again_nor_forgets() -> None:
    """While it lasts: nothing. When it is over: its end, with the time since its beginning."""
    first = Reasons(LOG_ID, {}, grace=0)
    first.look(AWAY, 1_000, watching=False)
    second = Reasons(LOG_ID, kept(first), grace=0)
    starting = second.look(ALONE, 1_100, watching=False)
    still = second.look(AWAY, 1_101, watching=False)
    (back,) = second.look(ALONE, 1_120, watching=False)

    assert [] == starting + still
    assert ("node_back", "After 120 s. Nothing to do.") == (back.kind, back.text.replace("2 min", "120 s"))


def test_what_an_earlier_run_told_is_over_when_the_tower_watches() -> None:
    """Without the reason and without proof nothing is said; watching is the proof."""
    first = Reasons(LOG_ID, {}, grace=0)
    first.look(AWAY, 1_000, watching=False)
    second = Reasons(LOG_ID, kept(first), grace=0)

    assert [0, 1, 0] == [len(second.look(ALONE, 1_200, watching=watching)) for watching in (False, True, True)]
    assert {"reason/node_unreachable": None} == second.changes()


def test_each_time_has_an_id_of_its_own() -> None:
    """So that the second outage is not taken for the first one sent again."""
    reasons = Reasons(LOG_ID, {}, grace=0)
    told = [
        notice
        for now, held in ((1, AWAY), (2, ALONE), (3, AWAY), (4, ALONE))
        for notice in reasons.look(held, now, watching=True)
    ]

    assert (4, 4) == (len(told), len({notice.id for notice in told}))


def test_a_tower_that_stands_by_is_as_it_should_be() -> None:
    """No message."""
    assert [] == Reasons(LOG_ID, {}, grace=0).look({"standby": Held("")}, 1, watching=False)


def test_a_reason_of_another_version_still_wakes_somebody() -> None:
    """Unknown is urgent."""
    (notice,) = Reasons(LOG_ID, {}, grace=0).look({"new_one": Held("Something.")}, 1, watching=False)

    assert ("new_one", "page", "Not ready") == (notice.kind, notice.severity, notice.title)
