"""What every use case works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock, Semaphore
from typing import Protocol

import msgspec

from domain.channel import Channel
from domain.channel_fold import fold
from domain.contract.params import ParamsPolicy
from domain.contract.state import DEFAULT_STATE_POLICY, StatePolicy
from domain.events import Envelope, Payload, envelopes
from domain.opening import Verify, verify_content
from projections.tables import Key, Row, Scalar, Table
from watchtower.applications import Applications
from watchtower.channels.lanes import lanes
from watchtower.outbox import Outbox
from watchtower.ports import Clock, EventStore, Failpoint, Keystore, Node, StoreConflict
from watchtower.receipts.signer import ReceiptSigner
from watchtower.repository import Channels

ATTEMPTS = 3
"""Decisions per request. A conflict needs another writer of the same stream: rare, and never three times."""


class Views(Protocol):
    """The read models, as far as questions need them. Rows are in key order."""

    def find(self, table: Table, column: str, value: bytes | str | int) -> list[Row]:
        """Rows with this value in an indexed column."""

    def page(self, table: Table, after: Key | None, limit: int) -> list[Row]:
        """Rows behind a key."""

    def page_of(self, table: Table, where: Mapping[str, Scalar], after: Key | None, limit: int) -> list[Row]:
        """Rows with these values behind a key; the first column is an indexed one."""

    def position(self, projection: str) -> int:
        """Id of the last event that a projection has applied."""


class ChannelPolicy(msgspec.Struct, frozen=True):
    """What this installation accepts. `confirmations` is the funding depth from which updates are taken.

    `max_channels` and `max_total_capacity` (satoshi) are those of the whole tower; 0 is no limit.
    """

    params: ParamsPolicy
    confirmations: int
    warn_below_challenge_period: int = 0
    max_channels: int = 0
    max_total_capacity: int = 0
    state: StatePolicy = DEFAULT_STATE_POLICY


class Rollback(msgspec.Struct, frozen=True):
    """The log went on behind position `since`, although `high_water` had been reached; `channels` are waited for."""

    since: int
    high_water: int
    channels: int
    accepted: bool


class Rollbacks(Protocol):
    """What a restored log means for clients."""

    def epoch(self) -> int:
        """How often the log went on from an older copy."""

    def awaits(self, stream: str) -> bool:
        """Whether the owner of a channel is asked to compare it."""

    def behind(self) -> Rollback | None:
        """What the log lacks; None if nothing."""


class NoRollback:
    """The default: a log that lacks nothing."""

    def epoch(self) -> int:
        """The first one."""
        return 0

    def awaits(self, stream: str) -> bool:
        """Nobody is."""
        del stream
        return False

    def behind(self) -> Rollback | None:
        """Nothing."""
        return None


def nobody(stream: str) -> None:
    """No one listens."""
    del stream


def nothing_fails(name: str) -> None:
    """Every point is passed."""
    del name


def any_node() -> None:
    """The node is taken as it is."""


def nobody_registers(key: bytes) -> bool:
    """No party is known; the operator's token registers."""
    del key
    return False


class RecentNames:
    """Channel ids of the newest registrations, until a view knows them: read your own writes."""

    CAPACITY = 10_000

    def __init__(self) -> None:
        self._streams: dict[bytes, str] = {}
        self._mutex = Lock()

    def add(self, channel_id: bytes, stream: str) -> None:
        """Remember a registration; the oldest one is forgotten beyond the capacity."""
        with self._mutex:
            self._streams[channel_id] = stream
            if len(self._streams) > self.CAPACITY:
                del self._streams[next(iter(self._streams))]

    def streams(self) -> tuple[str, ...]:
        """The streams of the newest registrations."""
        with self._mutex:
            return tuple(self._streams.values())

    def get(self, channel_id: bytes) -> str | None:
        """The stream, or None."""
        with self._mutex:
            return self._streams.get(channel_id)


class Context(msgspec.Struct, frozen=True):
    """Ports and settings. `tip_height` is the height of the tower's own cursor.

    `announce` is told the stream after each stored change, so that the chain task looks at once. `require_node`
    raises `WrongChain` or `NodeError` unless the node was found to be the right one: a node of another network would
    call every funding output unknown. `may_register` tells whether a party (x-only auth key) may register channels.
    `receipts` signs what was stored; without it answers carry no receipt. `rollbacks` knows whether the log is an older
    copy. Whoever decides about a state holds one of the `lanes`; `verify` looks at its signatures, here or elsewhere.
    `quota` is the policy whose limits count for a registration, if they can change while the tower runs.
    """

    store: EventStore
    node: Node
    keystore: Keystore
    clock: Clock
    channels: Channels
    views: Views
    policy: ChannelPolicy
    tip_height: Callable[[], int]
    announce: Callable[[str], None] = nobody
    require_node: Callable[[], None] = any_node
    may_register: Callable[[bytes], bool] = nobody_registers
    recent: RecentNames = msgspec.field(default_factory=RecentNames)
    outbox: Outbox = msgspec.field(default_factory=Outbox)
    applications: Applications = msgspec.field(default_factory=Applications)
    failpoint: Failpoint = nothing_fails
    receipts: ReceiptSigner | None = None
    quota: Callable[[], ChannelPolicy] | None = None
    rollbacks: Rollbacks = msgspec.field(default_factory=NoRollback)
    lanes: Semaphore = msgspec.field(default_factory=lanes)
    verify: Verify = verify_content


def store_decision(
    context: Context,
    stream: str,
    decide: Callable[[Channel | None], Sequence[Payload]],
    before: Callable[[], None] = lambda: None,
    point: str = "decision_commit",
) -> int:
    """Load, decide, store; decide again if another writer was faster. The id of the last event stored, 0 for none.

    `before` runs after a decision with events and before they are stored; `point` names the failpoints around the
    store. After a failed store the cached fold is dropped; refusals of `decide` come out unchanged.
    """
    for attempt in range(1, ATTEMPTS + 1):
        channel = context.channels.find(stream)
        events = decide(channel)
        if not events:
            return 0
        before()
        try:
            context.failpoint(f"{point}:before")
            job = envelopes(stream, channel.version if channel else 0, events)
            last_id = context.store.append(job)
            context.failpoint(f"{point}:after")
        except StoreConflict:
            context.channels.forget(stream)
            if attempt == ATTEMPTS:
                raise
        except Exception:
            context.channels.forget(stream)
            raise
        else:
            _keep(context, channel, job)
            context.announce(stream)
            return last_id
    raise AssertionError("the loop returns or raises")


def _keep(context: Context, channel: Channel | None, stored: Sequence[Envelope]) -> None:
    """Bring the fold forward by what is committed now: nothing has to be read back."""
    after = fold(channel, stored)
    assert after is not None  # there was an event
    context.channels.keep(after)
