"""What a party can spend and receive, counted from its own log."""

from __future__ import annotations

from domain.contract.state import DEFAULT_STATE_POLICY, StatePolicy
from domain.liquidity import Holdings, Liquidity, liquidity, without_updates
from watchtower.client.protocol.channel import PartyChannel


def channel_liquidity(channel: PartyChannel, policy: StatePolicy = DEFAULT_STATE_POLICY) -> Liquidity:
    """The newest complete state of a party's channel; nothing can be spent while updates are refused."""
    conditions = channel.state.content.read_conditions() if channel.state is not None else ()
    figures = liquidity(Holdings(channel.params, channel.balances, tuple(conditions), policy))
    takes_updates = channel.state is not None and channel.frozen is None and not channel.is_closing
    return figures if takes_updates and not channel.abandoned else without_updates(figures)
