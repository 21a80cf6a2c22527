"""Breaches answered in groups: what each answer of the node leads to, and that one channel stops no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import msgspec
import pytest

from domain.chain import OutPoint
from domain.channel import Channel
from domain.errors import LogCorrupt
from domain.events import AlertKind, BroadcastOutcome, PenaltyPrepared, envelopes
from domain.fees import Market
from domain.transaction import Transaction
from domain.units import Side
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.store import MemoryEventStore
from tests.support.clocks import FixedClock
from tests.support.scenes import Scene, block, secrets_of
from watchtower.outbox import Outbox
from watchtower.ports import Answer, ChainInfo, NodeError, NodeUnavailable, StoreConflict, Utxo
from watchtower.repository import Channels
from watchtower.responder.broadcast import PACKAGES_PER_BLOCK
from watchtower.responder.publish import Publisher
from watchtower.responder.respond import GROUP, Responder
from watchtower.responder.runs import Unserved
from watchtower.responder.signing import BidAboveLimit, Wish, signer_of

TIP = 400
OK, TOO_LOW, MINIMUM = BroadcastOutcome.ACCEPTED, BroadcastOutcome.INSUFFICIENT_FEE, BroadcastOutcome.BELOW_MINIMUM
ABSENT, WRONG = BroadcastOutcome.MISSING_INPUTS, BroadcastOutcome.REJECTED


class TalkingNode:
    """An empty mempool that answers broadcasts as told, then takes everything. `calls` notes how it was asked."""

    def __init__(self) -> None:
        self.market = Market(1.0, 1.0, 1.0)
        self.outcomes: list[BroadcastOutcome] = []
        self.sent: list[Transaction] = []
        self.calls: list[str] = []
        self.failing: Exception | None = None
        self.after_refusal: Callable[[], None] = lambda: None

    def fee_market(self, targets: Sequence[int]) -> Market:
        """As set."""
        del targets
        return self.market

    def chain_info(self) -> ChainInfo:
        """Nothing new."""
        return ChainInfo("regtest", TIP, TIP, block(TIP).hash, initial_block_download=False, pruned_height=0)

    def mempool_spenders(self, outpoints: Sequence[OutPoint]) -> dict[OutPoint, bytes]:
        """Nobody is ever seen."""
        del outpoints
        return {}

    def utxos(self, outpoints: Sequence[OutPoint], include_mempool: bool) -> list[Utxo | None]:
        """The node knows none of them."""
        del include_mempool
        return [None] * len(outpoints)

    def broadcast(self, raw: bytes) -> Answer:
        """One."""
        self.calls.append("one")
        return self._judge(raw)

    def broadcast_many(self, raws: Sequence[bytes]) -> tuple[Answer, ...]:
        """Several, unless a failure is set."""
        self.calls.append("many")
        if self.failing is not None:
            raise self.failing
        return tuple(self._judge(raw) for raw in raws)

    def submit_package(self, raws: Sequence[bytes]) -> tuple[Answer, ...]:
        """Refused like its last member."""
        self.calls.append("package")
        return tuple(Answer(ABSENT, -25) for _ in raws)

    def _judge(self, raw: bytes) -> Answer:
        self.sent.append(Transaction.parse(raw))
        outcome = self.outcomes.pop(0) if self.outcomes else OK
        if outcome is not OK:
            self.after_refusal()
        return Answer(outcome, 0 if outcome is OK else -26)


class Models:
    """The channels that are given, in this order."""

    def __init__(self) -> None:
        self.streams: list[str] = []

    def catch_up(self) -> None:
        """Nobody asks views here."""

    def contested(self) -> list[str]:
        """All."""
        return self.streams

    def preimage(self, payment_hash: bytes) -> bytes | None:
        """None is known."""
        del payment_hash


class Case:
    """Breaches by B of A's channels, all of the same constants in streams of their own."""

    def __init__(self) -> None:
        self.node, self.models, self.keystore = TalkingNode(), Models(), MemoryKeystore()
        self.store = MemoryEventStore()
        self.channels = Channels(self.store)
        self.scene = Scene().opened(updates=3)
        self.scene.mined(self.scene.commitment(Side.B, 1), block(TIP - 10))
        self.keystore.put(self.scene.params.proposal_id, secrets_of(Side.A).rev)
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

    def breached(self, count: int) -> Case:
        """So many channels."""
        self.models.streams = [f"c{number:022d}" for number in range(count)]
        for stream in self.models.streams:
            self.store.append(envelopes(stream, 0, [event.payload for event in self.scene.events]))
        return self

    def seen(self) -> Case:
        """One channel, its breach in the mempool."""
        self.scene = Scene().opened(updates=3)
        self.scene.seen(self.scene.commitment(Side.B, 1))
        return self.breached(1)

    def mine(self, height: int) -> None:
        """The block with the breach, without a penalty."""
        channel = self.channel()
        new = self.scene.mined(self.scene.commitment(Side.B, 1), block(height))
        self.store.append(envelopes(channel.stream, channel.version, new))

    def channel(self, number: int = 0) -> Channel:
        """As the log tells it."""
        return self.channels.load(self.models.streams[number])

    def fees(self, number: int = 0) -> list[int]:
        """Of the bids in the log."""
        events = self.store.read_stream(self.models.streams[number])
        return [event.payload.fee for event in events if isinstance(event.payload, PenaltyPrepared)]


@pytest.fixture
def case() -> Case:
    """No channel yet."""
    return Case()


def test_a_group_is_sent_in_one_request_and_recorded_in_two_jobs(case: Case) -> None:
    """Three breaches: one intent and one answer each, and the node is asked once."""
    case.breached(3)
    before = case.store.last_id()

    report = case.responder.respond(TIP)

    assert (["many"], 3, 3) == (case.node.calls, report.sent, report.accepted)
    assert 6 == case.store.last_id() - before


def test_a_penalty_from_before_the_block_is_signed_anew_once(case: Case) -> None:
    """The network may lack the bytes that stand in our own mempool, and only a new txid spreads there."""
    case.seen()
    case.responder.respond(TIP)
    case.mine(TIP + 1)
    for tip in (TIP + 1, TIP + 1, TIP + 2):
        case.responder.respond(tip)

    bids = case.channel().bids
    assert [(123, None), (234, 143)] == [(bid.fee, bid.remaining) for bid in bids]
    assert bids[1].txid == case.node.sent[-1].txid


def test_a_strange_reply_to_many_is_no_reply_to_one(case: Case) -> None:
    """The request fails as a whole: each penalty goes out alone."""
    case.breached(2)
    case.node.failing = NodeError("sendrawtransaction: the node's reply has another shape than expected")

    report = case.responder.respond(TIP)

    assert (["many", "one", "one"], 2) == (case.node.calls, report.accepted)


def test_a_node_that_is_away_ends_the_run(case: Case) -> None:
    """Nothing is known about any of them; the intents are in the log for the next run."""
    case.breached(2)
    case.node.failing = NodeUnavailable("connection refused")

    with pytest.raises(NodeUnavailable):
        case.responder.respond(TIP)
    case.node.failing = None

    assert 2 == case.responder.respond(TIP).accepted
    assert [1, 1] == [len(case.fees(number)) for number in range(2)]


def test_a_group_that_cannot_be_asked_about_stops_no_other(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node's word about the first group cannot be read: the second group is answered in the same run."""
    case.breached(GROUP + 2)
    replies = iter([True])

    def strange_once(outpoints: Sequence[OutPoint]) -> dict[OutPoint, bytes]:
        if len(outpoints) == GROUP and next(replies, False):
            raise NodeError("gettxspendingprevout: the node's reply has another shape than expected")
        return {}

    monkeypatch.setattr(case.node, "mempool_spenders", strange_once)

    report = case.responder.respond(TIP)

    assert (2, case.models.streams[:GROUP]) == (report.accepted, [trouble.stream for trouble in report.troubles])


def test_fault_M6_refused_bids_double_their_step_until_one_is_taken(case: Case) -> None:
    """Five refusals without anybody to be seen: every bid is a valid step above the last, the sixth stands."""
    case.breached(1)
    case.node.outcomes = [TOO_LOW] * 5

    outcomes = [outcome for _ in range(3) for outcome in case.responder.respond(TIP).outcomes]

    fees = case.fees()
    steps = [after - before for before, after in pairwise(fees)]
    assert OK is outcomes[-1]
    assert sorted(set(fees)) == fees
    assert [111, 222] == steps[:2]
    assert 999_428 * 0.04 > fees[-1]


def test_fault_M2_a_risen_minimum_is_paid_at_once(case: Case) -> None:
    """Refused as below the minimum: the market is asked again and the next bid relays, in the same run."""
    case.breached(1)
    case.node.outcomes = [MINIMUM]
    dear = Market(30.0, 1.0, 1.0)
    case.node.after_refusal = lambda: setattr(case.node, "market", dear)

    report = case.responder.respond(TIP)

    assert (MINIMUM, OK) == report.outcomes
    assert case.fees()[-1] >= dear.relay_floor * 111


def test_fault_M11_an_answer_of_rules_is_an_alert_and_the_same_bytes_go_out_again(case: Case) -> None:
    """Refused by a rule: a person is told, nothing is deleted; once the node takes it the alert ends."""
    case.breached(1)
    case.node.outcomes = [WRONG]
    case.responder.respond(TIP)
    alerts = case.channel().alerts

    case.responder.respond(TIP)

    assert frozenset({AlertKind.PENALTY_REFUSED}) == alerts
    assert frozenset() == case.channel().alerts
    assert [case.node.sent[0]] * 2 == case.node.sent


@pytest.mark.parametrize("outcome", [BroadcastOutcome.UNKNOWN, BroadcastOutcome.NOT_YET_FINAL])
def test_fault_M11_an_answer_that_says_nothing_changes_nothing(case: Case, outcome: BroadcastOutcome) -> None:
    """The same bytes in the next run, one bid in the log."""
    case.breached(1)
    case.node.outcomes = [outcome]

    case.responder.respond(TIP)
    report = case.responder.respond(TIP)

    assert ((OK,), 1) == (report.outcomes, len(case.fees()))


def test_packages_of_one_breach_are_limited_between_two_blocks(case: Case) -> None:
    """A cheater who makes the commitment vanish again and again makes no flood of packages."""
    case.breached(1)
    runs = PACKAGES_PER_BLOCK + 5
    case.node.outcomes = [ABSENT] * (runs + 1)

    for _ in range(runs):
        case.responder.respond(TIP)
    limited = case.node.calls.count("package")
    case.responder.respond(TIP + 1)

    assert (PACKAGES_PER_BLOCK, PACKAGES_PER_BLOCK + 1) == (limited, case.node.calls.count("package"))


def test_a_mistake_in_one_channel_stops_no_other(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw is noted without its values, and the other penalties go out."""
    case.breached(3)
    get, asked = case.keystore.get, []

    def mistaken(name: bytes) -> bytes | None:
        asked.append(name)
        if len(asked) == 2:
            raise ValueError("a text with values")
        return get(name)

    monkeypatch.setattr(case.keystore, "get", mistaken)

    report = case.responder.respond(TIP)

    (trouble,) = report.troubles
    assert (2, case.models.streams[1]) == (report.accepted, trouble.stream)
    assert isinstance(trouble.error, Unserved)
    assert "ValueError at test_responder_groups.py" in str(trouble.error)
    assert "values" not in str(trouble.error)


def test_an_upload_in_between_stops_no_group(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job of a group meets a conflict: every intent is recorded alone, and all are sent."""
    case.breached(3)
    append, refusals = case.store.append, iter([True])

    def once_in_conflict(job: Sequence[object], *, chain: bool = False) -> int:
        if len(job) == 3 and next(refusals, False):
            raise StoreConflict(case.models.streams[1], 1, 2)
        return append(job, chain=chain)  # type: ignore[arg-type]

    monkeypatch.setattr(case.store, "append", once_in_conflict)

    report = case.responder.respond(TIP)

    assert (3, ()) == (report.accepted, report.troubles)
    assert [1, 1, 1] == [len(case.fees(number)) for number in range(3)]


def test_a_close_that_cannot_be_worked_out_stops_no_other(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that cannot be read is in trouble; the closes of the others are still looked at."""
    case.breached(3)
    load, looked = Channels.load, []

    def damaged(channels: Channels, stream: str) -> Channel:
        if stream == case.models.streams[0]:
            raise LogCorrupt("an event cannot be decoded")
        looked.append(stream)
        return load(channels, stream)

    monkeypatch.setattr(Channels, "load", damaged)

    troubles = Publisher(case.node, case.channels, case.models, Outbox()).publish()  # type: ignore[arg-type]

    assert [case.models.streams[0]] == [trouble.stream for trouble in troubles]
    assert case.models.streams[1:] == looked


def test_nothing_above_the_limit_of_its_block_is_signed(case: Case) -> None:
    """The last line before the signature asks again."""
    channel = case.breached(1).channel()
    breach = channel.present_spend
    assert breach is not None
    signer = signer_of(channel, breach, secrets_of(Side.A).rev, bytes)
    assert signer is not None

    assert 500 == signer.sign(Wish(500, 0, 500)).fee
    with pytest.raises(BidAboveLimit, match="501 sat was to be signed where at most 500"):
        signer.sign(Wish(501, 0, 500))


@pytest.mark.parametrize(("left", "raised"), [(128, False), (127, True), (100, True)])
def test_fault_M10_blocks_that_skip_a_sufficient_bid_raise_an_alarm(
    case: Case, monkeypatch: pytest.MonkeyPatch, left: int, raised: bool
) -> None:
    """After six blocks with a bid above the going rate in the mempool a person is told."""
    case.breached(1)
    case.responder.respond(TIP)
    (bid,) = case.channel().bids
    spent = Transaction.parse(bid.raw).inputs[0].outpoint
    monkeypatch.setattr(case.node, "mempool_spenders", lambda _places: {spent: bid.txid})
    first = bid.remaining or 0
    assert 133 == first
    later = TIP + first - left
    info = case.node.chain_info()
    monkeypatch.setattr(case.node, "chain_info", lambda: msgspec.structs.replace(info, headers=later))

    case.responder.respond(later)

    assert raised is (AlertKind.PENALTY_SKIPPED in case.channel().alerts)


def test_fault_M12_a_value_below_what_relays_is_asked_again_each_block(case: Case) -> None:
    """The node asks for more than there is: a person is told, every run tries; once it falls the alert ends."""
    case.breached(1)
    case.node.market = Market(8_500.0, 1.0, 1.0)
    case.node.outcomes = [MINIMUM] * 2
    runs = [case.responder.respond(TIP), case.responder.respond(TIP + 1)]
    told = case.channel().alerts

    case.node.market = Market(1.0, 1.0, 1.0)
    last = case.responder.respond(TIP + 2)

    assert [(MINIMUM,)] * 2 == [report.outcomes for report in runs]
    assert (frozenset({AlertKind.UNECONOMICAL_TO_PUNISH}), frozenset()) == (told, case.channel().alerts)
    assert (OK,) == last.outcomes
