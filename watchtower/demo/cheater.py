"""What a dishonest party does with data that it should have thrown away: sign a revoked commitment.

The SDK refuses this (`SelfBreach`), so the cheater works from its seed and its log directly.
"""

from __future__ import annotations

from domain.contract.commitment import build_commitment, complete_commitment, sign_funding
from domain.contract.derivation import ChannelSecrets, channel_keys
from domain.contract.revocation import commitment_point
from domain.transaction import Transaction
from domain.units import Side
from watchtower.client.party.key_ring import COIN_TYPES
from watchtower.client.party.party import ChannelParty


def secrets_of(seed: bytes, party: ChannelParty, channel_id: bytes) -> ChannelSecrets:
    """All secrets of a party in a channel, derived from its seed."""
    index = party.channel(channel_id).channel_index
    return channel_keys(seed, COIN_TYPES.get(party.settings.network, 1), index)


def unsafe_commitment(seed: bytes, party: ChannelParty, channel_id: bytes, sequence: int) -> Transaction:
    """The party's own commitment of any state, complete and valid, revoked or not."""
    channel, state = party.channel(channel_id), party.state(channel_id, sequence)
    secrets = secrets_of(seed, party, channel_id)
    side = channel.own_side
    tx = build_commitment(channel.params, side, sequence, commitment_point(secrets.seed, sequence))
    own = sign_funding(channel.params, tx, secrets.fund, bytes(32))
    theirs = state.signatures(side.other).commit_peer
    pair = (own, theirs) if side is Side.A else (theirs, own)
    return complete_commitment(channel.params, tx, *pair)
