"""Cooperative close between the parties: by leaf, and by key path with MuSig2 (protocol 3.7, rule U6).

The leaf form needs no state between its two messages. A MuSig2 attempt lives in memory only: after a crash a
new attempt with fresh nonces is made, which is why the leaf form is the default.
"""

from __future__ import annotations

import msgspec

from domain.contract.closing import (
    build_cooperative_close,
    close_weight,
    complete_close_by_key_path,
    complete_close_by_leaf,
    key_path_session,
    sign_close,
    verify_close,
    verify_key_path,
)
from domain.contract.musig import MusigSession
from domain.errors import ChannelClosed, ChannelNotReady, InvalidSignature, InvalidState
from domain.events import CloseProposed, CloseSigned, Payload
from domain.transaction import Transaction
from domain.units import Side, vsize
from watchtower.client.protocol.channel import Close, Content
from watchtower.client.protocol.messages import (
    CloseAccept,
    CloseAcceptMusig,
    ClosePropose,
    CloseProposeMusig,
    CloseSignedMusig,
)
from watchtower.client.protocol.resend import name_of
from watchtower.client.protocol.seat import NOTHING, Seat, Step
from watchtower.wire.hexes import Hex32, Hex64, NonceHex

MAX_PEER_CLOSES = 100
"""Versions of a close that a peer may propose in one channel: fee bumps are few, and each stays in the log."""

KEY_PATH_WITNESS = 66
"""WU of a witness with one signature: two counts and 64 bytes."""

HEIGHT_SLACK = 6
"""Blocks that the peer's node may be ahead: a close may not be valid later than that."""


def propose_close(seat: Seat, final_balances: tuple[int, int], fee: int, lock_time: int = 0) -> Step:
    """Sign a close by leaf; this side pays `fee` (satoshi). From here no update is possible (U6)."""
    tx = _agreed_transaction(seat, final_balances, seat.own, fee, lock_time)
    _require_relayed(seat, tx, close_weight(seat.channel.params, tx))
    signature = _own_leaf_signature(seat, tx)
    events: tuple[Payload, ...] = ()
    if signature is None:
        signature = _sign_leaf(seat, tx)
        proposed = _proposed(seat, tx, final_balances, fee, lock_time, seat.own)
        events = (proposed, _signed(seat, tx, seat.own, signature, None))
    message = ClosePropose(
        channel_id=name_of(seat),
        final_balances=final_balances,
        fee=fee,
        lock_time=lock_time,
        signature=Hex64(signature),
    )
    return Step(events, (message,))


def on_close_propose(seat: Seat, message: ClosePropose) -> Step:
    """Check the peer's close, sign it and answer; the transaction is complete here."""
    tx = _acceptable_transaction(seat, message)
    answered = _own_leaf_signature(seat, tx)
    if answered is not None:
        return Step(messages=(CloseAccept(channel_id=name_of(seat), signature=Hex64(answered)),))
    params = seat.channel.params
    if not verify_close(params, tx, seat.peer, message.signature):
        raise InvalidSignature("the peer's signature on the cooperative close does not verify; nothing was signed")
    own = _sign_leaf(seat, tx)
    complete = _complete_by_leaf(seat, tx, own, message.signature)
    events = (
        _proposed(seat, tx, message.final_balances, message.fee, message.lock_time, seat.peer),
        _signed(seat, tx, seat.peer, message.signature, None),
        _signed(seat, tx, seat.own, own, complete),
    )
    return Step(events, (CloseAccept(channel_id=name_of(seat), signature=Hex64(own)),))


def on_close_accept(seat: Seat, message: CloseAccept) -> Step:
    """The peer signed too: store the complete transaction."""
    params = seat.channel.params
    for close in reversed(seat.channel.closes):
        tx = close_transaction(seat, close)
        own = _own_leaf_signature(seat, tx)
        if close.by is not seat.own or own is None:
            continue
        if verify_close(params, tx, seat.peer, message.signature):
            if close.raw is not None:
                return NOTHING
            complete = _complete_by_leaf(seat, tx, own, message.signature)
            return Step((_signed(seat, tx, seat.peer, message.signature, complete),))
    raise InvalidSignature("the answer does not sign any close that this side proposed")


# ── MuSig2 ───────────────────────────────────────────────────────────────────────────────────────────────


class CloseAttempt(msgspec.Struct, frozen=True):
    """A key-path close that waits for the peer's answer, in memory only; `standing` are the hashes of signed states."""

    session: MusigSession
    final_balances: tuple[int, int]
    fee: int
    lock_time: int
    standing: tuple[bytes, ...]


def propose_close_musig(
    seat: Seat, final_balances: tuple[int, int], fee: int, lock_time: int = 0
) -> tuple[Step, CloseAttempt]:
    """Start a key-path close with a fresh nonce; the attempt stays in memory until the answer.

    A nonce signs nothing, so nothing is stored: a proposal that the peer refuses leaves the channel as it was.
    """
    tx = _agreed_transaction(seat, final_balances, seat.own, fee, lock_time)
    _require_relayed(seat, tx, _key_path_weight(tx))
    session = _session(seat, tx)
    message = CloseProposeMusig(
        channel_id=name_of(seat),
        final_balances=final_balances,
        fee=fee,
        lock_time=lock_time,
        nonce=NonceHex(session.public_nonce),
    )
    attempt = CloseAttempt(session, final_balances, fee, lock_time, _standing(seat))
    return Step((), (message,)), attempt


def on_close_propose_musig(seat: Seat, message: CloseProposeMusig) -> Step:
    """Sign the peer's key-path close with a fresh nonce; every repetition is a new attempt."""
    tx = _acceptable_transaction(seat, message)
    session = _session(seat, tx)
    partial = session.partial_sign((bytes(message.nonce), session.public_nonce))
    event = _proposed(seat, tx, message.final_balances, message.fee, message.lock_time, seat.peer)
    answer = CloseAcceptMusig(channel_id=name_of(seat), nonce=NonceHex(session.public_nonce), partial=Hex32(partial))
    return Step(() if _known(seat, tx) else (event,), (answer,))


def on_close_accept_musig(seat: Seat, message: CloseAcceptMusig, attempt: CloseAttempt) -> Step:
    """Join both partial signatures; the transaction is complete here and, with the answer, at the peer."""
    tx = _agreed_transaction(seat, attempt.final_balances, seat.own, attempt.fee, attempt.lock_time)
    if attempt.standing != _standing(seat):
        raise ChannelNotReady("a state was signed while the close was agreed on; look at its balances and close again")
    session = attempt.session
    own_partial = session.partial_sign((session.public_nonce, bytes(message.nonce)))
    if not session.verify_partial(seat.channel.params.keys(seat.peer).fund, message.nonce, message.partial):
        raise InvalidSignature("the peer's partial signature does not verify; start a new attempt")
    signature = session.aggregate((own_partial, bytes(message.partial)))
    complete = complete_close_by_key_path(tx, signature).serialize()
    answer = CloseSignedMusig(channel_id=name_of(seat), signature=Hex64(signature))
    proposed = _proposed(seat, tx, attempt.final_balances, attempt.fee, attempt.lock_time, seat.own)
    events = () if _known(seat, tx) else (proposed,)
    return Step((*events, _signed(seat, tx, seat.own, signature, complete)), (answer,))


def on_close_signed_musig(seat: Seat, message: CloseSignedMusig) -> Step:
    """The joined signature arrives at the side that answered."""
    params = seat.channel.params
    for close in reversed(seat.channel.closes):
        tx = close_transaction(seat, close)
        if verify_key_path(params, tx, message.signature):
            complete = complete_close_by_key_path(tx, message.signature).serialize()
            return NOTHING if close.raw else Step((_signed(seat, tx, seat.peer, message.signature, complete),))
    raise InvalidSignature("the signature does not fit any close of this channel")


def close_transaction(seat: Seat, close: Close) -> Transaction:
    """The close rebuilt from its terms, without witness."""
    return build_cooperative_close(seat.channel.params, close.final_balances, close.by, close.fee, close.lock_time)


def _agreed_transaction(
    seat: Seat, final_balances: tuple[int, int], closer: Side, fee: int, lock_time: int
) -> Transaction:
    """Build the close if rule U6 and the open state of the channel allow it."""
    channel = seat.channel
    if channel.state is None:
        raise ChannelNotReady("state 0 is not complete; there is nothing to close")
    if channel.spend_seen or channel.published:
        raise ChannelClosed("the channel is closed, or its close is on the way; no other one can be agreed on")
    if any(content.conditions for content in _signed_contents(seat)):
        raise InvalidState("conditions are pending; settle or drop them before a cooperative close")
    for bound in (close.final_balances for close in channel.closes):
        if bound != final_balances:
            raise ChannelClosed(
                f"a close with final balances of {bound[0]} and {bound[1]} sat was signed before; "
                "each further one must have the same (rule U6)"
            )
    return build_cooperative_close(channel.params, final_balances, closer, fee, lock_time)


def _acceptable_transaction(seat: Seat, message: ClosePropose | CloseProposeMusig) -> Transaction:
    """The peer's close, if it gives this side what every signed state gives it, or if the owner approved of it."""
    tx = _agreed_transaction(seat, message.final_balances, seat.peer, message.fee, message.lock_time)
    if _known(seat, tx) is None:
        _require_useful(seat, tx, message)
    if seat.approved_close == message.final_balances:
        return tx
    if seat.channel.frozen is not None:
        raise unapproved(seat)
    owed = max(content.read_header().balances[seat.own] for content in _signed_contents(seat))
    if message.final_balances[seat.own] < owed:
        name = seat.own.name
        raise InvalidState(
            f"the close leaves {name} {message.final_balances[seat.own]} sat, the balance of {name} is {owed} sat; "
            f"the owner of {name} may approve of it beforehand"
        )
    return tx


def unapproved(seat: Seat) -> ChannelNotReady:
    """Why a frozen party does not sign: the newest state may be one that this log does not know, with more for it."""
    assert seat.channel.frozen is not None, "only a frozen party needs it"
    return ChannelNotReady(
        f"the channel is frozen ({seat.channel.frozen.name.lower()}); its owner must approve the final balances"
    )


def _require_useful(seat: Seat, tx: Transaction, message: ClosePropose | CloseProposeMusig) -> None:
    """A signature on a close ends all updates (U6); it is not given for a transaction that cannot be mined soon."""
    if sum(close.by is seat.peer for close in seat.channel.closes) >= MAX_PEER_CLOSES:
        raise ChannelClosed(f"the peer has proposed {MAX_PEER_CLOSES} versions of its close; one of them must do")
    if seat.height is not None and tx.lock_time > seat.height + HEIGHT_SLACK:
        raise InvalidState(f"the lock time of the close is height {tx.lock_time}, now is {seat.height}")
    joined = isinstance(message, CloseProposeMusig)
    _require_relayed(seat, tx, _key_path_weight(tx) if joined else close_weight(seat.channel.params, tx))


def _require_relayed(seat: Seat, tx: Transaction, weight: int) -> None:
    """No peer signs a close that no node relays, and a proposal of it would end the updates of this side (U6)."""
    paid = seat.channel.params.capacity - sum(output.value for output in tx.outputs)
    if paid < vsize(weight):
        raise InvalidState(f"the close pays a fee of {paid} sat, no node relays it for less than {vsize(weight)} sat")


def _key_path_weight(tx: Transaction) -> int:
    return 4 * len(tx.serialize(witness=False)) + 2 + KEY_PATH_WITNESS


def _signed_contents(seat: Seat) -> list[Content]:
    """The newest complete state, and the one in flight if a signature for it exists."""
    state, pending = seat.channel.state, seat.channel.pending
    contents = [state.content] if state is not None else []
    return [*contents, pending.content] if pending is not None and pending.is_bound else contents


def _standing(seat: Seat) -> tuple[bytes, ...]:
    return tuple(content.state_hash for content in _signed_contents(seat))


def _known(seat: Seat, tx: Transaction) -> Close | None:
    return next((close for close in seat.channel.closes if close.txid == tx.txid), None)


def _own_leaf_signature(seat: Seat, tx: Transaction) -> bytes | None:
    """This side's stored signature by leaf; that of a key-path close stands in the same place and is no answer."""
    known = _known(seat, tx)
    signature = known.signature(seat.own) if known else None
    if signature is None:
        return None
    return signature if verify_close(seat.channel.params, tx, seat.own, signature) else None


def _sign_leaf(seat: Seat, tx: Transaction) -> bytes:
    return sign_close(seat.channel.params, tx, seat.secrets.fund, seat.entropy())


def _session(seat: Seat, tx: Transaction) -> MusigSession:
    return key_path_session(seat.channel.params, tx, seat.secrets.fund, seat.entropy())


def _complete_by_leaf(seat: Seat, tx: Transaction, own: bytes, theirs: bytes) -> bytes:
    pair = (own, theirs) if seat.own is Side.A else (theirs, own)
    return complete_close_by_leaf(seat.channel.params, tx, *pair).serialize()


def _proposed(
    seat: Seat, tx: Transaction, final_balances: tuple[int, int], fee: int, lock_time: int, by: Side
) -> CloseProposed:
    return CloseProposed(
        recorded_at=seat.now, final_balances=final_balances, fee=fee, lock_time=lock_time, by=by, txid=tx.txid
    )


def _signed(seat: Seat, tx: Transaction, by: Side, signature: bytes, raw: bytes | None) -> CloseSigned:
    return CloseSigned(recorded_at=seat.now, txid=tx.txid, by=by, signature=bytes(signature), raw=raw)
