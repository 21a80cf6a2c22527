"""Whatever a schedule did to the tower, an audit finds nothing wrong with what it recorded."""

from __future__ import annotations

import pytest

from domain.events import Envelope, decode_payload
from tests.simulation.schedule import play
from tests.support.audited import recorded, ruled
from tests.support.examples import examples

SCHEDULES = 200


@pytest.mark.slow
def test_the_log_of_a_schedule_keeps_all_rules() -> None:
    """Reorganizations, crashes, full disks, nodes that roll back: every event is what the events before it allow."""
    for seed in range(50_000, 50_000 + examples(SCHEDULES) // 10):
        events = [
            Envelope(stream, version, topic, decode_payload(topic, state))
            for stream, version, topic, state in play(seed).log
        ]

        assert [] == ruled(recorded(events)), seed
