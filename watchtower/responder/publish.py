"""Sends the owner's closes again until they are in a block: cooperative ones from the log, own commitments from memory.

Level-triggered like the answers to breaches: what should be at the node follows from the log alone, so an eviction, a
restart of the node and a reorg need no case of their own.
"""

from __future__ import annotations

from domain.channel import Channel
from domain.publishing import close_to_send
from watchtower.outbox import Outbox
from watchtower.ports import Node, ReadModels
from watchtower.repository import Channels
from watchtower.responder.runs import Run, Trouble


class Publisher:
    """Called from the pass thread, after the mempool was looked at."""

    def __init__(self, node: Node, channels: Channels, models: ReadModels, outbox: Outbox) -> None:
        self._node = node
        self._channels = channels
        self._models = models
        self._outbox = outbox

    def publish(self) -> tuple[Trouble, ...]:
        """Send every close that is absent; the channels for which that failed. Raises `NodeUnavailable`."""
        run = Run()
        for stream in dict.fromkeys([*self._models.contested(), *self._outbox.streams()]):
            with run.serving(stream):
                self._publish(stream)
        return run.report().troubles

    def _publish(self, stream: str) -> None:
        channel, kept = self._channels.load(stream), self._outbox.get(stream)
        raw = close_to_send(channel, kept)
        if raw is not None:
            self._node.broadcast(raw)
        elif kept is not None and _is_settled(channel):
            self._outbox.drop(stream)


def _is_settled(channel: Channel) -> bool:
    """The log has the bytes of a spend that is there, or nothing can be published any more."""
    over = channel.confirmed_spend is not None or channel.double_spend is not None or channel.resolved is not None
    spend = channel.present_spend
    return over or (spend is not None and spend.raw is not None and channel.closing(spend.txid) is not None)
