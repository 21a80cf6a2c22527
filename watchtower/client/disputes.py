"""The calls of `StateChannelClient` about states, disputes and closes (protocol 6.2)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from domain.as_of import AsOf
from domain.contract.commitment import build_commitment
from domain.contract.params import ChannelParams
from domain.contract.proofs import HEAD_SIZE, ProofContext, ProofHead, evidence_of, verify_proof
from domain.contract.proofs import Verdict as ProofVerdict
from domain.disputing import WHY_INVALID
from domain.errors import InvalidSignature, InvalidState, MalformedInput
from domain.joint import funding_signatures, signs_funding
from domain.transaction import Transaction
from domain.units import Side, ceil_div
from watchtower.client.dispute_types import (
    ChallengeResult,
    ChannelState,
    ClosureResult,
    PendingState,
    ResponseResult,
    ValidationResult,
    VerificationResult,
)
from watchtower.client.errors import NotConnected, ReceiptRefused, SequenceConflict
from watchtower.client.given import balance_pair, require_number, require_whole, texts
from watchtower.client.ids import channel_id_of, channel_name
from watchtower.client.party.exchange import close as close_in_process
from watchtower.client.party.party import ChannelParty
from watchtower.client.past import parameters
from watchtower.client.peer_errors import PeerError
from watchtower.client.peers.link import PeerLink
from watchtower.client.peers.port import Closer
from watchtower.client.peers.served import ServedPeer
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.tower.calls import TowerCalls
from watchtower.client.tower.receipt_proof import is_receipt, verify_by_export, verify_by_file, verify_by_tower
from watchtower.client.tower.session import is_replayed, read
from watchtower.wire.disputes import (
    ChallengeRequest,
    CooperativeCloseRequest,
    ProofHex,
    ResponseRequest,
    UnilateralCloseRequest,
    ValidateRequest,
    VerifyRequest,
)
from watchtower.wire.hexes import Hex, Hex64, TransactionHex, TxidHex

CLOSE_VSIZE = 196
"""vB of a cooperative close by script with two payouts; by key path it is smaller, and then pays more per vB."""

PAID_MS = 5_000
"""How long a close waits for HTLCs of its own side whose preimage is known: the peer is about to drop them."""


H = TypeVar("H", bound=Hex)


class InProcessPeer:
    """Both parties in this process: for tests, and for an operator who owns both ends."""

    def __init__(self, own: ChannelParty, peer: ChannelParty) -> None:
        self._own = own
        self._peer = peer

    async def close_channel(self, channel_id: bytes, final_balances: tuple[int, int], fee: int) -> bytes:
        """See `Closer`."""
        return await asyncio.to_thread(close_in_process, self._own, self._peer, channel_id, final_balances, fee)


class DisputeCalls(TowerCalls):
    """`closer` reaches the peer for `close_channel_cooperative`."""

    closer: Closer | None = None

    async def get_channel_state(self, channel_id: str, as_of: AsOf | None = None) -> ChannelState:
        """The newest complete state with everything that both parties signed; `ChannelNotFound`.

        `as_of`: the one that was the newest at that point of the tower's log; `PointNotFound`.
        """
        raw, _ = await self._call("GET", f"/v1/channels/{channel_name(channel_id)}/state", query=parameters(as_of))
        state = read(raw, ChannelState)
        if self.party is None or as_of is not None:
            return state
        return msgspec.structs.replace(state, pending=_pending(self.party, state))

    async def challenge_state(self, channel_id: str, sequence: int, proof: str) -> ChallengeResult:
        """Show a proof (PNS1, hexadecimal) that the published state `sequence` was revoked.

        An enforceable proof brings the penalty on its way; evidence alone is stored and sends nothing. Raises
        `ChallengeRejected` with the reason for a proof that is invalid or names another transaction than the one in
        the mempool or chain.
        """
        require_number("sequence", sequence)
        body = ChallengeRequest(sequence=sequence, proof=_hex(proof, ProofHex, "proof"))
        raw, answer = await self._call("POST", f"/v1/channels/{channel_name(channel_id)}/challenges", body)
        return msgspec.structs.replace(read(raw, ChallengeResult), duplicate=is_replayed(answer))

    async def respond_to_challenge(self, channel_id: str, counter_proof: str) -> ResponseResult:
        """Weigh a counter-proof (CPR1, hexadecimal) against the newest challenge; no transaction follows."""
        body = ResponseRequest(counter_proof=_hex(counter_proof, ProofHex, "counter_proof"))
        raw, answer = await self._call("POST", f"/v1/channels/{channel_name(channel_id)}/challenge-responses", body)
        return msgspec.structs.replace(read(raw, ResponseResult), duplicate=is_replayed(answer))

    async def verify_proof(
        self,
        proof: str,
        *,
        params: bytes | None = None,
        published: bytes | None = None,
        sweep_spk: bytes | None = None,
        log: str | Path | None = None,
        export: str | Path | None = None,
    ) -> VerificationResult:
        """What a proof is worth. With `params` (516 bytes) it is judged here, without any tower.

        A ladder needs the published transaction and the sweep script; without `params` the tower has them.

        A receipt (`RCP2` and signature, 268 bytes) is a proof, too: of misbehavior, if the tower's log does not hold
        what it signed. It is judged beside a `log` file, the directory of an `export`, or what the tower signs now.
        """
        if is_receipt(_text(proof, "proof")):
            if log is not None:
                return await asyncio.to_thread(verify_by_file, proof, Path(log))
            if export is not None:
                return await asyncio.to_thread(verify_by_export, proof, Path(export))
            return await verify_by_tower(self._call, proof)
        if params is not None:
            return verify_offline(params, proof, published, sweep_spk)
        body = VerifyRequest(proof=_hex(proof, ProofHex, "proof"))
        raw, _ = await self._call("POST", "/v1/proofs/verify", body)
        return read(raw, VerificationResult)

    async def validate_transaction(
        self, tx_id: str, *, channel_id: str | None = None, ask_node: bool = False
    ) -> ValidationResult:
        """Classify a transaction and check it in full; `tx_id` is a txid or the whole transaction in hexadecimal.

        `ask_node` also asks the node. Raises `TransactionNotKnown` for a txid whose bytes are nowhere: a cooperative
        close that is in a block already is found with its `channel_id` only.
        """
        is_txid = len(_text(tx_id, "tx_id")) == 64
        body = ValidateRequest(
            txid=_hex(tx_id, TxidHex, "tx_id") if is_txid else None,
            raw=None if is_txid else _hex(tx_id, TransactionHex, "tx_id"),
            channel_id=None if channel_id is None else channel_name(channel_id),
            ask_node=ask_node,
        )
        raw, _ = await self._call("POST", "/v1/transactions/validate", body)
        return read(raw, ValidationResult)

    async def close_channel_unilateral(
        self, channel_id: str, sequence: int, signatures: Sequence[str] = ()
    ) -> ClosureResult:
        """Publish the own commitment of state `sequence`; the settlement follows after the challenge period.

        `signatures` are those of A and B on it, 128 digits each; with a party they may be left out: it signs now,
        unless the state was revoked (`SelfBreach`). Raises `InvalidSignature` if given ones do not verify. A state
        that only the party has, because the peer never ended its update, is brought to the tower first.
        """
        name = channel_name(channel_id)
        require_number("sequence", sequence)
        pair = tuple(bytes(_hex(each, Hex64, "signature")) for each in texts("signatures", signatures))
        if len(pair) not in (0, 2) or (not pair and self.party is None):
            raise MalformedInput("signatures are those of A and of B; only a client with a party can leave them out")
        if self.party is not None:
            own = await asyncio.to_thread(_sign, self.party, channel_id_of(channel_id), sequence, pair)
            pair = pair or own
        body = UnilateralCloseRequest(sequence=sequence, signatures=(Hex64(pair[0]), Hex64(pair[1])))
        path = f"/v1/channels/{name}/unilateral-close"
        try:
            raw, answer = await self._call("POST", path, body)
        except SequenceConflict:
            if self.party is None:
                raise
            with contextlib.suppress(ReceiptRefused):  # then it was delivered all the same
                await self.synchronize(channel_id_of(channel_id))
            raw, answer = await self._call("POST", path, body)
        return msgspec.structs.replace(read(raw, ClosureResult), duplicate=is_replayed(answer))

    async def close_channel_cooperative(
        self,
        channel_id: str,
        final_balances: Sequence[int],
        *,
        fee: int | None = None,
        transaction: str | None = None,
    ) -> ClosureResult:
        """Close with the peer's agreement; the own side pays `fee` (satoshi, by default the channel's fixed feerate).

        The peer is asked through `closer`, unless a `transaction` that both signed is given. Raises `InvalidState` for
        balances that do not add up, for pending conditions and for a fee that no node relays, before anything is
        signed; `PeerRefused` for balances that give the peer less than its newest state, unless its owner approved
        (`approve_close`). Once signed, every close of the channel has these balances (rule U6) - without Taproot that
        is before the peer's answer.
        """
        name, balances = channel_name(channel_id), balance_pair("final_balances", final_balances)
        if transaction is None:
            transaction = (await self._agree(channel_id_of(channel_id), balances, fee)).hex()
        body = CooperativeCloseRequest(
            final_balances=balances, transaction=_hex(transaction, TransactionHex, "transaction")
        )
        raw, answer = await self._call("POST", f"/v1/channels/{name}/cooperative-close", body)
        return msgspec.structs.replace(read(raw, ClosureResult), duplicate=is_replayed(answer))

    async def _when_paid(self, channel_id: bytes) -> PartyChannel:
        """The channel, once HTLCs that the peer has just taken have left it: a payment ends with the preimage.

        The update that drops them is on its way then, and a close that comes first would be refused.
        """
        party = self._own_party()
        channel = await asyncio.to_thread(party.channel, channel_id)
        own = (each.is_htlc and each.offerer is channel.own_side for each in channel.conditions)
        if not channel.conditions or not all(own) or any(party.preimage(c.hash) is None for c in channel.conditions):
            return channel
        with contextlib.suppress(PeerError):
            link = await self.closer.link_of(channel_id) if isinstance(self.closer, ServedPeer) else self.closer
            if isinstance(link, PeerLink):
                return await link.wait_for(channel_id, lambda found: not found.conditions, PAID_MS)
        return await asyncio.to_thread(party.channel, channel_id)

    async def _agree(self, channel_id: bytes, balances: tuple[int, int], fee: int | None) -> bytes:
        if self.closer is None:
            raise NotConnected("a cooperative close needs the peer: set `closer`, or give a transaction both signed")
        channel = await self._when_paid(channel_id)
        params, pending = channel.params, channel.conditions
        if pending:
            raise InvalidState(
                f"conditions are pending: {len(pending)} hold {sum(each.amount for each in pending)} sat; "
                "fulfil, fail or expire them before a cooperative close, or use `close_channel_unilateral`"
            )
        if sum(balances) != params.capacity:
            raise InvalidState(
                f"final balances of {balances[0]} and {balances[1]} sat do not add up to the capacity of "
                f"{params.capacity} sat"
            )
        chosen = ceil_div(params.static_feerate * CLOSE_VSIZE, 1000) if fee is None else fee
        require_whole("fee", chosen)
        return await self.closer.close_channel(channel_id, balances, chosen)


def verify_offline(
    params: bytes,
    proof: str,
    published: bytes | None = None,
    sweep_spk: bytes | None = None,
    revocation_key: bytes | None = None,
) -> VerificationResult:
    """Judge a proof by a channel's constants (516 bytes) alone; a ladder needs the rest, R in profile 1 only."""
    raw = bytes(_hex(proof, ProofHex, "proof"))
    tx = None if published is None else Transaction.parse(published)
    result = verify_proof(ChannelParams.decode(params), raw, ProofContext(tx, sweep_spk, revocation_key=revocation_key))
    message = WHY_INVALID.get(result.reason, "") if result.reason else str(result.verdict)
    found = VerificationResult(verdict=result.verdict.value, message=message, reason=result.reason)
    if len(raw) < HEAD_SIZE:
        return found
    head, valid = ProofHead.read(raw), result.verdict is not ProofVerdict.INVALID
    shown = evidence_of(raw) if valid and result.verdict is ProofVerdict.VALID_EVIDENCE_ONLY else None
    return msgspec.structs.replace(
        found,
        kind=head.kind,
        channel_id=head.channel_id.hex(),
        accused_sequence=head.accused_seq,
        accused_party={0: "A", 1: "B"}.get(head.accused_party),
        published_txid=TxidHex(head.published_txid).to_text(),
        evidence_sequence=None if shown is None else shown.seq,
    )


def _sign(party: ChannelParty, channel_id: bytes, sequence: int, given: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The signatures of A and B on the own commitment; given ones are checked before anything is signed."""
    channel = party.channel(channel_id)
    if given:
        point = bytes(party.update_body(channel_id, sequence).state.own_point)
        tx = build_commitment(channel.params, channel.own_side, sequence, point)
        for side in Side:
            if not signs_funding(channel.params, tx, side, given[side]):
                raise InvalidSignature(f"the signature of {side.name} does not verify on the own commitment {sequence}")
    complete = Transaction.parse(party.sign_commitment(channel_id, sequence))
    pair = funding_signatures(channel.params, complete)
    if pair is None:
        raise InvalidSignature("the peer's signature on the own commitment does not verify; nothing was published")
    return pair


def _pending(party: ChannelParty, state: ChannelState) -> PendingState | None:
    known = next((c for c in party.channels() if c.channel_id.hex() == state.channel_id), None)
    if known is None or known.pending is None:
        return None
    header = known.pending.content.read_header()
    return PendingState(
        sequence=header.seq,
        by="A" if known.pending.by is Side.A else "B",
        balances=header.balances,
        bound=known.pending.is_bound,
    )


def _hex(text: str, form: type[H], name: str) -> H:
    try:
        return form.from_text(_text(text, name))
    except ValueError as error:
        raise MalformedInput(f"{name}: {error}") from None


def _text(text: str, name: str) -> str:
    given: object = text
    if not isinstance(given, str):
        raise MalformedInput(f"{name}: hexadecimal digits as a text, got {given!r:.80}")
    return given
