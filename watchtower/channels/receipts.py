"""Receipts of what clients stored: which event completed an upload, and what the upload was.

A state may come twice: bare, and later with the counterparty's revocation of its predecessor. Each of the two uploads
has its own receipt. It names the event with which everything in that upload was stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import takewhile

import msgspec

from domain.channel import Channel
from domain.contract.receipt_proofs import NOTHING, ReceiptAnswer, answer_hash, receipt_fingerprint
from domain.contract.receipts import SignedReceipt, state_upload_sha256
from domain.contract.state import StateSignatures
from domain.contract.uploads import REGISTRATION_SEQ
from domain.errors import Equivocation, LogCorrupt, MalformedInput, UnknownState
from domain.events import ChannelRegistered, Envelope, SignatureSet, StateRevoked, StateUpdated
from domain.opening import StateContent, signature_set
from domain.units import MAX_SEQUENCE
from watchtower.channels.context import Context
from watchtower.channels.finding import find_stream
from watchtower.ports import Place, StoreBusy
from watchtower.receipts.signer import Deposit, ReceiptSigner
from watchtower.wire.hexes import Hex64
from watchtower.wire.receipts import AnswerHex, ReceiptAnswerBody, ReceiptHex, SignedReceiptBody

FIRST_EVENTS = 2
"""A channel's stream begins with its constants and the registration."""

PAGE = 500
"""Events read at once in search of a late revocation; it is nearly always the next one."""


class ReceiptsSuspended(StoreBusy):
    """The log may lack what earlier receipts promise; until the operator decides, the tower signs nothing about it."""

    slug = "receipts-suspended"


class Revocation(msgspec.Struct, frozen=True):
    """The revocation that came with an upload: secret of the state before (32 bytes), the next point (33)."""

    secret: bytes
    next_point: bytes


def sign_new(context: Context, channel: Channel, stored: StateUpdated, event_id: int) -> SignedReceipt | None:
    """The receipt of a state that was stored just now as event `event_id`; None while none may be signed."""
    signer = context.receipts
    if signer is None or not signer.may_sign:
        return None
    return _sign(context, signer, _deposit(channel, stored, _own_revocation(stored)), event_id)


def sign_known(
    context: Context, channel: Channel, sequence: int, revocation: Revocation | None
) -> SignedReceipt | None:
    """The receipt of an upload whose parts are all stored; None while none may be signed."""
    signer = context.receipts
    if signer is None or not signer.may_sign:
        return None
    version, stored = _find(context, channel, sequence)
    if revocation is not None:
        version = _completed_at(context, channel, version, stored, revocation)
    return _sign(context, signer, _deposit(channel, stored, revocation), _event_id(signer, channel, version))


def is_stored(context: Context, channel: Channel, content: StateContent, revocation: Revocation | None) -> bool:
    """Whether exactly this upload was stored, however long ago: the fold has the newest states only."""
    found = context.channels.find_state(channel, content.header.seq)
    if found is None:
        return False
    version, stored = found
    sent = (content.header.encode(), signature_set(content.sigs_a), signature_set(content.sigs_b), content.own_point)
    if sent != (stored.header, stored.sigs_a, stored.sigs_b, stored.own_point):
        return False
    if revocation is None:
        return True
    try:
        _completed_at(context, channel, version, stored, revocation)
    except Equivocation:
        return False
    return True


def sign_registration(context: Context, channel: Channel) -> SignedReceipt | None:
    """The receipt of the registration; None while none may be signed."""
    signer = context.receipts
    if signer is None or not signer.may_sign:
        return None
    for event in context.store.read_stream(channel.stream, limit=FIRST_EVENTS):
        stored = event.payload
        if isinstance(stored, ChannelRegistered):
            deposit = Deposit(channel.params.channel_id, REGISTRATION_SEQ, stored.upload_sha256, stored.tip_height)
            return _sign(context, signer, deposit, _event_id(signer, channel, event.version))
    raise LogCorrupt(f"stream {channel.stream} does not begin with its registration")


def reissue(context: Context, stream: str, number: str) -> SignedReceipt:
    """The receipt of a stored state by number, with the revocation of its predecessor if that is stored.

    The number of a registration, or the word, gives that of the registration. Raises `UnknownState` and
    `ReceiptsSuspended`.
    """
    channel = context.channels.load(stream)
    signed = _reissue(context, channel, _read_number(number))
    if signed is None:
        raise ReceiptsSuspended("the tower gives no receipts now: its log may be an older copy; ask again later")
    return signed


def check(context: Context, shown: SignedReceiptBody) -> ReceiptAnswerBody:
    """What the log holds at the position of a receipt of this tower, signed, so that nobody can deny it later.

    Raises `MalformedInput` or `InvalidSignature` for what is no receipt of this tower, `ReceiptsSuspended`.
    """
    signer = context.receipts
    if signer is None or not signer.may_sign:
        raise ReceiptsSuspended("the tower says nothing about its log now: it may be an older copy; ask again later")
    signed = shown.signed()
    receipt = signed.verified(signer.tower_id)
    last = context.store.last_id()
    place = signer.place(receipt.position) if receipt.position <= last else Place(0, NOTHING, NOTHING)
    answer = ReceiptAnswer(
        tower_id=signer.tower_id,
        receipt_sha256=receipt_fingerprint(signed),
        log_id=signer.log_id,
        epoch=signer.epoch_at(last),
        last_position=last,
        epoch_there=signer.epoch_at(min(receipt.position, last)),
        leaf=place.leaf,
        head=place.head,
    ).encode()
    return ReceiptAnswerBody(body=AnswerHex(answer), signature=Hex64(signer.seal(answer_hash(answer))))


class Receipts(msgspec.Struct, frozen=True):
    """Questions about receipts, as the API asks them: by channel name and number, and with a receipt in hand."""

    get: Callable[[str, str], SignedReceiptBody]
    check: Callable[[SignedReceiptBody], ReceiptAnswerBody]


def bind_receipts(context: Context) -> Receipts:
    """The questions of one tower."""

    def get(name: str, number: str) -> SignedReceiptBody:
        signed = reissue(context, find_stream(context, name), number)
        return SignedReceiptBody(body=ReceiptHex(signed.body), signature=Hex64(signed.signature))

    return Receipts(get, lambda shown: check(context, shown))


def _reissue(context: Context, channel: Channel, sequence: int) -> SignedReceipt | None:
    if sequence == REGISTRATION_SEQ:
        return sign_registration(context, channel)
    version, stored = _find(context, channel, sequence)
    revocation = _own_revocation(stored)
    if revocation is None:
        late = _late_revocation(context, channel, stored, version)
        revocation = None if late is None else _revocation_of(late[1])
    return sign_known(context, channel, sequence, revocation)


def _read_number(text: str) -> int:
    if text == "registration":
        return REGISTRATION_SEQ
    if not (text.isascii() and text.isdecimal() and len(text) <= 20):
        raise MalformedInput("a receipt is asked for by state number, or by the word registration")
    number = int(text)
    if number > MAX_SEQUENCE and number != REGISTRATION_SEQ:
        raise MalformedInput("a state number lies between 0 and 2^48-2")
    return number


def _find(context: Context, channel: Channel, sequence: int) -> tuple[int, StateUpdated]:
    found = context.channels.find_state(channel, sequence)
    if found is None:
        raise UnknownState(f"state {sequence} is not stored here; the newest one is {channel.sequence}")
    return found


def _completed_at(
    context: Context, channel: Channel, version: int, stored: StateUpdated, revocation: Revocation
) -> int:
    """The version of the event with which state and revocation were both stored, byte for byte."""
    late = None if stored.revoked_secret is not None else _late_revocation(context, channel, stored, version)
    known = _own_revocation(stored) if late is None else _revocation_of(late[1])
    if known != revocation:
        raise Equivocation(f"another revocation is stored for state {stored.sequence - 1}; it stands")
    return version if late is None else max(version, late[0])


def _late_revocation(
    context: Context, channel: Channel, stored: StateUpdated, version: int
) -> tuple[int, StateRevoked] | None:
    """Version and event of the revocation that belongs to a state without one.

    It stands behind the state; if the channel was closing, it may have come before a state that was late.
    """
    first = max(0, version - PAGE)
    before = context.store.read_stream(channel.stream, after=first, limit=version - first)
    following = takewhile(lambda event: not isinstance(event.payload, StateUpdated), _behind(context, channel, version))
    sought = channel.counterparty, stored.sequence - 1
    for event in (*following, *reversed(before)):
        payload = event.payload
        if isinstance(payload, StateRevoked) and (payload.party, payload.sequence) == sought:
            return event.version, payload
    return None


def _behind(context: Context, channel: Channel, version: int) -> Iterator[Envelope]:
    while page := context.store.read_stream(channel.stream, after=version, limit=PAGE):
        yield from page
        version = page[-1].version


def _revocation_of(event: StateRevoked) -> Revocation | None:
    return None if event.secret is None else Revocation(event.secret, event.next_point)


def _own_revocation(stored: StateUpdated) -> Revocation | None:
    if stored.revoked_secret is None or stored.next_point is None:
        return None
    return Revocation(stored.revoked_secret, stored.next_point)


def _deposit(channel: Channel, stored: StateUpdated, revocation: Revocation | None) -> Deposit:
    digest = _sha256(stored.header, _encoded(stored.sigs_a), _encoded(stored.sigs_b), stored.own_point, revocation)
    return Deposit(channel.params.channel_id, stored.sequence, digest, stored.tip_height)


def _sha256(header: bytes, sigs_a: bytes, sigs_b: bytes, own_point: bytes, revocation: Revocation | None) -> bytes:
    if revocation is None:
        return state_upload_sha256(header, sigs_a, sigs_b, own_point)
    return state_upload_sha256(header, sigs_a, sigs_b, own_point, revocation.secret, revocation.next_point)


def _encoded(signed: SignatureSet) -> bytes:
    return StateSignatures(signed.state, signed.settle_a, signed.settle_b, signed.commit_peer).encode()


def _event_id(signer: ReceiptSigner, channel: Channel, version: int) -> int:
    event_id = signer.event_id(channel.stream, version)
    if event_id is None:
        raise LogCorrupt(f"stream {channel.stream} has no event {version}")
    return event_id


def _sign(context: Context, signer: ReceiptSigner, deposit: Deposit, event_id: int) -> SignedReceipt:
    context.failpoint("receipt_sign:before")
    signed = signer.sign(deposit, event_id)
    context.failpoint("receipt_sign:after")
    return signed
