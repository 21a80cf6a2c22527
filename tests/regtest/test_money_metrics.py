"""A breach on a real node as a scraper sees it: answered, confirmed, counted once, final; over a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.live_tower import LiveTower, live_tower

UPDATES = 3
PROTECTED = ("protected_sats", "revoked_states_covered")
ANSWERED = (
    'breaches_open{stage="broadcast"}',
    'breaches_detected_total{source="mempool"}',
    "breach_response_seconds_count",
)
PAID = ("penalty_recovered_sats_total", "penalty_fees_paid_sats_total")
CONFIRMING = ('breaches_open{stage="confirming"}', "breach_min_remaining_blocks")


def money(live: LiveTower, *names: str) -> list[float | None]:
    """Values of series, without the prefix."""
    return [live.value(f"watchtower_{name}") for name in names]


def shown(live: LiveTower, *names: str, expected: list[float | None]) -> list[float | None]:
    """The values, as soon as they are those: gauges may be a second old, and the reporter follows the log."""
    live.until(lambda: money(live, *names) == expected)
    return money(live, *names)


@pytest.mark.slow
def test_a_breach_is_measured_to_its_end(tmp_path: Path, prepared_chain: Path) -> None:
    """From the mempool until the penalty is six deep, with the process killed in between; another channel stays."""
    with live_tower(tmp_path, prepared=prepared_chain) as live:
        cheated, honest = live.open_channels(2, updates=UPDATES)
        capacity = honest.params.capacity
        before = shown(live, *PROTECTED, expected=[2 * capacity, 2 * UPDATES])

        live.breach(cheated)
        answered = shown(live, *ANSWERED, expected=[1, 1, 1])
        ratio = live.value("watchtower_penalty_max_fee_ratio")
        live.mine(2)
        live.restart()
        confirming = shown(live, *CONFIRMING, expected=[1, None])
        live.mine(5)
        live.until(lambda: all(money(live, *PAID)))  # one is counted after the other
        recovered, fees = money(live, *PAID)

        assert [2 * capacity, 2 * UPDATES] == before
        assert ([1, 1, 1], [1, None]) == (answered, confirming)
        assert 0 < (ratio or 0) < 0.25
        assert cheated.params.contest_value == (recovered or 0) + (fees or 0)
        assert [0, 0] == money(live, 'breaches_detected_total{source="block"}', "breach_response_seconds_count")
        assert [capacity, UPDATES] == shown(live, *PROTECTED, expected=[capacity, UPDATES])
        assert [None, 0] == money(live, 'incident_last_timestamp_seconds{kind="funds_lost"}', "penalty_lost_sats_total")
