"""`get_channel_state`: the newest complete state with all that both parties signed."""

from __future__ import annotations

from domain.channel import Channel, StateRecord
from domain.contract.state import NOT_GIVEN
from domain.errors import UnknownChannel
from domain.events import SignatureSet, StateUpdated
from watchtower.channels.context import Context
from watchtower.channels.info import final_sequence, status
from watchtower.wire.api import ConditionBody
from watchtower.wire.disputes import ChannelStateBody, GivenPairBody, GivenSignaturesBody
from watchtower.wire.hexes import HeaderHex, Hex, Hex32, Hex33, Hex64, TxidHex

WINDOW = 64
"""Events read at a time, from the end: the newest state is seldom far from it."""


def get_state(context: Context, stream: str) -> ChannelStateBody:
    """As of the last stored event."""
    return state_body(context, context.channels.load(stream), context.tip_height())


def state_body(context: Context, channel: Channel, tip_height: int) -> ChannelStateBody:
    """The newest state of a channel as it is or was; `tip_height` belongs to the same moment.

    Raises `UnknownChannel` if there was none yet.
    """
    if not channel.states:
        raise UnknownChannel("no state of this channel was stored yet")
    record = channel.states[-1]
    header = record.read_header()
    return ChannelStateBody(
        channel_id=Hex32(channel.params.channel_id),
        status=str(status(channel, context.policy, tip_height)),
        sequence=header.seq,
        final_sequence=final_sequence(channel),
        state_hash=Hex32(header.state_hash),
        header=HeaderHex(record.header),
        balances=header.balances,
        prev_state_hash=Hex32(header.prev_state_hash),
        app_id=Hex32(header.app_id),
        commit_txid_a=TxidHex(header.commit_txid_a),
        commit_txid_b=TxidHex(header.commit_txid_b),
        settle_txid_a=TxidHex(header.settle_txid_a),
        settle_txid_b=TxidHex(header.settle_txid_b),
        conditions=tuple(ConditionBody.of(each) for each in record.read_conditions()),
        state_data=Hex(_state_data(context, channel.stream, channel.version, record)),
        signatures=GivenPairBody(a=_signatures(record.sigs_a), b=_signatures(record.sigs_b)),
        own_point=Hex33(record.own_point),
    )


def _state_data(context: Context, stream: str, version: int, record: StateRecord) -> bytes:
    """The application's bytes, which the fold does not keep in memory."""
    after = version
    while after > 0:
        after = max(0, after - WINDOW)
        for event in reversed(context.store.read_stream(stream, after=after, limit=WINDOW)):
            if isinstance(event.payload, StateUpdated) and event.payload.header == record.header:
                return event.payload.state_data
    raise UnknownChannel("no state of this channel is stored here")


def _signatures(signed: SignatureSet) -> GivenSignaturesBody:
    return GivenSignaturesBody(
        state=Hex64(signed.state),
        settle_a=Hex64(signed.settle_a),
        settle_b=Hex64(signed.settle_b),
        commit_peer=None if signed.commit_peer == NOT_GIVEN else Hex64(signed.commit_peer),
    )
