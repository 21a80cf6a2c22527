"""Take a channel under watch.

The revocation basepoint secret is durable in the keystore before the registration is in the log: a secret
without a channel is harmless, a channel without its secret could not be defended.
"""

from __future__ import annotations

from hashlib import sha256

import msgspec

from domain.chain import display_outpoint
from domain.channel import Channel
from domain.claiming import htlc_key_name
from domain.contract import keys
from domain.contract.params import ChannelParams, check_payout_script
from domain.contract.uploads import upload_hash
from domain.errors import FundingMismatch, InvalidSecret
from domain.events import Payload
from domain.opening import (
    RegisterChannel,
    check_funding_output,
    check_funding_transaction,
    decide_register,
)
from domain.transaction import Transaction
from watchtower.channels.context import Context, store_decision
from watchtower.channels.judging import judge
from watchtower.channels.limits import check_room
from watchtower.channels.queries import get_channel
from watchtower.channels.reading import content_of, side_of
from watchtower.channels.receipts import sign_registration
from watchtower.ports import Node
from watchtower.wire.api import ChannelBody, RegisterRequest
from watchtower.wire.deposits import registration_upload
from watchtower.wire.receipts import body_of


class Registered(msgspec.Struct, frozen=True):
    """The channel as it stands now; `created` is False if exactly this registration was known."""

    channel: ChannelBody
    created: bool


def register(context: Context, request: RegisterRequest) -> Registered:
    """Check everything, keep the secret, then store. Identical bytes again change nothing.

    Raises the refusals of `decide_register`, `FundingMismatch` for a funding output that is missing, spent or
    different, `ApplicationRefused` for a state 0 that the channel's application does not accept, `InvalidSecret` for
    a secret that is not that of `rev` or `htlc`, `TowerFull`, and `NodeError` or `WrongChain` if the node cannot say.
    """
    params = ChannelParams.decode(bytes(request.params))
    _check_secrets(request, params)
    check_payout_script(bytes(request.sweep_spk))
    command = _command(context, request, params)

    def decide(channel: Channel | None) -> list[Payload]:
        events = decide_register(channel, command)
        if events:
            check_room(context, params)
            context.require_node()
            check_funding(context.node, params, command.funding_tx)
            judge(context, channel, command.state, events)
        return events

    def keep_secrets() -> None:
        _keep_secrets(context, params, request)

    stream = context.channels.stream_of(params.proposal_id)
    created = store_decision(context, stream, decide, before=keep_secrets, point="register_commit")
    # Where the keystore is an old copy, or the HTLC key comes later, the owner's repetition adds what is missing.
    channel = context.channels.load(stream)
    is_over = channel.resolved is not None
    if not created and not is_over and _keep_secrets(context, params, request):
        context.announce(stream)
    context.recent.add(params.channel_id, stream)
    receipt = sign_registration(context, channel)
    context.failpoint("receipt_send:before")
    answer = msgspec.structs.replace(get_channel(context, stream), receipt=body_of(receipt))
    context.failpoint("receipt_send:after")
    return Registered(answer, created=bool(created))


def _command(context: Context, request: RegisterRequest, params: ChannelParams) -> RegisterChannel:
    upload = registration_upload(request)
    return RegisterChannel(
        now=context.clock.wall_microseconds(),
        params=params,
        own_side=side_of(request.own_side),
        channel_index=request.channel_index,
        own_points=(bytes(request.own_points[0]), bytes(request.own_points[1])),
        counterparty_points=(bytes(request.counterparty_points[0]), bytes(request.counterparty_points[1])),
        sweep_spk=bytes(request.sweep_spk),
        upload_sha256=sha256(upload).digest(),
        upload_message=upload_hash(upload),
        upload_sig=bytes(request.upload_sig),
        state=content_of(request.state),
        funding_tx=None if request.funding_tx is None else bytes(request.funding_tx),
        tip_height=context.tip_height(),
        params_policy=context.policy.params,
        state_policy=context.policy.state,
    )


def _keep_secrets(context: Context, params: ChannelParams, request: RegisterRequest) -> bool:
    """What is stored already stays as it is; returns whether anything was missing."""
    wanted = {params.proposal_id: request.revocation_secret, htlc_key_name(params.proposal_id): request.htlc_secret}
    missing = {
        name: bytes(secret)
        for name, secret in wanted.items()
        if secret is not None and context.keystore.get(name) is None
    }
    for name, secret in missing.items():
        context.keystore.put(name, secret)
    return bool(missing)


def check_funding(node: Node, params: ChannelParams, funding_tx: bytes | None) -> None:
    """The funding output exists, is unspent and as agreed; or nobody has seen it and `funding_tx` creates it.

    Raises `FundingMismatch`. The node answers for its mempool too.
    """
    outpoint = params.funding_outpoint
    unspent = node.utxos([outpoint], include_mempool=True)[0]
    if unspent is not None:
        check_funding_output(params, unspent.value, unspent.spk)
        return
    if node.utxos([outpoint], include_mempool=False)[0] is not None or node.mempool_spenders([outpoint]):
        raise FundingMismatch(
            f"the funding output {display_outpoint(outpoint)} is being spent by a transaction in the mempool"
        )
    if funding_tx is None:
        raise FundingMismatch(
            f"there is no unspent output {display_outpoint(outpoint)}; if the funding transaction was not sent "
            "yet, register with funding_tx"
        )
    check_funding_transaction(params, funding_tx)
    _check_inputs_unspent(node, params, funding_tx)


def _check_inputs_unspent(node: Node, params: ChannelParams, funding_tx: bytes) -> None:
    """An unseen funding transaction can still confirm; if not, its output was spent or it lost a double spend."""
    inputs = [source.outpoint for source in Transaction.parse(funding_tx).inputs]
    for outpoint, unspent in zip(inputs, node.utxos(inputs, include_mempool=True), strict=True):
        if unspent is None:
            raise FundingMismatch(
                f"there is no unspent output {display_outpoint(params.funding_outpoint)}, and input "
                f"{display_outpoint(outpoint)} of funding_tx is spent or unknown: the channel was closed already, "
                "or its funding was double-spent"
            )


def _check_secrets(request: RegisterRequest, params: ChannelParams) -> None:
    own = params.keys(side_of(request.own_side))
    if not _fits(bytes(request.revocation_secret), own.rev):
        raise InvalidSecret("revocation_secret is not the secret of the owner's rev key in params")
    if request.htlc_secret is not None and not _fits(bytes(request.htlc_secret), own.htlc):
        raise InvalidSecret("htlc_secret is not the secret of the owner's htlc key in params")


def _fits(secret: bytes, public_key: bytes) -> bool:
    return keys.secret_in_range(secret) and keys.public_key(secret) == public_key
