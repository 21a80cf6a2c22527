"""What a call works on: the client, and the party behind it if there is one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from domain.errors import UnknownChannel
from watchtower.client.bitcoind_wallet import BitcoindWallet
from watchtower.client.client import StateChannelClient
from watchtower.client.errors import ConfigurationError
from watchtower.client.party.party import ChannelParty
from watchtower.client.payments import Payments
from watchtower.client.peers.served import ServedPeer
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.transport.curve_key import PeerAddress
from watchtower.node.transport import RpcTransport
from watchtower.party.settings import PartyFile, WalletPlace, check_peer, remember_peer


class Desk:
    """A client without a home answers what the tower alone can answer."""

    def __init__(
        self,
        client: StateChannelClient,
        home: Path | None = None,
        settings: PartyFile | None = None,
        key: bytes = b"",
        admit: Callable[[bytes], None] = lambda _key: None,
        payments: Payments | None = None,
    ) -> None:
        """`key` is the own identity; `admit` lets a peer connect from now on; `payments` run beside the calls."""
        self.client = client
        self.home = home
        self.settings = settings or PartyFile()
        self.key = key
        self._admit = admit
        self._payments = payments

    @property
    def payments(self) -> Payments:
        """Those of the party; `ConfigurationError` if it leaves HTLCs alone."""
        if self._payments is None:
            raise ConfigurationError("this party was started without payments")
        return self._payments

    @asynccontextmanager
    async def paying(self) -> AsyncIterator[None]:
        """Payments are looked after inside the block, if this party has any to do with them."""
        if self._payments is None:
            yield
            return
        async with self._payments:
            yield

    @property
    def party(self) -> ChannelParty:
        """The own party; `ConfigurationError` if the call was made without one."""
        if self.client.party is None:
            raise ConfigurationError("this call needs a party: name its directory with --home")
        return self.client.party

    async def channel_id(self, text: str) -> str:
        """The full id of a channel from its beginning; `UnknownChannel`, or what the tower answers."""
        if self.client.party is None:
            return (await self.client.get_channel_info(text)).channel_id
        return self.channel(text).channel_id.hex()

    def channel(self, text: str) -> PartyChannel:
        """The one channel of the party whose id begins so."""
        wanted = text.lower()
        found = [each for each in self.party.channels() if wanted and each.channel_id.hex().startswith(wanted)]
        if not found:
            raise UnknownChannel(f"this party has no channel {text}; `watchtower party info` lists its channels")
        if len(found) > 1:
            raise UnknownChannel(f"{len(found)} channels begin with {text}; give more characters")
        return found[0]

    def meet(self, peer: str) -> bytes:
        """Dial a peer (KEY@host:port) or expect it (KEY), also after a restart; its identity."""
        key = check_peer(peer)
        if self.home is None or not isinstance(self.client.peer, ServedPeer):
            raise ConfigurationError("this call needs a party: name its directory with --home")
        remember_peer(self.home, peer)
        self._admit(key)
        if "@" in peer:
            self.client.peer.reach(PeerAddress.parse(peer))
        return key

    def use_wallet(self, chosen: WalletPlace) -> None:
        """Take this wallet until the next call that opens a channel; what is empty comes from the settings."""
        given = {name: value for name, value in msgspec.structs.asdict(chosen).items() if value}
        if given or self.settings.wallet.node:
            self.client.wallet = open_wallet(msgspec.structs.replace(self.settings.wallet, **given))


def open_wallet(place: WalletPlace) -> BitcoindWallet | None:
    """The wallet of the settings, None if they name none. `ConfigurationError` for a password that cannot be read."""
    if not place.node:
        return None
    url = f"{place.node.rstrip('/')}/wallet/{place.name}" if place.name else place.node
    password = read_secret(place.password_file) if place.password_file else None
    cookie = Path(place.cookie_file) if place.cookie_file else None
    return BitcoindWallet(RpcTransport(url, place.user or None, password, cookie))


def read_secret(path: str) -> str:
    """The text of a file without the newline at its end."""
    try:
        return Path(path).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the file {path} cannot be read ({type(error).__name__})") from None
