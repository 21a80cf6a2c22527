"""A proxy between a node's ZMQ notifications and a tower: it loses, doubles, shuffles, delays, forges and freezes.

    with ZmqProxy(node.zmq_endpoint) as proxy:
        doorbell = ZmqDoorbell(dict.fromkeys(TOPICS, proxy.endpoint), ...)
        proxy.wait_subscribed("rawtx", "sequence")
        proxy.drop(0.5)

Topics, bodies and counters pass unchanged unless a fault says otherwise. Seeded: the same messages in the same order
meet the same faults.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, Self

import zmq

_COUNTER = 1 << 32
_TICK_MS = 20
"""How long the proxy's thread waits for a message before it looks at what is due."""


class Message(NamedTuple):
    """A notification: topic, body and the node's counter for the topic."""

    topic: bytes
    body: bytes
    number: int

    def frames(self) -> list[bytes]:
        """As on the wire."""
        return [self.topic, self.body, struct.pack("<I", self.number % _COUNTER)]


Choice = Callable[[Message], bool]


def any_message(message: Message) -> bool:
    """Choose all of them."""
    del message
    return True


class ZmqProxy:
    """Passes the node's messages on from its creation until `close`. All methods may be called from any thread.

    `seen` counts the messages of the node, `sent` those that left for the tower, forged ones included.
    """

    def __init__(self, target: str, *, seed: int = 0, send_limit: int = 0) -> None:
        """`target` is the node's address, `tcp://host:port`.

        With a `send_limit` messages beyond it are lost when a tower reads slowly, as at the node (1000 there).
        """
        self.seen = 0
        self.sent = 0
        self._rng = random.Random(seed)
        self._changed = threading.Condition(threading.RLock())
        self._drop: tuple[float, Choice] = (0.0, any_message)
        self._duplicate = 0.0
        self._window = 0
        self._delay = 0.0
        self._frozen = False
        self._jumps: dict[bytes, int] = {}
        self._numbers: dict[bytes, int] = {}
        self._held: list[Message] = []
        self._late: list[tuple[float, Message]] = []
        self._subscribed: set[bytes] = set()
        self._stopping = False
        self._context = zmq.Context()
        self._in = self._context.socket(zmq.SUB)
        self._in.setsockopt(zmq.SUBSCRIBE, b"")
        self._in.setsockopt(zmq.RCVHWM, 0)
        self._in.setsockopt(zmq.RECONNECT_IVL, 20)
        self._in.setsockopt(zmq.RECONNECT_IVL_MAX, 100)
        self._in.connect(target)
        self._out = self._context.socket(zmq.XPUB)
        self._out.setsockopt(zmq.SNDHWM, send_limit)
        self._out.setsockopt(zmq.LINGER, 0)
        port = self._out.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"tcp://127.0.0.1:{port}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop, and close both sides."""
        with self._changed:
            self._stopping = True
        self._thread.join(5)
        self._context.destroy(linger=0)

    def wait_subscribed(self, *topics: str, seconds: float = 30.0) -> None:
        """Until a tower has subscribed to these topics here; fails after `seconds`."""
        wanted = {topic.encode() for topic in topics}
        with self._changed:
            if not self._changed.wait_for(lambda: wanted <= self._subscribed, seconds):
                raise AssertionError(f"no subscription to {sorted(wanted - self._subscribed)} within {seconds} s")

    def wait_seen(self, count: int, seconds: float = 30.0) -> None:
        """Until the node has sent so many messages through here; fails after `seconds`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.seen >= count, seconds):
                raise AssertionError(f"{self.seen} messages of {count} within {seconds} s")

    # ── faults ────────────────────────────────────────────────────────────────────────────────────────────

    def drop(self, p: float, choice: Choice = any_message) -> None:
        """Lose each chosen message with probability `p` (1: all, 0: none)."""
        with self._changed:
            self._drop = (p, choice)

    def duplicate(self, p: float) -> None:
        """Send each message twice with probability `p`."""
        with self._changed:
            self._duplicate = p

    def shuffle(self, window: int) -> None:
        """Hold messages until there are so many, then send them in any order; 0 sends what is held and stops it."""
        with self._changed:
            self._window = window
            if not window:
                self._flush()

    def delay(self, seconds: float) -> None:
        """Send each message so much later; 0 sends everything that waits."""
        with self._changed:
            self._delay = seconds
            if not seconds:
                for _, message in self._late:
                    self._emit(message)
                self._late.clear()

    def freeze(self) -> None:
        """Go on accepting connections and messages, and pass nothing on. What comes meanwhile is lost."""
        with self._changed:
            self._frozen = True

    def thaw(self) -> None:
        """Pass messages on again."""
        with self._changed:
            self._frozen = False

    def jump(self, topic: str, by: int) -> None:
        """Move the counter of a topic from now on: up as after a loss, down as after a restart of the node."""
        with self._changed:
            self._jumps[topic.encode()] = self._jumps.get(topic.encode(), 0) + by

    def forge(self, topic: str, body: bytes, number: int | None = None) -> None:
        """Send a message that the node never sent; by default with the counter that comes next, and moves it."""
        name = topic.encode()
        with self._changed:
            if number is None:
                number = self._numbers.get(name, 0)
                self._jumps[name] = self._jumps.get(name, 0) + 1
                self._numbers[name] = number + 1
            self._put(Message(name, body, number).frames())

    def forge_frames(self, frames: Sequence[bytes]) -> None:
        """Send any multipart message."""
        with self._changed:
            self._put(frames)

    def heal(self) -> None:
        """No more faults; what was held or late is sent now. Counters that jumped stay where they are."""
        with self._changed:
            self._drop, self._duplicate, self._frozen = (0.0, any_message), 0.0, False
        self.shuffle(0)
        self.delay(0.0)

    # ── the thread ────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._in, zmq.POLLIN)
        poller.register(self._out, zmq.POLLIN)
        while not self._stopping:
            ready = dict(poller.poll(_TICK_MS))
            with self._changed:
                if self._out in ready:
                    self._subscriptions()
                if self._in in ready:
                    self._messages()
                self._send_due()
                self._changed.notify_all()

    def _subscriptions(self) -> None:
        with suppress(zmq.Again):
            while True:
                frame = self._out.recv(zmq.NOBLOCK)
                change = self._subscribed.add if frame[:1] == b"\x01" else self._subscribed.discard
                change(frame[1:])

    def _messages(self) -> None:
        with suppress(zmq.Again):
            while True:
                topic, body, number = self._in.recv_multipart(zmq.NOBLOCK)
                self.seen += 1
                self._take(Message(topic, body, int.from_bytes(number, "little")))

    def _take(self, message: Message) -> None:
        message = message._replace(number=message.number + self._jumps.get(message.topic, 0))
        self._numbers[message.topic] = message.number + 1
        probability, choice = self._drop
        if self._frozen or (choice(message) and self._rng.random() < probability):
            return
        for _ in range(1 + (self._rng.random() < self._duplicate)):
            self._schedule(message)

    def _schedule(self, message: Message) -> None:
        if self._window:
            self._held.append(message)
            if len(self._held) >= self._window:
                self._flush()
        elif self._delay:
            self._late.append((time.monotonic() + self._delay, message))
        else:
            self._emit(message)

    def _flush(self) -> None:
        self._rng.shuffle(self._held)
        for message in self._held:
            self._emit(message)
        self._held.clear()

    def _send_due(self) -> None:
        now = time.monotonic()
        while self._late and self._late[0][0] <= now:
            self._emit(self._late.pop(0)[1])

    def _emit(self, message: Message) -> None:
        self._put(message.frames())

    def _put(self, frames: Sequence[bytes]) -> None:
        self._out.send_multipart(frames)
        self.sent += 1


class MutePort:
    """Accepts TCP connections and never says a word: a publisher that died without closing its socket."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
