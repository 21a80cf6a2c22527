"""Which peer a channel belongs to: nobody else may speak for it, and only this peer hears where it stands.

The keystore keeps the answer because it is durable, encrypted and never replaces an entry. A stranger who could
send offers for a channel could freeze it with a second content; therefore the identity that the transport has
proved at the opening is the only one from then on.
"""

from __future__ import annotations

from threading import Lock

from domain.contract.hashes import tagged_hash
from domain.errors import UnknownChannel
from watchtower.client.protocol.channel import PartyChannel
from watchtower.ports import Keystore


class PeerBook:
    """Binds channels to peers. Safe to use from several threads."""

    def __init__(self, keystore: Keystore) -> None:
        self._keystore = keystore
        self._mutex = Lock()
        self._known: dict[bytes, bytes] = {}

    def __repr__(self) -> str:
        return f"<PeerBook, {len(self._known)} known>"

    def bind(self, proposal_id: bytes, peer: bytes) -> None:
        """Durable on return; the same again changes nothing, another peer raises `KeystoreError`."""
        self._keystore.put(_entry(proposal_id), peer)
        with self._mutex:
            self._known[bytes(proposal_id)] = bytes(peer)

    def peer_of(self, channel: PartyChannel) -> bytes | None:
        """Identity of the peer (32 bytes), None for a channel that was not opened over a transport."""
        name = channel.params.proposal_id
        with self._mutex:
            if name in self._known:
                return self._known[name]
            found = self._keystore.get(_entry(name))
            if found is not None:
                self._known[name] = found
            return found

    def require(self, channel: PartyChannel, peer: bytes) -> None:
        """Raise `UnknownChannel`, as for a channel that does not exist, unless it belongs to this peer."""
        if self.peer_of(channel) != peer:
            raise UnknownChannel("this party has no channel with this id")


def _entry(proposal_id: bytes) -> bytes:
    return tagged_hash("state-channel/party/peer", bytes(proposal_id))
