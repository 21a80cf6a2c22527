"""Points of random logs, with reorgs and clocks that run back: look-ups agree with definitions, folds with replays."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from domain.channel_fold import fold
from projections import channel_info, landmarks
from projections.catalog import PROJECTIONS
from projections.channels import is_channel
from projections.projector import Projector
from projections.timeline import row_of
from tests.fakes.rows import MemoryRows
from tests.support.histories import OTHER_STREAM
from tests.support.past import PastLog, found_position, naive_position, points_of, random_log
from tests.support.scenes import STREAM
from watchtower.history import channels as past_channels
from watchtower.history import points
from watchtower.history.channels import PastChannels
from watchtower.history.points import point_at
from watchtower.history.tower import state_of_views

WALKS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(-3, 5)), max_size=30)
STEPS = st.lists(st.integers(0, 8 * 16 - 1), max_size=12)


def views_of(log: PastLog, position: int, page: int = 7) -> MemoryRows:
    """Read models that have come to a position."""
    rows = MemoryRows()
    list(Projector(log, rows, PROJECTIONS, page).catch_up(until=position))
    return rows


@given(WALKS, STEPS, st.integers(0, 140))
def test_every_point_is_what_its_definition_says(
    walk: list[tuple[int, int, int]], steps: list[int], behind: int
) -> None:
    """Also while the read models are behind the log, and with stretches of four events."""
    log = random_log(walk, steps)
    asked = points_of(log)
    with patch.object(landmarks, "STRETCH", 4), patch.object(points, "STRETCH", 4), patch.object(points, "PAGE", 3):
        rows = views_of(log, max(1, log.last_id() - behind))

        assert [naive_position(log, each) for each in asked] == [found_position(log, rows, each) for each in asked]


@given(WALKS, STEPS, st.integers(0, 140), st.integers(0, 140))
def test_what_was_known_then_is_what_a_replay_up_to_there_says(
    walk: list[tuple[int, int, int]], steps: list[int], first: int, second: int
) -> None:
    """ChannelInfo, aggregate, timeline and tower of each prefix, also from a fold that was kept on the way."""
    log = random_log(walk, steps)
    with patch.object(past_channels, "STEP", 3):
        past = PastChannels(log)
        for position in (min(first, log.last_id()), min(second, log.last_id())):
            then, point = views_of(log, position), point_at(log, position)
            known = [row[0] for row in then.page(channel_info.TABLE, None, 10)]
            read = channel_info.TABLE.read
            assert [read(row) for row in then.page(channel_info.TABLE, None, 10)] == [
                past.info(str(stream), point) for stream in known
            ]
            for stream in (STREAM, OTHER_STREAM):
                events = [each for each in log.events[:position] if each.envelope.stream == stream]
                assert fold(None, [each.envelope for each in events]) == past.channel(stream, point)
                assert [row_of(each) for each in events] == list(past.timeline(stream, point))


@given(WALKS, STEPS, st.integers(0, 140))
def test_the_tower_of_then_counts_the_channels_of_then(
    walk: list[tuple[int, int, int]], steps: list[int], position: int
) -> None:
    """Number of channels, tip and breaches are those of the events before the point."""
    log = random_log(walk, steps)
    point = point_at(log, min(position, log.last_id()))
    state = state_of_views(point, views_of(log, point.position))
    streams = {each.envelope.stream for each in log.events[: point.position] if is_channel(each.envelope)}
    moved = [tip for each in log.events[: point.position] for tip in points.tip_after(each.envelope.payload)]

    assert len(streams) == sum(state.channels.values())
    assert (moved[-1] if moved else None) == point.tip
    assert {breach.stream for breach in state.breaches} <= streams
