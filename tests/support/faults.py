"""Two parties whose processes die and whose wire loses, doubles, delays and replays messages.

Every message that leaves a party is held against that party's log at this moment (`Witness`): rules U1, U2 and U5
must hold for what was sent, not only for what arrived. `Net` carries messages with faults; `Disks` is what
survives a process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from domain.contract.params import TAPROOT
from domain.errors import DomainError
from domain.events import Envelope, StateAccepted, StateCommitted, StateProposed, StateRevoked
from domain.units import Side
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.store import MemoryEventStore
from tests.support.parties import Pair, make_party, open_pair, settings_of
from watchtower.client.party.party import ChannelParty
from watchtower.client.protocol.consent import Consent, agree
from watchtower.client.protocol.messages import (
    AnyMessage,
    Message,
    UpdateAccept,
    UpdateCommit,
    UpdatePropose,
    UpdateRevoke,
    decode_message,
    encode_message,
)

NAMES = ("alice", "bob")
PATIENCE = 400
"""Deliveries of one talk; an update has at most nine messages."""


class Crashed(Exception):
    """The process of a party died here."""


class CrashPoint:
    """A failpoint that kills at its n-th passing."""

    def __init__(self) -> None:
        self.left: int | None = None

    def __call__(self, name: str) -> None:
        """Pass, or die."""
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Crashed(name)


class Disks:
    """What survives the parties: their stores and keystores."""

    def __init__(self, consent: Consent = agree, profile: int = TAPROOT) -> None:
        self.stores = (MemoryEventStore(), MemoryEventStore())
        self.keystores = (MemoryKeystore(), MemoryKeystore())
        self.points = (CrashPoint(), CrashPoint())
        self._consent = consent
        self.profile = profile

    def start(self, side: Side) -> ChannelParty:
        """The party of a side, from what is on its disk."""
        self.points[side].left = None
        return make_party(
            NAMES[side],
            store=self.stores[side],
            keystore=self.keystores[side],
            failpoint=self.points[side],
            consent=self._consent,
            settings=settings_of(self.profile),
        )

    def copy(self) -> Disks:
        """The same disks once more: a snapshot that a test may change."""
        twin = Disks(self._consent, self.profile)
        for side in Side:
            events = [recorded.envelope for recorded in self.stores[side].read_log(0, 10_000)]
            for event in events[1:]:  # every store begins with its own first event
                twin.stores[side].append([event])
            twin.keystores[side]._secrets.update(self.keystores[side]._secrets)
        return twin

    def restart(self, pair: Pair) -> Pair:
        """Both parties anew."""
        ends = (self.start(Side.A), self.start(Side.B))
        return Pair(ends, pair.names, pair.channel_id, pair.funding)


def opened(disks: Disks, updates: int = 0) -> Pair:
    """A channel whose parties live on disks."""
    pair = open_pair(parties=(disks.start(Side.A), disks.start(Side.B)), profile=disks.profile)
    pair.updates(updates)
    return pair


class Fault(Enum):
    """What happens to one message."""

    LOSE = "lost"
    DOUBLE = "delivered twice"
    DELAY = "delivered after the next one"
    REPLAY = "followed by the oldest message of its sender"
    SENDER_DIES = "delivered, then its sender dies"
    RECEIVER_DIES = "lost because its receiver dies"


class Witness:
    """Checks what leaves a party against its log, and that nobody signs two contents for a number (U5)."""

    def __init__(self) -> None:
        self._signed: dict[tuple[Side, int], bytes] = {}
        self._first: dict[tuple[Side, type[Message], int], Message] = {}

    def sees(self, party: ChannelParty, side: Side, message: Message) -> None:
        """Fail with the rule that the message breaks."""
        match message:
            case UpdatePropose():
                self._one_content(side, message.seq, message.state_hash)
                self._same_bytes(side, message.seq, message)
            case UpdateAccept():
                self._one_content(side, message.seq, message.state_hash)
                self._same_bytes(side, message.seq, message)
                assert message.seq in _numbers(party, message.channel_id, StateProposed, side.other), "U1"
            case UpdateCommit():
                self._same_bytes(side, message.seq, message)
                assert message.seq in _numbers(party, message.channel_id, StateAccepted, side.other), "U1"
                self._released(party, side, message)
            case UpdateRevoke():
                self._same_bytes(side, message.seq, message)
                self._released(party, side, message)

    def _one_content(self, side: Side, seq: int, state_hash: bytes) -> None:
        assert self._signed.setdefault((side, seq), bytes(state_hash)) == state_hash, "U5"

    def _same_bytes(self, side: Side, seq: int, message: Message) -> None:
        assert self._first.setdefault((side, type(message), seq), message) == message, "a retransmission differs"

    def _released(self, party: ChannelParty, side: Side, message: UpdateCommit | UpdateRevoke) -> None:
        committed = {
            event.payload.sequence
            for event in _events(party, message.channel_id)
            if isinstance(event.payload, StateCommitted)
        }
        assert message.seq in committed, "U2: the state is not complete"
        revoked = {
            event.payload.sequence
            for event in _events(party, message.channel_id)
            if isinstance(event.payload, StateRevoked) and event.payload.party is side
        }
        assert message.seq == 0 or message.seq - 1 in revoked, "U2: the release is not recorded"


class Net:
    """Two parties on disks and a wire with faults by message number, counted from the start of the net."""

    def __init__(self, disks: Disks, pair: Pair, faults: Mapping[int, Fault] | None = None) -> None:
        self.disks = disks
        self.pair = pair
        self.parties = list(pair.parties)
        self.faults = dict(faults or {})
        self.refusals: list[DomainError] = []
        self.sent = 0
        self.witness = Witness()
        self._waiting: deque[tuple[Side, AnyMessage]] = deque()
        self._delayed: list[tuple[Side, AnyMessage]] = []
        self._history: tuple[list[AnyMessage], list[AnyMessage]] = ([], [])

    def act(self, side: Side, call: Callable[[ChannelParty], Sequence[Message]]) -> None:
        """Let a party do something and carry what it says; a refusal is kept, a crash restarts it."""
        try:
            messages = call(self.parties[side])
        except DomainError as refusal:
            self.refusals.append(refusal)
            return
        except Crashed:
            self._restart(side)
            return
        self._send(side, messages)

    def talk(self) -> None:
        """Deliver until nobody has anything to say."""
        for _ in range(PATIENCE):
            if not self._waiting:
                self._waiting.extend(self._delayed)
                self._delayed.clear()
            if not self._waiting:
                return
            target, message = self._waiting.popleft()
            self.act(target, lambda party, message=message: party.receive(message))
        raise AssertionError("the parties do not come to an end")

    def hello(self) -> None:
        """Both sides say where they stand, by the name that both know."""
        for side in Side:
            self.act(side, lambda party: party.reconnect(self.pair.params.proposal_id))
        self.talk()

    def heal(self) -> Pair:
        """No more faults: both restart, reconnect twice, and drop offers that nobody signed."""
        self.faults.clear()
        self._waiting.clear()
        self._delayed.clear()
        for side in Side:
            self.parties[side] = self.disks.start(side)
        self.hello()
        self.hello()
        for party in self.parties:
            party.withdraw(self.pair.channel_id)
        return Pair((self.parties[0], self.parties[1]), self.pair.names, self.pair.channel_id, self.pair.funding)

    def _send(self, side: Side, messages: Sequence[Message]) -> None:
        for message in messages:
            self.witness.sees(self.parties[side], side, message)
            number, self.sent = self.sent, self.sent + 1
            if not self._carry(side, decode_message(encode_message(message)), self.faults.get(number)):
                return

    def _carry(self, side: Side, message: AnyMessage, fault: Fault | None) -> bool:
        """Put a message on its way; False if the connection broke with it."""
        self._history[side].append(message)
        target = side.other
        match fault:
            case None:
                self._waiting.append((target, message))
            case Fault.LOSE:
                pass
            case Fault.DOUBLE:
                self._waiting.extend([(target, message)] * 2)
            case Fault.DELAY:
                self._delayed.append((target, message))
            case Fault.REPLAY:
                self._waiting.extend([(target, message), (target, self._history[side][0])])
            case Fault.SENDER_DIES:
                self._waiting.clear()
                self.act(target, lambda party: party.receive(message))
                self._restart(side)
                return False
            case Fault.RECEIVER_DIES:
                self._restart(target)
                return False
        return True

    def _restart(self, side: Side) -> None:
        """The connection is gone with everything on it; both sides reconnect."""
        self._waiting.clear()
        self._delayed.clear()
        self.parties[side] = self.disks.start(side)
        for each in Side:
            self.act(each, lambda party: party.reconnect(self.pair.params.proposal_id))


def _events(party: ChannelParty, channel_id: bytes) -> Sequence[Envelope]:
    return party._store.read_stream(party.channel(channel_id).stream)


def _numbers(
    party: ChannelParty, channel_id: bytes, form: type[StateProposed] | type[StateAccepted], by: Side
) -> set[int]:
    """State numbers of events by one side in a party's log."""
    payloads = [event.payload for event in _events(party, channel_id)]
    return {each.sequence for each in payloads if isinstance(each, form) and each.by is by}
