"""Whether the node's notifications really arrive: listens for a limited time and counts, nothing else.

For people who ask `watchtower doctor`. The service listens with `node/zmq.py`; a subscriber more disturbs nobody.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

import msgspec
import zmq
from zmq.utils.monitor import recv_monitor_message

from watchtower.node.zmq import REQUIRED_TOPICS


class Heard(msgspec.Struct, frozen=True):
    """Messages per topic, the addresses that let us connect, and how long was listened in seconds."""

    messages: dict[str, int]
    connected: frozenset[str]
    seconds: float

    def silent(self, topics: Collection[str]) -> list[str]:
        """Those of these topics of which nothing came."""
        return [topic for topic in topics if not self.messages.get(topic)]


def hear(endpoints: Mapping[str, str], seconds: float) -> Heard:
    """Listen at each topic's address until all required topics were heard, at most so many seconds.

    `hashblock` is not waited for: a block takes its time.
    """
    started = time.monotonic()
    wanted = [topic for topic in REQUIRED_TOPICS if endpoints.get(topic)]
    messages, connected = dict.fromkeys((topic for topic in endpoints if endpoints[topic]), 0), set()
    context = zmq.Context()
    try:
        poller, sockets, monitors = zmq.Poller(), {}, {}
        for address in {address for address in endpoints.values() if address}:
            topics = [topic for topic, where in endpoints.items() if where == address]
            socket = _subscriber(context, topics)
            monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
            sockets[socket], monitors[monitor] = address, address
            poller.register(socket, zmq.POLLIN)
            poller.register(monitor, zmq.POLLIN)
            socket.connect(address)
        while (left := started + seconds - time.monotonic()) > 0:
            for found, _ in poller.poll(int(left * 1000) + 1):
                if found in monitors:
                    recv_monitor_message(found)
                    connected.add(monitors[found])
                elif (topic := found.recv_multipart()[0].decode("ascii", "replace")) in messages:
                    messages[topic] += 1
            if wanted and all(messages[topic] for topic in wanted):
                break
    finally:
        context.destroy(linger=0)
    return Heard(messages, frozenset(connected), time.monotonic() - started)


def _subscriber(context: zmq.Context[zmq.Socket[bytes]], topics: Collection[str]) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, 1000)
    for topic in topics:
        socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
    return socket
