"""The files of a tower, filled before its process starts: many channels in the log, some of them real.

Bulk channels copy the events of one real registration: their constants differ only in `reserve_sat` and in the
funding outpoint, which exists on the node. Nothing tells a tower that watches them that they are copies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from domain import cursor as cursors
from domain.chain import BlockRef, OutPoint, chain_hash, outpoint_txid, outpoint_vout
from domain.channel import Channel
from domain.contract.params import ChannelParams, ParamsPolicy
from domain.events import (
    CHAIN_STREAM,
    ChannelProposed,
    ChannelRegistered,
    Envelope,
    FundingConfirmed,
    Payload,
    envelopes,
)
from domain.spending import funding_confirmed
from domain.units import Side
from projections.catalog import PROJECTIONS
from projections.projector import Projector
from tests.bench.steady import verifying
from tests.support.parties import Pair
from watchtower.channels.accept_state import accept_state
from watchtower.channels.context import ChannelPolicy, Context
from watchtower.channels.lanes import lanes
from watchtower.channels.register import register
from watchtower.host.system import SystemClock
from watchtower.keystore import FileKeystore, read_passphrase
from watchtower.new_tower import NewTower
from watchtower.ports import Node
from watchtower.repository import Channels
from watchtower.store.create import open_store
from watchtower.store.event_store import SqliteEventStore
from watchtower.store.rebuild import open_views
from watchtower.verification.processes import EACH

JOB_EVENTS = 20_000
OWNER = Side.B


class Installation:
    """A stopped tower, opened by the bench as the service would open it. Use it as a context manager."""

    def __init__(self, tower: NewTower, node: Node, height: int) -> None:
        """`height` is what the tower believes to be the tip while it is filled."""
        self._files = contextlib.ExitStack()
        self.store: SqliteEventStore = open_store(tower.data_dir / "events.db", chain_hash=chain_hash("regtest"))
        self._files.callback(self.store.close)
        self._keystore = FileKeystore.open(tower.data_dir / "keystore", read_passphrase(tower.passphrase_path))
        self._files.callback(self._keystore.close)
        self._rows = open_views(tower.data_dir / "views.db", self.store)
        self._files.callback(self._rows.close)
        self.context = Context(
            store=self.store,
            node=node,
            keystore=self._keystore,
            clock=SystemClock(),
            channels=Channels(self.store),
            views=self._rows,
            policy=ChannelPolicy(ParamsPolicy(chain_hash("regtest"), max_capacity=10_000_000_000), confirmations=1),
            tip_height=lambda: height,
            lanes=lanes(EACH),
            verify=self._files.enter_context(verifying()).verify,
        )

    def __enter__(self) -> Installation:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def begin(self, block: BlockRef) -> None:
        """First contact with the node, at its tip: a tower takes no channel before it."""
        header = self.context.node.header(block.hash)
        if header is None:
            raise RuntimeError("the node does not know the block at which the tower is to begin")
        first = cursors.start(block, chain_hash("regtest"), header.chainwork, 0)
        self.store.append(envelopes(CHAIN_STREAM, 0, first), chain=True)

    def watch(self, pair: Pair, block: BlockRef, updates: int | None = None) -> str:
        """Register a real channel whose funding is in `block`, with all or so many updates. Returns its stream."""
        register(self.context, pair.registration(OWNER))
        stream = self.context.channels.stream_of(pair.params.proposal_id)
        channel = self.context.channels.load(stream)
        self.store.append(envelopes(stream, channel.version, funding_confirmed(channel, block, 0)), chain=True)
        for sequence in range(1, 1 + (pair.sequence if updates is None else updates)):
            accept_state(self.context, stream, pair.update_request(OWNER, sequence))
        return stream

    def watch_copies(self, template: Channel, outpoints: Sequence[OutPoint], block: BlockRef) -> None:
        """One channel per outpoint, made from the first three events of a real one and its funding in `block`."""
        first = [event.payload for event in self.store.read_stream(template.stream, limit=3)]
        for job in _jobs(copies(self.store, template.params, first, outpoints, block)):
            self.store.append(job, chain=True)

    def project(self) -> None:
        """Bring the views to the end of the log, so that the service starts as after a clean stop."""
        for _ in Projector(self.store, self._rows, PROJECTIONS).catch_up():
            pass


def copies(
    store: SqliteEventStore,
    params: ChannelParams,
    first: Sequence[Payload],
    outpoints: Iterable[OutPoint],
    block: BlockRef,
) -> Iterator[list[Envelope]]:
    """The events of each copy, stream by stream."""
    for number, outpoint in enumerate(outpoints, start=1):
        blank = msgspec.structs.replace(
            params, reserve_sat=params.reserve_sat + number, funding_txid=bytes(32), funding_vout=0xFFFFFFFF
        )
        own = blank.with_funding(outpoint_txid(outpoint), outpoint_vout(outpoint))
        events = [_copy(payload, blank, own) for payload in first]
        events.append(FundingConfirmed(recorded_at=0, outpoint=outpoint, block=block))
        yield envelopes(store.stream_id("c", own.proposal_id), 0, events)


def _copy(payload: Payload, blank: ChannelParams, own: ChannelParams) -> Payload:
    if isinstance(payload, ChannelProposed):
        return msgspec.structs.replace(payload, params=blank.encode())
    if isinstance(payload, ChannelRegistered):
        return msgspec.structs.replace(payload, params=own.encode(), funding_tx=None)
    return payload


def _jobs(streams: Iterable[list[Envelope]]) -> Iterator[list[Envelope]]:
    job: list[Envelope] = []
    for events in streams:
        job += events
        if len(job) >= JOB_EVENTS:
            yield job
            job = []
    if job:
        yield job
