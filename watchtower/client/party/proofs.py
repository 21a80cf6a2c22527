"""Proofs that a party can show from its own records (protocol 6.3, 6.4), as hexadecimal text.

    proof = revocation_proof(party, channel_id, 5, published_txid)
    await client.challenge_state(channel_id.hex(), 5, proof)

Txids are in internal byte order here, as everywhere in the party's interface.
"""

from __future__ import annotations

from domain.contract.proofs import (
    encode_counter_proof,
    encode_evidence,
    encode_evidence_proof,
    encode_secret_proof,
)
from domain.errors import MalformedInput
from watchtower.client.party.party import ChannelParty


def revocation_proof(party: ChannelParty, channel_id: bytes, sequence: int, published_txid: bytes) -> str:
    """The peer published state `sequence`, which it had revoked: the proof that can be enforced."""
    secret = party.peer_release_body(channel_id, sequence).secret
    if secret is None:
        raise MalformedInput("the peer's revocation carries no secret")
    accused = party.channel(channel_id).peer
    return encode_secret_proof(channel_id, sequence, accused, published_txid, bytes(secret)).hex()


def newer_state_proof(party: ChannelParty, channel_id: bytes, sequence: int, published_txid: bytes) -> str:
    """The peer published state `sequence` although a newer one is signed by both: evidence only."""
    accused = party.channel(channel_id).peer
    evidence = _evidence(party, channel_id, party.channel(channel_id).sequence)
    return encode_evidence_proof(channel_id, sequence, accused, published_txid, evidence).hex()


def counter_proof(
    party: ChannelParty, channel_id: bytes, published_sequence: int, published_txid: bytes, newest: int | None = None
) -> str:
    """The published state is signed by both; with `newest` a later one is shown, which supersedes."""
    shown = published_sequence if newest is None else newest
    evidence = _evidence(party, channel_id, shown)
    return encode_counter_proof(channel_id, published_txid, published_sequence, evidence).hex()


def _evidence(party: ChannelParty, channel_id: bytes, sequence: int) -> bytes:
    state = party.state(channel_id, sequence)
    return encode_evidence(state.content.read_header(), state.sigs_a.state, state.sigs_b.state)
