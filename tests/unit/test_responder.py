"""One channel's trouble stops no other channel's penalty; on a memory log, with a node that knows nothing yet."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from domain.chain import OutPoint
from domain.claiming import htlc_key_name
from domain.errors import LogCorrupt
from domain.events import BroadcastOutcome, envelopes
from domain.fees import Market
from domain.transaction import Transaction
from domain.units import Side
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.store import MemoryEventStore
from tests.support.clocks import FixedClock
from tests.support.htlcs import settled
from tests.support.scenes import STREAM, Scene, block, secrets_of
from watchtower.ports import Answer, ChainInfo, StoreBusy, StoreFull
from watchtower.repository import Channels
from watchtower.responder.respond import Responder

TIP = 400
CLAIMING = "c" + "t" * 22
"""A settled channel whose HTLC output is ours as soon as the preimage is found."""


class QuietNode:
    """The part of `ports.Node` that the responder asks: an empty mempool that takes everything."""

    def __init__(self) -> None:
        self.sent: list[Transaction] = []

    def fee_market(self, targets: Sequence[int]) -> Market:
        """Calm."""
        del targets
        return Market(1.0, 1.0, 1.0)

    def chain_info(self) -> ChainInfo:
        """Nothing new."""
        return ChainInfo("regtest", TIP, TIP, block(TIP).hash, initial_block_download=False, pruned_height=0)

    def mempool_spenders(self, outpoints: Sequence[OutPoint]) -> dict[OutPoint, bytes]:
        """Nobody."""
        del outpoints
        return {}

    def broadcast(self, raw: bytes) -> Answer:
        """Takes it."""
        self.sent.append(Transaction.parse(raw))
        return Answer(BroadcastOutcome.ACCEPTED)

    def broadcast_many(self, raws: Sequence[bytes]) -> tuple[Answer, ...]:
        """One after the other."""
        return tuple(self.broadcast(raw) for raw in raws)


class Models:
    """Two contested channels, the claiming one first; the view of preimages cannot be read."""

    def __init__(self) -> None:
        self.streams = [CLAIMING, STREAM]

    def catch_up(self) -> None:
        """Nothing to do: nobody asks views here."""

    def contested(self) -> list[str]:
        """Both."""
        return self.streams

    def preimage(self, payment_hash: bytes) -> bytes | None:
        """The database does not answer."""
        raise StoreBusy(f"no row of {payment_hash.hex()[:8]} can be read")


class Case:
    """A breach by B of A's channel, and beside it a channel whose claims cannot be worked out."""

    def __init__(self) -> None:
        self.node, self.models, self.keystore = QuietNode(), Models(), MemoryKeystore()
        self.store = MemoryEventStore()
        self.channels = Channels(self.store)
        self.breached = Scene().opened(updates=3)
        self.breached.mined(self.breached.commitment(Side.B, 1), block(TIP - 10))
        self.store.append(self.breached.events)
        claiming = settled(Side.B)
        self.store.append(envelopes(CLAIMING, 0, [event.payload for event in claiming.events]))
        proposal = self.breached.params.proposal_id
        self.keystore.put(proposal, secrets_of(Side.A).rev)
        self.keystore.put(htlc_key_name(proposal), secrets_of(Side.B).htlc)
        self.responder = Responder(
            node=self.node,  # type: ignore[arg-type]
            store=self.store,
            channels=self.channels,
            models=self.models,  # type: ignore[arg-type]
            keystore=self.keystore,
            clock=FixedClock(),
            rng=bytes,
            failpoint=lambda _name: None,
        )

    @property
    def contest(self) -> OutPoint:
        """What the penalty takes."""
        spend = self.channels.load(STREAM).present_spend
        assert spend is not None
        return spend.contest


@pytest.fixture
def case() -> Case:
    """Both channels."""
    return Case()


def test_claims_that_cannot_be_worked_out_stop_no_penalty(case: Case) -> None:
    """The view of preimages is out of reach: the breach is answered at once, and bid up; the trouble is reported."""
    first = case.responder.respond(TIP)
    second = case.responder.respond(TIP)

    assert [case.contest] * 2 == [tx.inputs[0].outpoint for tx in case.node.sent]
    assert [[CLAIMING]] * 2 == [[trouble.stream for trouble in report.troubles] for report in (first, second)]


def test_a_stream_that_cannot_be_read_stops_no_penalty(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither at the start nor in a run."""
    load = Channels.load

    def damaged(channels: Channels, stream: str) -> object:
        if stream == CLAIMING:
            raise LogCorrupt("an event cannot be decoded")
        return load(channels, stream)

    monkeypatch.setattr(Channels, "load", damaged)
    report = case.responder.respond(TIP)
    case.responder.resend()

    assert [case.contest] * 2 == [tx.inputs[0].outpoint for tx in case.node.sent]
    assert [CLAIMING] == [trouble.stream for trouble in report.troubles]


def test_fault_P4_no_answer_without_its_intent(case: Case) -> None:
    """The intent did not fit into the log: the answer, which would, is not written before it; later both are."""
    case.models.streams = [STREAM]
    before = len(case.store.read_stream(STREAM))
    refusals = iter([True])

    def full_once(name: str) -> None:
        if name == "commit:before" and next(refusals, False):
            raise StoreFull("no space")

    case.store.failpoint = full_once
    first = case.responder.respond(TIP)
    held = len(case.store.read_stream(STREAM))
    case.responder.respond(TIP)
    later = [type(event.payload).__name__ for event in case.store.read_stream(STREAM)[before:]]

    assert (before, ["StoreFull"]) == (held, [type(trouble.error).__name__ for trouble in first.troubles])
    assert ["PenaltyPrepared", "PenaltyBroadcast"] == later
    assert [case.contest] * 2 == [tx.inputs[0].outpoint for tx in case.node.sent]
