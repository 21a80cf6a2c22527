"""Two parties with known seeds, a channel between them, and everything that a test may want from it.

    pair = open_pair(fund=node_fund(node))      # or without `fund`: a made-up funding transaction
    pair.updates(5)                             # A pays B 1,000 sat each time
    pair.commitment(Side.A, 2)                  # A's stale, fully signed commitment of state 2
    pair.settlement(Side.A, 5)                  # the settlement of A's newest commitment
    pair.registration(Side.B)                   # what B gives its own tower; update_request, release_request

Amounts are satoshi, txids in internal byte order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

from domain.application import Application
from domain.chain import make_outpoint
from domain.contract.commitment import contest_key
from domain.contract.conditions import Condition, encode_conditions
from domain.contract.derivation import ChannelSecrets
from domain.contract.params import TAPROOT, ChannelParams
from domain.contract.revocation import commitment_point, commitment_secret
from domain.contract.state import build_header, sign_state
from domain.transaction import Transaction, TxIn, TxOut
from domain.units import Side
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.store import MemoryEventStore
from tests.support.cheater import secrets_of, unsafe_commitment
from tests.support.clocks import FixedClock
from watchtower.client.party import exchange
from watchtower.client.party.party import ChannelParty, PartySettings
from watchtower.client.protocol import uploads
from watchtower.client.protocol.channel import CompleteState, Content
from watchtower.client.protocol.consent import Consent, agree
from watchtower.client.protocol.news import Listener, silence
from watchtower.client.protocol.opening import NO_APP, Terms
from watchtower.client.protocol.rules import Resolve, no_descriptors
from watchtower.devnode.purse import Funding
from watchtower.ports import EventStore, Failpoint, Keystore
from watchtower.wire.api import RegisterRequest, RevocationRequest, UpdateRequest
from watchtower.wire.hexes import Hex33, SecretHex

STEP_SAT = 1_000
"""What one default update moves from A to B."""


Fund = Callable[[bytes, int], Funding]
"""(scriptPubKey, amount) → funding transaction, not broadcast. `RegtestNode.fund(..., broadcast=False)` fits."""


def seed_of(name: str) -> bytes:
    """A seed that depends on the name only."""
    return sha256(b"test party " + name.encode()).digest()


def counting_entropy(name: str) -> Callable[[], bytes]:
    """32 bytes that are different at every call and the same in every run."""
    drawn = iter(range(2**63))
    return lambda: sha256(f"entropy {name} {next(drawn)}".encode()).digest()


def made_up_funding(spk: bytes, amount: int) -> Funding:
    """A funding transaction that exists nowhere; its input is made from the script."""
    source = TxIn(make_outpoint(sha256(b"coin for " + spk).digest(), 0), 0xFFFFFFFD)
    tx = Transaction(version=2, inputs=(source,), outputs=(TxOut(amount, spk),), lock_time=0)
    return Funding(tx.txid, 0, tx.serialize())


def make_party(
    name: str,
    *,
    store: EventStore | None = None,
    keystore: Keystore | None = None,
    clock: FixedClock | None = None,
    failpoint: Failpoint = lambda name: None,
    settings: PartySettings | None = None,
    consent: Consent = agree,
    applications: Sequence[Application] = (),
    resolve: Resolve = no_descriptors,
    listener: Listener = silence,
) -> ChannelParty:
    """A regtest party with the seed of its name, in memory unless a store is given.

    It agrees to every valid state, also to one in which it loses; pass `never_lose` for the default of real ones.

    Calling it again with the same store and keystore is a restart of that party.
    """
    keys = MemoryKeystore() if keystore is None else keystore
    ChannelParty.create_seed(keys, seed_of(name))
    return ChannelParty(
        MemoryEventStore() if store is None else store,
        keys,
        FixedClock() if clock is None else clock,
        PartySettings(network="regtest") if settings is None else settings,
        consent=consent,
        applications=applications,
        resolve=resolve,
        listener=listener,
        entropy=counting_entropy(name),
        failpoint=failpoint,
    )


def settings_of(profile: int) -> PartySettings:
    """Settings of a party whose new channels have this profile; it takes any T and any low reserve."""
    return PartySettings(
        network="regtest", taproot_enabled=profile == TAPROOT, max_challenge_period=65_535, min_reserve_sat=0
    )


class Pair:
    """A channel between A (the opener) and B with both parties in this process."""

    def __init__(
        self,
        parties: tuple[ChannelParty, ChannelParty],
        names: tuple[str, str],
        channel_id: bytes,
        funding: Funding,
    ) -> None:
        self.parties = parties
        self.names = names
        self.channel_id = channel_id
        self.funding = funding

    @property
    def a(self) -> ChannelParty:
        """The opener."""
        return self.parties[Side.A]

    @property
    def b(self) -> ChannelParty:
        """The acceptor."""
        return self.parties[Side.B]

    @property
    def params(self) -> ChannelParams:
        """The channel constants."""
        return self.a.channel(self.channel_id).params

    @property
    def sequence(self) -> int:
        """The newest complete state."""
        return self.a.channel(self.channel_id).sequence

    @property
    def balances(self) -> tuple[int, int]:
        """Balances of the newest complete state."""
        return self.a.channel(self.channel_id).balances

    # ── moving on ────────────────────────────────────────────────────────────────────────────────────────

    def update(
        self,
        balances: tuple[int, int] | None = None,
        conditions: Sequence[Condition] = (),
        state_data: bytes = b"",
    ) -> int:
        """One update; without balances A pays B `STEP_SAT`. Returns the new state number."""
        if balances is None:
            before = self.balances
            balances = (before[0] - STEP_SAT, before[1] + STEP_SAT)
        return exchange.update(self.a, self.b, self.channel_id, balances, conditions, state_data)

    def updates(self, count: int) -> int:
        """That many default updates; returns the newest state number."""
        for number in range(count):
            self.update(state_data=f"payment_{number + 1}".encode())
        return self.sequence

    def with_htlcs(self, *conditions: Condition) -> int:
        """One update that takes the amounts of the conditions from their offerers."""
        left = list(self.balances)
        for condition in conditions:
            left[condition.offerer] -= condition.amount
        return self.update((left[0], left[1]), conditions)

    def close(self, closer: Side, fee: int = 1_000, musig: bool = False) -> bytes:
        """Cooperative close with the newest balances; the complete transaction."""
        ends = (self.parties[closer], self.parties[closer.other])
        return exchange.close(*ends, self.channel_id, self.balances, fee, musig=musig)

    # ── transactions ─────────────────────────────────────────────────────────────────────────────────────

    def commitment(self, side: Side, sequence: int) -> bytes:
        """The fully signed commitment of a side for any state, revoked or not."""
        tx = unsafe_commitment(seed_of(self.names[side]), self.parties[side], self.channel_id, sequence)
        return tx.serialize()

    def commitment_txid(self, side: Side, sequence: int) -> bytes:
        """Its txid."""
        return self.state(sequence).content.read_header().commit_txid(side)

    def settlement(self, side: Side, sequence: int) -> bytes:
        """The fully signed settlement that spends the commitment of `side`."""
        return self.a.settlement(self.channel_id, sequence, side)

    def contest_key(self, side: Side, sequence: int) -> bytes:
        """R (33 bytes) of the commitment of a side."""
        return contest_key(self.params, side, self.point(side, sequence))

    # ── states and secrets ───────────────────────────────────────────────────────────────────────────────

    def state(self, sequence: int) -> CompleteState:
        """A complete state with all eight signatures."""
        return self.a.state(self.channel_id, sequence)

    def secrets(self, side: Side) -> ChannelSecrets:
        """All secrets of a side."""
        return secrets_of(seed_of(self.names[side]), self.parties[side], self.channel_id)

    def point(self, side: Side, sequence: int) -> bytes:
        """Per-commitment point of a side."""
        return commitment_point(self.secrets(side).seed, sequence)

    def secret(self, side: Side, sequence: int) -> bytes:
        """Per-commitment secret of a side, released or not."""
        return commitment_secret(self.secrets(side).seed, sequence)

    # ── what a side gives its own tower ──────────────────────────────────────────────────────────────────

    def registration(self, side: Side, with_funding_tx: bool = True) -> RegisterRequest:
        """The registration of the side's own tower, with the funding transaction unless told otherwise."""
        raw = self.funding.raw if with_funding_tx else None
        return self.parties[side].registration(self.channel_id, raw)

    def update_request(self, side: Side, sequence: int) -> UpdateRequest:
        """The upload of a state with the counterparty's revocation of its predecessor."""
        return self.parties[side].update_body(self.channel_id, sequence)

    def forged_update(
        self,
        side: Side,
        balances: tuple[int, int],
        *,
        conditions: Sequence[Condition] = (),
        sequence: int | None = None,
        app_id: bytes = NO_APP,
        prev_state_hash: bytes | None = None,
        with_secret: bool = True,
    ) -> UpdateRequest:
        """An upload that both parties signed although it may break every rule of protocol 5.1.

        Without `sequence` it stands in the place of the next state; amounts may be wrong, signatures are valid.
        """
        number = self.sequence + 1 if sequence is None else sequence
        points = (self.point(Side.A, number), self.point(Side.B, number))
        before = self.state(self.sequence).content.state_hash if prev_state_hash is None else prev_state_hash
        header = build_header(self.params, number, balances, conditions, b"", before, app_id, *points)
        signed = [
            sign_state(self.params, header, conditions, each, self.secrets(each), points, bytes(32)) for each in Side
        ]
        content = Content(header.encode(), encode_conditions(conditions), b"")
        state = CompleteState(content, Side.A, signed[0], signed[1])
        body = uploads.state_body(self.parties[side]._seat(self.parties[side].channel(self.channel_id)), state)
        if not with_secret:
            return UpdateRequest(state=body)
        secret, following = self.secret(side.other, number - 1), self.point(side.other, number + 1)
        return UpdateRequest(state=body, revoked_secret=SecretHex(secret), next_point=Hex33(following))

    def release_request(self, side: Side, sequence: int) -> RevocationRequest:
        """The record that the side itself revoked a state."""
        return self.parties[side].release_body(self.channel_id, sequence)


def open_pair(
    fund: Fund = made_up_funding,
    *,
    balances: tuple[int, int] = (500_000, 500_000),
    names: tuple[str, str] = ("alice", "bob"),
    parties: tuple[ChannelParty, ChannelParty] | None = None,
    state_data: bytes = b"",
    app_id: bytes = NO_APP,
    challenge_period: int = 144,
    static_feerate: int = 2000,
    reserve_sat: int | None = None,
    flags: int = 0,
    profile: int = TAPROOT,
) -> Pair:
    """Two parties with a complete state 0. `balances` are of A and B; their sum is the capacity.

    The funding transaction is made by `fund` and not broadcast here: do that after the registration.
    """
    settings = settings_of(profile)
    made_here = (make_party(names[0], settings=settings), make_party(names[1], settings=settings))
    ends = made_here if parties is None else parties
    made: list[Funding] = []

    def pay(spk: bytes, amount: int) -> tuple[bytes, int]:
        made.append(fund(spk, amount))
        return made[0].txid, made[0].vout

    terms = Terms(
        balances=balances,
        challenge_period=challenge_period,
        static_feerate=static_feerate,
        reserve_sat=reserve_sat,
        flags=flags,
        profile=profile,
    )
    channel_id = exchange.open_channel(*ends, terms, pay, state_data=state_data, app_id=app_id)
    return Pair(ends, names, channel_id, made[0])


def htlc(by: Side, number: int, amount: int, expiry: int, preimage: bytes | None = None) -> Condition:
    """An HTLC offered by a side; the default preimage depends on the number only (`preimage_of`)."""
    secret = preimage_of(number) if preimage is None else preimage
    return Condition(int(by), number, expiry, amount, sha256(secret).digest())


def preimage_of(number: int) -> bytes:
    """The preimage that `htlc` uses for a condition number."""
    return sha256(b"preimage %d" % number).digest()
