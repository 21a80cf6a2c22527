"""What a channel's application says to a state, before the tower stores it.

Asked last, about states that both parties signed: nobody else can keep a validator busy. A repetition of a stored
state is not judged again.
"""

from __future__ import annotations

from collections.abc import Sequence

from domain.application import ApplicationState
from domain.channel import Channel, attach_descriptors
from domain.contract.conditions import decode_conditions
from domain.errors import LogCorrupt
from domain.events import Payload, StateUpdated
from domain.opening import StateContent
from watchtower.channels.context import Context

TAIL = 16
"""Newest events of a stream that are read first; the state before is nearly always among them."""


def judge(context: Context, channel: Channel | None, state: StateContent, events: Sequence[Payload]) -> None:
    """Raise `ApplicationRefused` unless the application of the channel accepts what `events` would store."""
    if not any(isinstance(event, StateUpdated) for event in events):
        return
    context.applications.check(
        state.header,
        state.conditions,
        state.state_data,
        lambda: None if channel is None else newest_state(context, channel),
    )


def newest_state(context: Context, channel: Channel) -> ApplicationState:
    """The newest stored state as its application sees it. The fold has no state data; the log has."""
    width = TAIL
    while True:
        after = max(channel.version - width, 0)
        for event in reversed(context.store.read_stream(channel.stream, after=after)):
            if isinstance(event.payload, StateUpdated) and event.payload.sequence == channel.sequence:
                return _seen(event.payload)
        if after == 0:
            raise LogCorrupt(f"stream {channel.stream} has no event of its newest state {channel.sequence}")
        width *= TAIL


def _seen(stored: StateUpdated) -> ApplicationState:
    conditions = attach_descriptors(decode_conditions(stored.conditions), stored.descriptors)
    return ApplicationState(stored.sequence, (stored.balance_a, stored.balance_b), tuple(conditions), stored.state_data)
