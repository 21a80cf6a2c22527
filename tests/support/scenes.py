"""One channel as its tower sees it, from fixed secrets: states, signatures, transactions, history. No node, no store.

State n gives A 600,000 sat minus 1,000 per state and minus its conditions; B has the rest of 1,000,000 sat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256

import msgspec

from domain.chain import BlockRef, OutPoint, chain_hash, make_outpoint
from domain.channel import Channel
from domain.channel_fold import fold
from domain.classifier import Verdict, classify, encoded_number
from domain.contract import keys
from domain.contract.closing import build_cooperative_close, complete_close_by_leaf, sign_close
from domain.contract.commitment import complete_commitment, contest_key, sign_funding
from domain.contract.conditions import Condition
from domain.contract.derivation import ChannelSecrets, channel_keys
from domain.contract.params import ChannelParams, ParamsPolicy, default_reserve
from domain.contract.penalty import build_penalty, sign_penalty
from domain.contract.revocation import commitment_secret, revocation_secret
from domain.contract.scripts import funding_txout, p2tr
from domain.contract.settlement import complete_settlement
from domain.contract.state import (
    NO_HASH,
    NOT_GIVEN,
    StateHeader,
    StateTransactions,
    build_header,
    sign_state,
    state_transactions,
)
from domain.events import Envelope, Payload, Source, envelopes
from domain.opening import RegisterChannel, StateContent, decide_register
from domain.spending import contest_confirmed, funding_confirmed, spend_confirmed, spend_seen
from domain.transaction import Transaction, TxIn
from domain.units import Side
from domain.updating import RevokeState, UpdateState, decide_update

AUX = bytes(32)
NOW = 1_700_000_000_000_000
CAPACITY = 1_000_000
FUNDED_AT = 100
STREAM = "c" + "s" * 22
UPLOAD = sha256(b"upload").digest()
POLICY = ParamsPolicy(chain_hash("regtest"))


@cache
def secrets_of(side: Side) -> ChannelSecrets:
    """All secrets of one side."""
    return channel_keys(bytes((7 + side,)) * 32, 1, 0)


def payout(side: Side) -> bytes:
    """Where a side's balance goes."""
    return p2tr(keys.public_key(secrets_of(side).payout)[1:])


def sweep(side: Side) -> bytes:
    """Where penalties of a side go."""
    return p2tr(keys.public_key(secrets_of(side).sweep)[1:])


def block(height: int, branch: int = 0) -> BlockRef:
    """A block by height; another branch has another hash."""
    return BlockRef(height, sha256(f"{branch}/{height}".encode()).digest())


@cache
def unfunded_params() -> ChannelParams:
    """Constants before the funding outpoint is known."""
    return ChannelParams(
        chain_hash=chain_hash("regtest"),
        funding_txid=bytes(32),
        funding_vout=0xFFFFFFFF,
        capacity=CAPACITY,
        challenge_period=144,
        reserve_sat=default_reserve(CAPACITY),
        keys_a=secrets_of(Side.A).key_block(payout(Side.A)),
        keys_b=secrets_of(Side.B).key_block(payout(Side.B)),
    )


def funding_of(params: ChannelParams) -> Transaction:
    """A transaction that creates the funding output."""
    coin = TxIn(make_outpoint(b"\x11" * 32, 0), 0xFFFFFFFD, b"", (b"\x01" * 64,))
    return Transaction(2, (coin,), (funding_txout(params),), 0)


def funded(params: ChannelParams) -> ChannelParams:
    """The constants with the outpoint of `funding_of`."""
    return params.with_funding(funding_of(params).txid, 0)


class Scene:
    """A channel, its history so far, and all transactions that its parties could publish."""

    def __init__(
        self,
        own: Side = Side.A,
        *,
        params: ChannelParams | None = None,
        conditions: Mapping[int, Sequence[Condition]] | None = None,
        secrets: Mapping[tuple[Side, int], bytes] | None = None,
        sweep_spk: bytes | None = None,
    ) -> None:
        self.own = own
        self.peer = own.other
        self.params = funded(unfunded_params()) if params is None else params
        self.sweep_spk = sweep(own) if sweep_spk is None else sweep_spk
        self.events: list[Envelope] = []
        self._conditions = conditions or {}
        self._secrets = secrets or {}
        self._states: dict[int, StateContent] = {}

    # ── history ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def channel(self) -> Channel:
        """The fold of the history."""
        channel = fold(None, self.events)
        assert channel is not None
        return channel

    def then(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Append what a decider decided; gives it back."""
        self.events += envelopes(STREAM, len(self.events), payloads)
        return list(payloads)

    def opened(self, updates: int = 0) -> Scene:
        """Register, confirm the funding at height 100, and store this many updates with their revocations."""
        self.then(decide_register(None, self.registration()))
        self.then(funding_confirmed(self.channel, block(FUNDED_AT), NOW))
        for sequence in range(1, updates + 1):
            self.then(decide_update(self.channel, self.update(sequence)))
        return self

    def seen(self, tx: Transaction, tip: int = 200) -> list[Payload]:
        """A spend of the funding output enters the mempool."""
        return self.then(spend_seen(self.channel, tx, tx.serialize(), self.verdict(tx), Source.MEMPOOL, tip, NOW))

    def mined(self, tx: Transaction, where: BlockRef) -> list[Payload]:
        """A spend of the funding output is in a block."""
        return self.then(spend_confirmed(self.channel, tx, tx.serialize(), self.verdict(tx), where, Source.BLOCK, NOW))

    def ended(self, commit: Transaction, tx: Transaction, where: BlockRef) -> list[Payload]:
        """A spend of a contest output is in a block."""
        spend = self.channel.spend(commit.txid)
        assert spend is not None
        return self.then(contest_confirmed(self.channel, spend, tx, where, NOW))

    def verdict(self, tx: Transaction) -> Verdict:
        """What the classifier says, with all own commitments known."""
        channel = self.channel
        number = encoded_number(self.params, tx)
        own = self.header(number).commit_txid(self.own) if number <= channel.sequence else None
        return classify(channel, tx, own)

    # ── commands ─────────────────────────────────────────────────────────────────────────────────────────

    def registration(self, state: StateContent | None = None, **changes: object) -> RegisterChannel:
        """The command that registers the channel; fields can be replaced."""
        own_points, peer_points = ((self.points(0)[side], self.points(1)[side]) for side in (self.own, self.peer))
        command = RegisterChannel(
            now=NOW,
            params=self.params,
            own_side=self.own,
            channel_index=0,
            own_points=own_points,
            counterparty_points=peer_points,
            sweep_spk=self.sweep_spk,
            upload_sha256=UPLOAD,
            upload_message=UPLOAD,
            upload_sig=keys.sign_schnorr(secrets_of(self.own).auth, UPLOAD, AUX),
            state=state or self.state(0),
            funding_tx=funding_of(self.params).serialize(),
            tip_height=FUNDED_AT - 1,
            params_policy=POLICY,
        )
        return msgspec.structs.replace(command, **changes)

    def update(self, sequence: int, state: StateContent | None = None, **changes: object) -> UpdateState:
        """The command that stores a state and the counterparty's revocation of its predecessor."""
        command = UpdateState(
            now=NOW,
            state=state or self.state(sequence),
            revoked_secret=self.secret(self.peer, sequence - 1),
            next_point=self.points(sequence + 1)[self.peer],
            tip_height=FUNDED_AT + 10,
        )
        return msgspec.structs.replace(command, **changes)

    def update_in_flight(self, sequence: int, state: StateContent | None = None) -> UpdateState:
        """The same without the revocation: the exchange stands between messages 2 and 4."""
        return self.update(sequence, state, revoked_secret=None, next_point=None)

    def revocation(self, sequence: int, **changes: object) -> RevokeState:
        """The command that stores the counterparty's secret of a state."""
        secret = self.secret(self.peer, sequence)
        command = RevokeState(NOW, self.peer, sequence, secret, self.points(sequence + 2)[self.peer])
        return msgspec.structs.replace(command, **changes)

    # ── states ───────────────────────────────────────────────────────────────────────────────────────────

    def secret(self, side: Side, sequence: int) -> bytes:
        """Per-commitment secret of a side."""
        return self._secrets.get((side, sequence)) or commitment_secret(secrets_of(side).seed, sequence)

    def points(self, sequence: int) -> tuple[bytes, bytes]:
        """Per-commitment points of A and B."""
        point_a, point_b = (keys.public_key(self.secret(side, sequence)) for side in Side)
        return point_a, point_b

    def header(self, sequence: int) -> StateHeader:
        """Header of a state."""
        return self.state(sequence).header

    def state(self, sequence: int) -> StateContent:
        """A state as both parties signed it."""
        if sequence not in self._states:
            self._states[sequence] = self.variant(sequence)
        return self._states[sequence]

    def variant(
        self,
        sequence: int,
        *,
        balances: tuple[int, int] | None = None,
        conditions: Sequence[Condition] | None = None,
        state_data: bytes | None = None,
        prev_state_hash: bytes | None = None,
        app_id: bytes = NO_HASH,
        params: ChannelParams | None = None,
    ) -> StateContent:
        """A state with another content under the same number, signed by both parties."""
        params = params or self.params
        conditions = tuple(self._conditions.get(sequence, ()) if conditions is None else conditions)
        if balances is None:
            moved = 400_000 + 1_000 * sequence
            balances = CAPACITY - moved - sum(c.amount for c in conditions), moved
        if prev_state_hash is None:
            prev_state_hash = self.header(sequence - 1).state_hash if sequence else NO_HASH
        content = f"state {sequence}".encode() if state_data is None else state_data
        points = self.points(sequence)
        header = build_header(
            params, sequence, balances, conditions, content, prev_state_hash, app_id, points[0], points[1]
        )
        sigs_a, sigs_b = (sign_state(params, header, conditions, side, secrets_of(side), points, AUX) for side in Side)
        return StateContent(header, conditions, content, sigs_a, sigs_b, points[self.own])

    def cut_short(self, sequence: int) -> StateContent:
        """A state as its acceptor has it while the proposer, the counterparty, has not given its last signature."""
        state = self.state(sequence)
        name = "sigs_a" if self.peer is Side.A else "sigs_b"
        lacking = msgspec.structs.replace(getattr(state, name), commit_peer=NOT_GIVEN)
        return msgspec.structs.replace(state, **{name: lacking})

    # ── transactions ─────────────────────────────────────────────────────────────────────────────────────

    def commitment(self, side: Side, sequence: int) -> Transaction:
        """A side's commitment with its witness."""
        state = self.state(sequence)
        tx = self._built(state).commits[side]
        own = sign_funding(self.params, tx, secrets_of(side).fund, AUX)
        theirs = (state.sigs_b if side is Side.A else state.sigs_a).commit_peer
        pair = (own, theirs) if side is Side.A else (theirs, own)
        return complete_commitment(self.params, tx, *pair)

    def settlement(self, side: Side, sequence: int) -> Transaction:
        """The settlement of a side's commitment with its witness."""
        state = self.state(sequence)
        built = self._built(state)
        pair = state.sigs_a.settle(side), state.sigs_b.settle(side)
        return complete_settlement(self.params, built.settlements[side], built.revocation_keys[side], *pair)

    def penalty(self, side: Side, sequence: int, fee: int = 1_000) -> Transaction:
        """The penalty for a side's revoked commitment, paid to the tower's own sweep script."""
        commit = self.commitment(side, sequence)
        key = contest_key(self.params, side, self.points(sequence)[side])
        secret = revocation_secret(secrets_of(side.other).rev, self.secret(side, sequence))
        spk = self.sweep_spk if side is self.peer else sweep(side.other)
        unsigned = build_penalty(self.params, commit.txid, fee, spk)
        return sign_penalty(self.params, unsigned, key, secret, AUX)

    def coop_close(self, fee: int = 400, lock_time: int = 0) -> Transaction:
        """The cooperative close of the newest state, by the leaf."""
        balances = self.channel.balances
        tx = build_cooperative_close(self.params, balances, Side.A, fee, lock_time)
        pair = (sign_close(self.params, tx, secrets_of(side).fund, AUX) for side in Side)
        return complete_close_by_leaf(self.params, tx, *pair)

    def stranger(self, number: int = 0) -> Transaction:
        """A spend of the funding output that encodes a state number but is no transaction of this channel."""
        base = self.commitment(self.peer, number)
        outputs = (msgspec.structs.replace(base.outputs[0], value=777), *base.outputs[1:])
        return Transaction(3, base.inputs, outputs, base.lock_time)

    @property
    def funding(self) -> OutPoint:
        """The funding outpoint."""
        return self.params.funding_outpoint

    def _built(self, state: StateContent) -> StateTransactions:
        return state_transactions(self.params, state.header, state.conditions, self.points(state.header.seq))
