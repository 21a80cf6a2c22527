"""For the tests of programs that use the SDK: a tower, a wallet and two linked parties, all in this process.

    async with FakeTown() as town:
        created = await town.alice.create_channel(town.params((500_000, 500_000)))
        town.confirm(created.channel_id)
        await town.alice.update_state(StateUpdate(created.channel_id, 1, (490_000, 510_000)))

The towers are the real ones - HTTP application, use cases, event log - on a directory that is removed at the end. What
is made up is the chain: a node that knows coins, and takes every transaction without checking it.
"""

from watchtower.testing.fake_node import FakeNode
from watchtower.testing.fake_tower import FakeTower
from watchtower.testing.fake_town import FakeTown
from watchtower.testing.fake_wallet import FakeWallet

__all__ = ["FakeNode", "FakeTower", "FakeTown", "FakeWallet"]
