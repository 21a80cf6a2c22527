"""Which channel a name means: channel id, proposal id, or an unambiguous beginning of one of them."""

from __future__ import annotations

from domain.errors import MalformedInput, UnknownChannel
from projections.channel_info import TABLE, ChannelInfoRow
from watchtower.channels.context import Context

SHORTEST = 4
"""Digits of a prefix. Fewer are a slip of the finger more often than a name."""

PAGE = 1000
_DIGITS = frozenset("0123456789abcdef")


def find_stream(context: Context, name: str) -> str:
    """The stream of a channel; `UnknownChannel` if none or several fit, `MalformedInput` if it is no name."""
    if not SHORTEST <= len(name) <= 64 or not set(name) <= _DIGITS:
        raise MalformedInput(f"a channel is named by {SHORTEST} to 64 lower-case hexadecimal digits of its id")
    found = _by_whole_id(context, bytes.fromhex(name)) if len(name) == 64 else _by_prefix(context, name)
    if len(found) == 1:
        return found.pop()
    if found:
        raise UnknownChannel(f"{len(found)} channels begin with {name}; give more digits")
    raise UnknownChannel("no channel with this id is registered here")


def _by_whole_id(context: Context, name: bytes) -> set[str]:
    # The stream of a proposal is computed; a channel id leads there through the view, or through the names of
    # this process while no view has seen the registration yet.
    by_proposal = context.channels.stream_of(name)
    if context.channels.find(by_proposal) is not None:
        return {by_proposal}
    recent = context.recent.get(name)
    if recent is not None:
        return {recent}
    return {TABLE.read(row).stream for row in context.views.find(TABLE, "channel_id", name)}


def _by_prefix(context: Context, prefix: str) -> set[str]:
    found: set[str] = set()
    after = None
    while rows := context.views.page(TABLE, after, PAGE):
        for row in rows:
            info: ChannelInfoRow = TABLE.read(row)
            if info.channel_id.hex().startswith(prefix) or info.proposal_id.hex().startswith(prefix):
                found.add(info.stream)
        after = TABLE.key_of(rows[-1])
    return found
