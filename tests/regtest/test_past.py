"""A breach and its penalty on a real node, as of the block before, its own, that of the answer, and after a reorg."""

from __future__ import annotations

from pathlib import Path

from domain.as_of import AsOf
from domain.chain import display
from domain.events import BlockConnected
from domain.units import Side
from projections.channel_info import TABLE, ChannelInfoRow
from tests.regtest.world import World
from watchtower.history.channels import PastChannels
from watchtower.history.points import Point, resolve
from watchtower.history.tower import TowerState, state_of_views
from watchtower.history.views import views_at


def told(world: World, stream: str, as_of: AsOf, keep: Path) -> tuple[Point, ChannelInfoRow | None, TowerState]:
    """The point, the channel folded from its stream, and the tower folded from the whole log, which agree."""
    log = world.store
    point = resolve(log, world.rows, as_of)
    info = PastChannels(log).info(stream, point)
    with views_at(log, point.position, lambda _done, _total: None, keep=keep) as rows:
        found = [TABLE.read(row) for row in rows.page(TABLE, None, 10)]
        state = state_of_views(point, rows)
    assert [info] == found
    return point, info, state


def test_a_breach_as_of_every_block(world: World, tmp_path: Path) -> None:
    """What the tower knew at each height, and by its hash in a block that is gone."""
    pair = world.open(updates=4)
    stream, keep = world.stream(pair), tmp_path / "then.db"
    before = world.node.height()
    world.node.generate_block([pair.commitment(Side.A, 2)])
    world.look()
    world.node.mine(1)
    world.look()
    lost = display(world.node.tip())
    world.node.reorg(1, [[], []])
    world.look()

    stories = [
        told(world, stream, as_of, keep)
        for as_of in (AsOf(height=before), AsOf(height=before + 1), AsOf(block=lost), AsOf(height=before + 2))
    ]

    assert ["ACTIVE", "UNILATERAL", "PUNISHED", "UNILATERAL"] == [info.status for _, info, _ in stories if info]
    assert [0, 1, 1, 1] == [len(state.breaches) for _, _, state in stories]
    assert [before, before + 1, before + 2, before + 2] == [point.height for point, _, _ in stories]
    assert [None, None, before + 2, None] == [
        next((breach.penalty_height for breach in state.breaches), None) for _, _, state in stories
    ]
    connected = [each for each in world.store.read_log(0, 100_000) if isinstance(each.envelope.payload, BlockConnected)]
    ends = {each.envelope.payload.block.height: each.id for each in connected}
    assert all(ends[point.height] <= point.position for point, _, _ in (stories[0], stories[1], stories[3]))
