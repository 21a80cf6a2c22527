"""The key that a party shows to its peers, and the address under which it is reached."""

from __future__ import annotations

import re
from typing import Self

import msgspec
import zmq
import zmq.asyncio
from zmq.utils import z85

from domain.contract.hashes import tagged_hash
from watchtower.client.errors import ConfigurationError

TAG = "state-channel/party/transport"
_ADDRESS = re.compile(r"([0-9a-f]{64})@(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+|\*):([0-9]{1,5})")


class TransportKey:
    """A Curve25519 key pair. It signs nothing and moves no money: losing it lets others speak in the party's name."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise ConfigurationError("a transport key has 32 bytes")
        self._secret = z85.encode(secret)
        self.public = z85.decode(zmq.curve_public(self._secret))

    def __repr__(self) -> str:
        return f"<TransportKey {self.public.hex()}>"

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """The key of a party's seed, so that a restored party keeps its identity."""
        return cls(tagged_hash(TAG, seed))

    def apply(self, socket: zmq.asyncio.Socket) -> None:
        """Let a socket use this key."""
        socket.curve_secretkey = self._secret
        socket.curve_publickey = z85.encode(self.public)


class PeerAddress(msgspec.Struct, frozen=True):
    """Where a peer listens and which key it must hold: `<64 hexadecimal digits>@host:port`."""

    key: bytes
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form; `ConfigurationError` says how it should look."""
        found = _ADDRESS.fullmatch(text)
        if found is None or not 0 < int(found[3]) < 65_536:
            raise ConfigurationError(f"an address is <64 hexadecimal digits>@host:port, got {text[:100]!r}")
        return cls(bytes.fromhex(found[1]), found[2], int(found[3]))

    def __str__(self) -> str:
        return f"{self.key.hex()}@{self.host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """ZeroMQ's form."""
        return f"tcp://{self.host}:{self.port}"
