"""A client in one call: from a party's directory, a tower's address and the addresses of peers."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from watchtower.client.client import StateChannelClient
from watchtower.client.config import StateChannelConfig
from watchtower.client.fee_children import FeeChildPolicy
from watchtower.client.party.home import PartyHome
from watchtower.client.peers.served import ServedPeer
from watchtower.client.transport.admission import Admission
from watchtower.client.transport.curve_key import PeerAddress
from watchtower.client.wallet import FundingWallet


def open_client(
    home: PartyHome,
    config: StateChannelConfig | None = None,
    *,
    url: str = "http://127.0.0.1:9815",
    token: str = "",
    peers: Sequence[PeerAddress | str] = (),
    listen: tuple[str, int] | None = None,
    admission: Admission | None = None,
    wallet: FundingWallet | None = None,
    auth: httpx.Auth | None = None,
    tower_id: bytes | None = None,
    max_unacked: int = 0,
    fee_children: FeeChildPolicy | None = None,
) -> StateChannelClient:
    """A client of the tower at `url` that dials `peers` (KEY@host:port) and answers those that dial `listen`.

    Without `admission` only `peers` may connect; for a peer that only dials, and so has no address, give
    `watchtower.client.transport.admission.only([key])`, its key as 32 bytes (`PartyHome.transport_key.public`), or
    `everybody` from there. The client is not connected yet: use it as an async context manager,
    or give it to `SyncStateChannelClient.of`. `home` stays open as long as the client is used; its owner closes it.
    Raises `ConfigurationError` for an address that cannot be read.
    """
    chosen = config or StateChannelConfig()
    addresses = [each if isinstance(each, PeerAddress) else PeerAddress.parse(each) for each in peers]
    served = ServedPeer(home, addresses, listen=listen, admission=admission, timeout_ms=chosen.timeout_ms)
    return StateChannelClient(
        chosen,
        url=url,
        token=token,
        party=home.party,
        peer=served,
        wallet=wallet,
        auth=auth,
        tower_id=tower_id,
        max_unacked=max_unacked,
        fee_children=fee_children,
    )
