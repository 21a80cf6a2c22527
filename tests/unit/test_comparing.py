"""After a restore of the tower: the client notices, uploads what is missing, and tells when nothing is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from domain.chain import chain_hash
from domain.events import Envelope, HoldingsConfirmed, Recorded, StoreRestored
from domain.transaction import Transaction
from projections.log_standing import LogStanding
from tests.fakes.store import LOG_ID, MemoryEventStore
from tests.support.parties import Pair, open_pair
from tests.support.towers import TOKEN, TOWER_ID, TOWER_KEY, Bench
from watchtower.channels.context import Rollback
from watchtower.client import StateChannelClient, StateChannelConfig
from watchtower.client.errors import ReceiptOutOfOrder, SequenceConflict, TowerUnreachable
from watchtower.client.party import exchange
from watchtower.client.party.party import ChannelParty
from watchtower.client.protocol.htlcs import Change
from watchtower.client.protocol.messages import AnyMessage, Message, UpdateAccept, UpdateCommit, UpdateRevoke
from watchtower.client.tower import comparing
from watchtower.client.tower.comparing import TowerComparison
from watchtower.continuity.coverage import Coverage
from watchtower.http.services import bind
from watchtower.ports import StoreFull
from watchtower.receipts.signer import ReceiptSigner
from watchtower.store.log_stream import append_to_log_stream
from watchtower.wire.restores import ConfirmationRequest

pytestmark = pytest.mark.slow

REGTEST = StateChannelConfig(network="regtest")
UPDATES = 3


class Restored:
    """`Rollbacks` of a tower that went on behind a position; `accepted` by its operator or not yet."""

    def __init__(self, tower: Bench, since: int, *, accepted: bool = True) -> None:
        self.standing = LogStanding(epoch=1, restored_at=since, high_water=since + 9)
        self.coverage = Coverage(self.standing, tower.store, tower.rows)
        self.accepted = accepted

    def epoch(self) -> int:
        """The second one, once it was accepted."""
        return int(self.accepted)

    def awaits(self, stream: str) -> bool:
        """As the log says."""
        self.coverage.follow()
        return self.coverage.waits_for(stream)

    def behind(self) -> Rollback | None:
        """What is waited for."""
        self.coverage.follow()
        waiting = len(self.coverage)
        return (
            Rollback(self.standing.restored_at, self.standing.high_water, waiting, self.accepted) if waiting else None
        )


class Wire(httpx.AsyncBaseTransport):
    """Leads to the tower that is plugged in, or nowhere; notes the paths."""

    def __init__(self, tower: Bench) -> None:
        self.tower: Bench | None = tower
        self.paths: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry."""
        if self.tower is None:
            raise httpx.ConnectError("refused")
        self.paths.append(f"{request.method} {request.url.path.split('/')[-1]}")
        return await self.tower.transport().handle_async_request(request)


class Town:
    """B, its tower with some updates of a channel, and a wire on which another tower can be put."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pair: Pair = open_pair()
        self.first = self.make_tower("first", None)
        self.wire = Wire(self.first)
        self.client = StateChannelClient(
            REGTEST, url="http://tower", token=TOKEN, party=self.pair.b, transport=self.wire, tower_id=TOWER_ID
        )
        self.comparison = TowerComparison(self.client, self.pair.b, self.bring, lambda: self.client._book.highest)
        self.channel_id = self.pair.channel_id

    def make_tower(self, name: str, log: MemoryEventStore | None) -> Bench:
        """A tower whose node knows the funding output."""
        (self.directory / name).mkdir()
        tower = Bench(self.directory / name, store=log)
        tower.fund(self.pair)
        tower.catch_up()
        return tower

    async def bring(self, channel_id: bytes) -> None:
        """As the client does for itself."""
        self.client._delivered.pop(channel_id, None)
        await self.client.synchronize(channel_id)

    async def fill(self) -> list[int]:
        """Connect, register and update at the first tower; where its log ended after each step."""
        await self.client.connect()
        await self.client.synchronize(self.channel_id)
        self.first.confirm(self.pair)
        ends = [self.first.store.last_id()]
        for _ in range(UPDATES):
            self.pair.updates(1)
            await self.client.synchronize(self.channel_id)
            ends.append(self.first.store.last_id())
        return ends

    def roll_back(self, until: int, *, accepted: bool = True, told: bool = True) -> Bench:
        """Put a tower on the wire whose log is the first one's up to an event."""
        log = MemoryEventStore(chain_hash("regtest"))
        for recorded in self.first.store.read_log(1, until - 1):
            log.append([recorded.envelope])
        if told and accepted:
            event = StoreRestored(
                recorded_at=0, epoch=1, position=until, head=bytes(32), high_water=until + 9, source="test"
            )
            append_to_log_stream(log, event)
        second = self.make_tower("second", log)
        if told:
            rollbacks = Restored(second, until, accepted=accepted)
            signer = ReceiptSigner(
                TOWER_KEY,
                LOG_ID,
                log,
                epoch_at=lambda position: int(position > until),
                may_sign=lambda: rollbacks.accepted,
            )
            second.context = replace(second.context, rollbacks=rollbacks, receipts=signer)
        second.services = bind(
            second.context, lambda: second.standing, version="1", network="regtest", tower_id=TOWER_ID
        )
        self.wire.tower = second
        return second

    def sequence(self, tower: Bench) -> int:
        """Newest state that a tower has of the channel."""
        return tower.services.get_channel(self.channel_id.hex()).current_sequence


@pytest.fixture
def town(tmp_path: Path) -> Town:
    """Not connected yet."""
    return Town(tmp_path)


def confirmations(tower: Bench) -> list[HoldingsConfirmed]:
    """What the log of a tower says about comparisons."""
    recorded: list[Recorded] = tower.store.read_log(0, 1_000)
    envelopes: list[Envelope] = [each.envelope for each in recorded]
    return [each.payload for each in envelopes if isinstance(each.payload, HoldingsConfirmed)]


@pytest.mark.asyncio
async def test_a_tower_that_lacks_nothing_is_left_alone(town: Town) -> None:
    """The first look asks for each channel once, later ones for the tower alone."""
    await town.fill()
    await town.comparison.look()
    town.wire.paths.clear()

    await town.comparison.look()

    assert ["GET info"] == town.wire.paths


@pytest.mark.asyncio
async def test_a_state_that_the_peer_published_and_did_not_complete_is_brought(town: Town) -> None:
    """Nobody calls: the next look finds the close, and the tower gets what it has to settle. Nothing freezes."""
    await town.fill()
    a, b = town.pair.parties
    exchange.run(a, b, a.change(town.channel_id, Change(pay=1_000)), lose(UpdateCommit))
    commitment = Transaction.parse(a.sign_commitment(town.channel_id, UPDATES + 1))
    town.first.publish(town.pair, commitment)
    before = town.sequence(town.first)

    await town.comparison.look()
    await town.bring(town.channel_id)

    assert (UPDATES, UPDATES + 1) == (before, town.sequence(town.first))
    assert b.channel(town.channel_id).frozen is None


@pytest.mark.asyncio
@pytest.mark.parametrize("call", ["look", "close"])
async def test_an_own_state_that_is_published_instead_of_completed_reaches_the_tower(town: Town, call: str) -> None:
    """The party died behind message 2. The tower gets what it has to settle, and nothing else is ever signed for it."""
    await town.fill()
    a, b = town.pair.parties
    with pytest.raises(PowerCut):
        exchange.run(b, a, b.change(town.channel_id, Change(pay=1_000)), cut_behind_acceptance(b))
    b._failpoint = lambda name: None
    own = town.client.close_channel_unilateral(town.channel_id.hex(), UPDATES + 1)

    if call == "look":
        own.close()
        b.sign_commitment(town.channel_id, UPDATES + 1)
        await town.comparison.look()
    else:
        await own
    await town.bring(town.channel_id)

    channel = town.first.context.channels.load(confirmed_stream(town.first, town))
    assert (UPDATES + 1, UPDATES) == (channel.sequence, b.channel(town.channel_id).sequence)
    assert b.channel(town.channel_id).frozen is None
    assert UPDATES - 1 == b.channel(town.channel_id).own_released


class PowerCut(Exception):
    """The party's process died here."""


def cut_behind_acceptance(party: ChannelParty) -> exchange.Carry:
    """A wire on which the party dies when it has stored message 2."""
    writes = iter(range(2))

    def fail(name: str) -> None:
        if name == "store:before" and next(writes) == 1:
            raise PowerCut(name)

    def carry(sender: ChannelParty, message: Message) -> Sequence[AnyMessage]:
        if isinstance(message, UpdateAccept):
            party._failpoint = fail
        return exchange.deliver(sender, message)

    return carry


def lose(kind: type[Message]) -> exchange.Carry:
    """A wire on which these messages are lost."""
    return lambda sender, message: () if isinstance(message, kind) else exchange.deliver(sender, message)


@pytest.mark.asyncio
@pytest.mark.parametrize("call", ["look", "close"])
async def test_a_state_whose_predecessor_the_peer_does_not_revoke_reaches_the_tower(town: Town, call: str) -> None:
    """The own secret is out, so that only the new state can be published: by the peer at any time, or by this side."""
    await town.fill()
    a, b = town.pair.parties
    exchange.run(b, a, b.change(town.channel_id, Change(pay=1_000)), lose(UpdateRevoke))
    before = town.sequence(town.first)

    if call == "look":
        await town.comparison.look()
    else:
        await town.client.close_channel_unilateral(town.channel_id.hex(), UPDATES + 1)

    assert (UPDATES, UPDATES + 1) == (before, town.sequence(town.first))
    assert b.channel(town.channel_id).firm is None


@pytest.mark.asyncio
async def test_fault_P8_lost_states_are_uploaded_again(town: Town) -> None:
    """States, revocations and the own release, in order; then the channel is confirmed, once."""
    ends = await town.fill()
    second = town.roll_back(ends[1])
    before = town.sequence(second)

    await town.comparison.look()
    await town.comparison.look()

    info = second.services.get_channel(town.channel_id.hex())
    assert (1, UPDATES, UPDATES - 1) == (before, info.current_sequence, info.highest_revoked)
    assert [(1, UPDATES)] == [(event.epoch, event.sequence) for event in confirmations(second)]
    assert second.services.get_tower(None).behind_receipts is None
    assert UPDATES - 1 == second.context.channels.load(confirmed_stream(second, town)).own_released


@pytest.mark.asyncio
async def test_a_party_whose_disk_is_full_for_a_while_compares_again(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it could not store ends neither this look nor the next ones."""
    monkeypatch.setattr(comparing, "RETRY_SECONDS", 0.01)
    ends = await town.fill()
    second = town.roll_back(ends[1])
    full, brought = [StoreFull("no space left")] * 2, asyncio.Event()

    async def bring(channel_id: bytes) -> None:
        with contextlib.suppress(IndexError):
            raise full.pop()
        await town.bring(channel_id)
        brought.set()

    comparison = TowerComparison(town.client, town.pair.b, bring)
    async with asyncio.timeout(60):
        running = asyncio.create_task(comparison.run())
        await asyncio.wait((running, asyncio.create_task(brought.wait())), return_when=asyncio.FIRST_COMPLETED)
    running.cancel()

    assert (True, UPDATES) == (brought.is_set(), town.sequence(second))


def confirmed_stream(tower: Bench, town: Town) -> str:
    """The stream of the channel."""
    return tower.context.channels.stream_of(town.pair.params.proposal_id)


@pytest.mark.asyncio
async def test_fault_P8_a_lost_registration_is_made_again(town: Town) -> None:
    """The tower does not know the channel at all; its funding must be seen again before states are taken."""
    await town.fill()
    second = town.roll_back(1)

    with pytest.raises(Exception, match="confirm"):
        await town.comparison.look()
    second.confirm(town.pair)
    await town.comparison.look()

    assert UPDATES == town.sequence(second)


@pytest.mark.asyncio
async def test_fault_P8_a_tower_that_does_not_know_it_is_noticed(town: Town) -> None:
    """Without a high-water file the tower says nothing: its log is shorter than it was."""
    ends = await town.fill()
    await town.comparison.look()
    second = town.roll_back(ends[1], told=False)

    with pytest.raises(ReceiptOutOfOrder):
        await town.comparison.look()

    assert UPDATES == town.sequence(second)
    assert [] == confirmations(second)


@pytest.mark.asyncio
async def test_fault_P8_a_log_shorter_than_a_receipt_is_noticed(town: Town) -> None:
    """Everything happened between two looks: only the receipts know how far the log had come."""
    await town.client.connect()
    await town.comparison.look()
    ends = await town.fill()
    second = town.roll_back(ends[1], told=False)

    with pytest.raises(ReceiptOutOfOrder):
        await town.comparison.look()
    town.wire.paths.clear()
    await town.comparison.look()

    assert (UPDATES, ["GET info"]) == (town.sequence(second), town.wire.paths)


@pytest.mark.asyncio
async def test_fault_P8_the_first_look_finds_it_too(town: Town) -> None:
    """A party that was away while the tower was restored."""
    ends = await town.fill()
    second = town.roll_back(ends[2], told=False)

    with pytest.raises(ReceiptOutOfOrder):
        await town.comparison.look()

    assert UPDATES == town.sequence(second)


@pytest.mark.asyncio
async def test_fault_P8_states_are_given_before_the_operator_decides(town: Town) -> None:
    """Protection first: no receipts, no confirmation; both come in the new epoch."""
    ends = await town.fill()
    second = town.roll_back(ends[1], accepted=False)
    await town.comparison.look()
    early = (town.sequence(second), len(confirmations(second)))
    standing = second.context.rollbacks
    assert isinstance(standing, Restored)
    standing.accepted = True

    await town.comparison.look()

    assert ((UPDATES, 0), 1) == (early, len(confirmations(second)))


@pytest.mark.asyncio
async def test_a_tower_that_is_away_is_asked_again(town: Town) -> None:
    """The look fails; the next one, at another log, does its work."""
    ends = await town.fill()
    await town.comparison.look()
    town.wire.tower = None
    with pytest.raises(TowerUnreachable):
        await town.comparison.look()

    second = town.roll_back(ends[1])
    await town.comparison.look()

    assert UPDATES == town.sequence(second)


@pytest.mark.asyncio
async def test_the_next_update_mends_the_channel_without_a_look(town: Town) -> None:
    """A tower that misses states refuses the next one; the client looks where it stands, and sends them all."""
    ends = await town.fill()
    second = town.roll_back(ends[1])
    town.pair.updates(1)

    await town.client.synchronize(town.channel_id)

    assert UPDATES + 1 == town.sequence(second)


@pytest.mark.parametrize(
    ("epoch", "sequence", "revoked", "released", "why"),
    [
        (0, 1, 0, 0, "epoch 1, not 0"),
        (1, 2, 0, 0, "newest state here is 1"),
        (1, 1, 1, 0, "revocation of the counterparty here is 0"),
        (1, 1, 0, 1, "own revocation here is 0"),
    ],
)
@pytest.mark.asyncio
async def test_the_tower_confirms_nothing_that_it_lacks(
    town: Town, epoch: int, sequence: int, revoked: int, released: int, why: str
) -> None:
    """A confirmation is compared with the log, and its epoch with the present one."""
    ends = await town.fill()
    second = town.roll_back(ends[1])
    told = ConfirmationRequest(epoch=epoch, sequence=sequence, highest_revoked=revoked, own_released=released)

    with pytest.raises(SequenceConflict, match=why):
        await town.client.confirm_holdings(town.channel_id.hex(), told)

    assert [] == confirmations(second)


@pytest.mark.asyncio
async def test_a_confirmation_that_nobody_asked_for_changes_nothing(town: Town) -> None:
    """A tower that was never restored answers, and stores nothing."""
    await town.fill()
    before = town.first.store.last_id()
    told = ConfirmationRequest(epoch=0, sequence=UPDATES, highest_revoked=UPDATES - 1, own_released=UPDATES - 1)

    await town.client.confirm_holdings(town.channel_id.hex(), told)

    assert before == town.first.store.last_id()


@pytest.mark.asyncio
async def test_channels_that_came_later_are_not_waited_for(town: Town) -> None:
    """Only what was there before the rollback can lack something."""
    await town.fill()

    waits = Coverage(LogStanding(epoch=1, restored_at=1, high_water=9), town.first.store, town.first.rows)

    assert 0 == len(waits)
