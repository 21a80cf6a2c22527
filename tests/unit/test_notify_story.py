"""From the log to what people read: which events are told, how urgently, once, and without secrets."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from domain.chain import BlockHash, BlockRef, display
from domain.events import (
    AlertCleared,
    AlertKind,
    AlertRaised,
    BidMethod,
    BlockConnected,
    BlockDisconnected,
    BreachDetected,
    BroadcastOutcome,
    ChannelResolved,
    Envelope,
    FundingDoubleSpent,
    Payload,
    PenaltyBroadcast,
    PenaltyConfirmed,
    PenaltyDisconnected,
    PenaltyPrepared,
    Recorded,
    ResolvedAs,
    SettleConfirmed,
    SettleDisconnected,
    SoftFinal,
    Source,
    SpendConfirmed,
    SpendDisconnected,
    SpendKind,
    SpendReplaced,
    StateRevoked,
    Via,
)
from domain.units import Side
from watchtower.notify.alerts import ALERTS, UNKNOWN_ALERT
from watchtower.notify.breaches import Tracked
from watchtower.notify.deadlines import due_warning
from watchtower.notify.notice import Notice
from watchtower.notify.story import Story

LOG_ID = bytes(range(16))
STREAM = "c" + "x" * 22
COMMIT, PENALTY, SECOND = b"\x01" * 32, b"\x02" * 32, b"\x04" * 32
SECRET = b"\xc4" * 32
VALUE, PERIOD, H = 100_000, 24, 500


def at(height: int) -> BlockRef:
    """A block at a height."""
    return BlockRef(height=height, hash=BlockHash(height.to_bytes(32, "big")))


def connected(height: int) -> BlockConnected:
    """The tip moves to a height."""
    return BlockConnected(
        recorded_at=0, block=at(height), prev=bytes(32), header=bytes(80), chainwork=b"", source=Source.BLOCK
    )


def disconnected(height: int) -> BlockDisconnected:
    """The tip moves back from a height."""
    return BlockDisconnected(recorded_at=0, block=at(height), parent=at(height - 1), chainwork=b"")


def breach(height: int | None = None) -> BreachDetected:
    """The revoked state in the mempool, or in a block."""
    return BreachDetected(
        recorded_at=1_700_000_000_000_000,
        txid=COMMIT,
        side=Side.B,
        sequence=3,
        contest=COMMIT + bytes(4),
        contest_value=VALUE,
        contest_spk=bytes(34),
        source=Source.MEMPOOL if height is None else Source.BLOCK,
        block=None if height is None else at(height),
        deadline=None if height is None else height + PERIOD - 1,
    )


def prepared(txid: bytes = PENALTY, fee: int = 111) -> PenaltyPrepared:
    """A bid."""
    return PenaltyPrepared(
        recorded_at=0,
        commit_txid=COMMIT,
        bid_no=1,
        replaces=None,
        txid=txid,
        raw=b"",
        fee=fee,
        feerate_kvb=1_000,
        method=BidMethod.RESIGN,
        rung=None,
        remaining=None,
    )


def sent(txid: bytes = PENALTY) -> PenaltyBroadcast:
    """The node holds a bid."""
    return PenaltyBroadcast(recorded_at=0, txid=txid, outcome=BroadcastOutcome.ACCEPTED, via=Via.RAW, height=H)


def confirmed(height: int) -> PenaltyConfirmed:
    """The penalty is in a block."""
    return PenaltyConfirmed(
        recorded_at=0, commit_txid=COMMIT, txid=PENALTY, block=at(height), fee=111, swept=VALUE - 111
    )


def resolved(outcome: ResolvedAs = ResolvedAs.PUNISHED) -> ChannelResolved:
    """A hundred blocks later."""
    return ChannelResolved(recorded_at=0, outcome=outcome, txid=PENALTY, block=at(H), depth=100)


class Teller:
    """Events one after the other, as the log numbers them."""

    def __init__(self, story: Story | None = None, first: int = 1) -> None:
        self.story = story or Story(LOG_ID)
        self.next_id = first

    def tell(self, *events: Payload, stream: str = STREAM) -> list[Notice]:
        """What is said about them."""
        found: list[Notice] = []
        for event in events:
            envelope = Envelope(stream=stream, version=1, topic=event.TOPIC, payload=event)
            found += self.story.told(Recorded(id=self.next_id, envelope=envelope))
            self.next_id += 1
        return found


def kinds(notices: list[Notice]) -> list[tuple[str, str]]:
    """Kind and urgency."""
    return [(notice.kind, notice.severity) for notice in notices]


def test_the_life_of_a_breach_is_told_in_order() -> None:
    """Seen wakes somebody; sent, confirmed and final are worth a look."""
    events = (connected(H), breach(), prepared(), sent(), breach(H + 1), confirmed(H + 2), resolved())
    told = Teller().tell(*events)

    assert [
        ("breach_seen", "page"),
        ("penalty_sent", "ticket"),
        ("breach_confirmed", "info"),
        ("penalty_confirmed", "ticket"),
        ("penalty_final", "ticket"),
    ] == kinds(told)
    assert [False] * 5 == [notice.act for notice in told]


def test_a_breach_says_what_is_at_stake_and_until_when() -> None:
    """Amount, channel, state, deadline and blocks left, in words and in fields."""
    teller = Teller()
    teller.tell(connected(H))
    (notice,) = teller.tell(breach(H))

    assert "Breach: 100,000 sat" == notice.title
    assert (
        f"Channel {STREAM}: Revoked state 3 is in block 500. The tower answers now. "
        "Deadline 523: 23 blocks left. Nothing to do." == notice.text
    )
    assert (STREAM, display(COMMIT), VALUE, 523, 23) == (
        notice.channel,
        notice.txid,
        notice.sats,
        notice.deadline,
        notice.blocks_left,
    )
    assert notice.runbook_url.endswith("docs/runbook.md#watchtowerbreachopen")
    assert 1_700_000_000 == notice.at


def test_a_raised_penalty_is_no_second_penalty() -> None:
    """It is told to those who want to know everything."""
    told = Teller().tell(breach(), prepared(), sent(), prepared(SECOND, 500), sent(SECOND))

    assert [("breach_seen", "page"), ("penalty_sent", "ticket"), ("penalty_raised", "info")] == kinds(told)
    assert "Penalty raised to 500 sat" == told[-1].title


def test_a_breach_that_comes_and_goes_wakes_somebody_once() -> None:
    """Out of the mempool, back, in a block, the block undone, in another: one page."""
    gone = SpendReplaced(recorded_at=0, txid=COMMIT, by=None, height=H)
    undone = SpendDisconnected(recorded_at=0, txid=COMMIT, block=at(H))
    told = Teller().tell(breach(), gone, breach(), breach(H), undone, breach(H + 1))

    assert [
        ("breach_seen", "page"),
        ("breach_withdrawn", "ticket"),
        ("breach_confirmed", "info"),
        ("breach_confirmed", "info"),
        ("breach_unconfirmed", "info"),
        ("breach_confirmed", "info"),
    ] == kinds(told)


def test_what_another_spend_does_is_no_matter_of_a_breach() -> None:
    """Replacement and undoing of a close that is none of the breaches say nothing."""
    told = Teller().tell(
        SpendReplaced(recorded_at=0, txid=SECOND, by=None, height=H),
        SpendDisconnected(recorded_at=0, txid=SECOND, block=at(H)),
        PenaltyDisconnected(recorded_at=0, txid=SECOND, block=at(H)),
        sent(SECOND),
        SoftFinal(recorded_at=0, txid=SECOND, block=at(H), depth=6),
    )

    assert [] == told


def test_a_penalty_whose_block_is_undone_is_told_and_told_again() -> None:
    """Each confirmation is news, under an id of its own."""
    undone = PenaltyDisconnected(recorded_at=0, txid=PENALTY, block=at(H + 1))
    told = Teller().tell(breach(H), prepared(), sent(), confirmed(H + 1), undone, confirmed(H + 2))
    after = told[2:]

    assert ["penalty_confirmed", "penalty_disconnected", "penalty_confirmed"] == [notice.kind for notice in after]
    assert 3 == len({notice.id for notice in after})


# ── deadlines ────────────────────────────────────────────────────────────────────────────────────────────


def warnings(told: list[Notice]) -> list[int | None]:
    """Blocks left in each warning."""
    return [notice.blocks_left for notice in told if notice.kind == "deadline_approaching"]


def test_a_deadline_is_told_at_a_quarter_and_at_each_half_again() -> None:
    """T = 24: at 6, 3, 1 and 0 blocks left, and no more when it has passed."""
    told = Teller().tell(breach(H), *(connected(height) for height in range(H, H + PERIOD + 5)))

    assert [6, 3, 1, 0] == warnings(told)
    assert {("page", True)} == {(n.severity, n.act) for n in told if n.kind == "deadline_approaching"}


def test_the_first_warning_can_be_chosen() -> None:
    """With 10 blocks: 10, 5, 2, 1, 0."""
    teller = Teller(Story(LOG_ID, deadline_blocks=10))
    told = teller.tell(breach(H), *(connected(height) for height in range(H, H + PERIOD)))

    assert [10, 5, 2, 1, 0] == warnings(told)


def test_steps_that_a_catch_up_passes_are_one_warning() -> None:
    """Nobody needs three messages about one jump."""
    told = Teller().tell(breach(H), connected(H), connected(H + PERIOD - 3))

    assert [2] == warnings(told)


def test_a_warning_says_whether_a_penalty_waits() -> None:
    """With one in the mempool fees are to be looked at, without one the node."""
    teller = Teller()
    without = teller.tell(breach(H), connected(H + 17))
    with_one = teller.tell(prepared(), sent(), connected(H + 20))

    assert "No node has accepted a penalty" in without[-1].text
    assert "The penalty is in the mempool" in with_one[-1].text


def test_a_confirmed_penalty_ends_the_warnings() -> None:
    """Until its block is undone: then the deadline is told anew."""
    teller = Teller()
    before = teller.tell(breach(H), prepared(), connected(H + 17), confirmed(H + 18), connected(H + 20))
    undone = PenaltyDisconnected(recorded_at=0, txid=PENALTY, block=at(H + 18))
    after = teller.tell(undone, connected(H + 20))

    assert ([6], [3]) == (warnings(before), warnings(after))


def test_a_reorganized_breach_is_warned_about_anew() -> None:
    """It has a new deadline, so the first warning comes again."""
    undone = SpendDisconnected(recorded_at=0, txid=COMMIT, block=at(H))
    teller = Teller()
    first = teller.tell(breach(H), connected(H + 17), undone)
    second = teller.tell(breach(H + 10), connected(H + 26), connected(H + 27))

    assert ([6], [6]) == (warnings(first), warnings(second))


def test_a_stale_settlement_ends_the_warnings_until_it_is_undone() -> None:
    """The loss itself is an alert of the log."""
    stale = SettleConfirmed(
        recorded_at=0,
        commit_txid=COMMIT,
        txid=SECOND,
        side=Side.B,
        sequence=3,
        revoked=True,
        value=VALUE,
        block=at(H + 24),
    )
    teller = Teller()
    lost = teller.tell(breach(H), stale, connected(H + 24))
    back = teller.tell(SettleDisconnected(recorded_at=0, txid=SECOND, block=at(H + 24)), connected(H + 25))

    assert ([], [-2]) == (warnings(lost), warnings(back))
    assert "passed 2 blocks ago" in back[-1].title


def test_no_warning_without_a_deadline() -> None:
    """An unconfirmed commitment has none."""
    one = Tracked(stream=STREAM, txid=COMMIT, sequence=3, value=VALUE)

    assert None is due_warning(one, 10_000, 0)


# ── conditions, ends and the chain ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", list(AlertKind)[1:])
def test_every_alert_has_words_of_its_own(kind: AlertKind) -> None:
    """A new one must be put into the table before it can be forgotten."""
    assert kind in ALERTS


def test_an_alert_is_told_when_it_begins_and_when_it_ends() -> None:
    """The end is as urgent, so that whoever heard of the beginning hears of it."""
    raised = AlertRaised(recorded_at=0, kind=AlertKind.UNARMED_BREACH, txid=COMMIT, sequence=3, height=H)
    cleared = AlertCleared(recorded_at=0, kind=AlertKind.UNARMED_BREACH, height=H + 1)
    begins, ends = Teller().tell(raised, cleared)

    assert ("unarmed_breach", "page", "begins", True) == (begins.kind, begins.severity, begins.status, begins.act)
    assert ("unarmed_breach", "page", "ends", False) == (ends.kind, ends.severity, ends.status, ends.act)
    assert "Over: Breach that the tower cannot punish" == ends.title


def test_an_alert_of_another_version_still_wakes_somebody() -> None:
    """Unknown is urgent."""
    (notice,) = Teller().tell(AlertRaised(recorded_at=0, kind=AlertKind.UNKNOWN, txid=None, sequence=None, height=H))

    assert (UNKNOWN_ALERT.title, "page") == (notice.title, notice.severity)


@pytest.mark.parametrize(
    ("outcome", "kind", "severity"),
    [
        (ResolvedAs.PUNISHED, "penalty_final", "ticket"),
        (ResolvedAs.LOST, "channel_lost", "ticket"),
        (ResolvedAs.DOUBLE_SPENT, "channel_void", "ticket"),
        (ResolvedAs.COOP, "channel_resolved", "info"),
        (ResolvedAs.SETTLED, "channel_resolved", "info"),
    ],
)
def test_how_a_channel_ends(outcome: ResolvedAs, kind: str, severity: str) -> None:
    """Only what was contested is more than information."""
    assert [(kind, severity)] == kinds(Teller().tell(resolved(outcome)))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (SpendKind.PEER_CLOSE, [("peer_closed", "ticket")]),
        (SpendKind.OWN_CLOSE, [("own_close", "info")]),
        (SpendKind.COOP, [("cooperative_close", "info")]),
        (SpendKind.BREACH, []),
        (SpendKind.UNKNOWN_SPEND, []),
    ],
)
def test_closes_are_told_once(kind: SpendKind, expected: list[tuple[str, str]]) -> None:
    """Breaches and what nobody knows have events of their own."""
    spend = SpendConfirmed(recorded_at=0, kind=kind, txid=COMMIT, side=Side.A, sequence=1, block=at(H), raw=None)

    assert expected == kinds(Teller().tell(spend))


def test_a_deep_reorganization_is_told_once() -> None:
    """At the fourth block in a row; blocks that come and go one by one are none."""
    shallow = Teller().tell(*(event for _ in range(9) for event in (disconnected(H), connected(H))))
    deep = Teller().tell(*(disconnected(H - back) for back in range(9)), connected(H), stream="chain")

    assert [] == shallow
    assert [("deep_reorg", "page", None)] == [(n.kind, n.severity, n.channel) for n in deep]


def test_a_double_spent_funding_wakes_somebody() -> None:
    """Goods that were given for it are lost."""
    event = FundingDoubleSpent(recorded_at=0, outpoint=bytes(36), conflict=SECOND, block=at(H))

    assert [("funding_double_spent", "page")] == kinds(Teller().tell(event))


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────


def kept(story: Story) -> dict[str, bytes]:
    """What the story hands out to be stored."""
    return {name: value for name, value in story.changes().items() if value is not None}


def test_a_story_goes_on_where_it_stopped() -> None:
    """From what was stored the next events give the same words and ids as without a stop."""
    events: tuple[Any, ...] = (connected(H), breach(H), prepared(), sent(), connected(H + 17), confirmed(H + 18))
    whole = Teller().tell(*events)
    for split in range(1, len(events)):
        first = Teller()
        told = first.tell(*events[:split])
        second = Teller(Story(LOG_ID, kept(first.story)), first=split + 1)
        told += second.tell(*events[split:])

        assert whole == told


def test_only_what_changed_is_stored() -> None:
    """A block with nothing to tell changes no breach; a resolved channel leaves none behind."""
    teller = Teller()
    teller.tell(breach(H))
    stored = kept(teller.story)
    teller.tell(connected(H))
    quiet = teller.story.changes()
    teller.tell(resolved())
    gone = {name for name, value in teller.story.changes().items() if value is None}

    assert {"tip"} == set(quiet)
    assert gone == set(stored) - {"tip"}


def test_the_same_event_of_another_log_has_another_id() -> None:
    """Two towers that tell the same person are not taken for one."""
    one, other = Teller(), Teller(Story(bytes(16)))

    assert one.tell(breach())[0].id != other.tell(breach())[0].id


def test_secrets_are_not_told() -> None:
    """Events with secrets say nothing, and no notice repeats bytes that it was not meant to."""
    revoked = StateRevoked(recorded_at=0, party=Side.B, sequence=3, secret=SECRET, next_point=b"\x02" * 33)
    told = Teller().tell(revoked, breach(H), prepared(), sent())

    assert SECRET.hex() not in msgspec.json.encode(told).decode()
    assert ["breach_seen", "penalty_sent"] == [notice.kind for notice in told]
