"""Links between parties: whole lives of channels over messages, silence, refusals, hostile peers, cut connections."""

from __future__ import annotations

import pytest

from domain.transaction import Transaction
from tests.support.linking import linked

pytestmark = pytest.mark.asyncio


async def test_a_channel_lives_over_a_link() -> None:
    """Open, update by whose turn it is, close with both forms: both sides stand at the same state."""
    async with linked() as two:
        channel_id = await two.open()

        assert await two.b.update(channel_id, (490_000, 510_000)) == 1
        assert await two.a.update(channel_id, (480_000, 520_000), state_data=b"two") == 2

        raw = await two.a.close_channel(channel_id, (480_000, 520_000), 1_000)
        closed = await two.b.wait_for(channel_id, lambda channel: bool(channel.closes and channel.closes[-1].raw))
        assert Transaction.parse(raw).txid == closed.closes[-1].txid
        assert closed.balances == (480_000, 520_000)
