"""The SDK: `StateChannelClient` talks to a tower and a peer, `ChannelParty` holds the keys and signs.

    with open_home(directory, passphrase, config.party_settings()) as home:
        async with open_client(home, config, url=tower, token=token, peers=["KEY@host:port"], wallet=wallet) as client:
            result = await client.create_channel(params)

`SyncStateChannelClient` is the same without asyncio. Secrets stay in the party's keystore; the client carries only what
a party hands out. What is raised is a `StateChannelError`, or a refusal of `domain.errors`; the party's own disk and
keystore fail with a `watchtower.ports.WatchtowerError`.
"""

from domain.as_of import AsOf
from domain.contract.conditions import Condition
from domain.status import ChannelStatus
from watchtower.client.bitcoind_wallet import BitcoindWallet
from watchtower.client.claim_types import ClaimInfo
from watchtower.client.client import StateChannelClient
from watchtower.client.config import StateChannelConfig
from watchtower.client.dispute_types import (
    ChallengeResult,
    ChannelState,
    ClosureResult,
    PendingState,
    ResponseResult,
    TransactionFinding,
    ValidationResult,
    VerificationResult,
)
from watchtower.client.disputes import InProcessPeer
from watchtower.client.errors import StateChannelError, TowerProblem
from watchtower.client.fee_children import FeeChildInfo, FeeChildPolicy, FeeChildStatus
from watchtower.client.open_client import open_client
from watchtower.client.party.home import PartyHome, create_home, open_home
from watchtower.client.party.party import ChannelParty, PartySettings
from watchtower.client.past import LogPoint, OpenBreach, TowerPast, at_time
from watchtower.client.peer_errors import PeerError
from watchtower.client.peers.link import PeerLink
from watchtower.client.peers.port import Closer, Peer
from watchtower.client.peers.served import ServedPeer
from watchtower.client.protocol.consent import Deal, agree, never_lose
from watchtower.client.protocol.htlcs import Change, NewHtlc
from watchtower.client.protocol.news import HtlcAdded, HtlcRemoved, PreimageShown
from watchtower.client.protocol.opening import Terms
from watchtower.client.sync import SyncStateChannelClient
from watchtower.client.tower.preimages import ChannelPreimages, KnownPreimage, PreimageResult
from watchtower.client.tower.request_signing import PartyAuth, PartySigner
from watchtower.client.transport.curve_key import PeerAddress
from watchtower.client.types import (
    ChannelInfo,
    ChannelParams,
    ChannelParticipant,
    ChannelResult,
    FundingStatus,
    ProtocolState,
    SpentBy,
    StateUpdate,
    UpdateResult,
)
from watchtower.client.wallet import FeeWallet, FundingWallet, WalletError

__all__ = [
    "AsOf",
    "BitcoindWallet",
    "ChallengeResult",
    "Change",
    "ChannelInfo",
    "ChannelParams",
    "ChannelParticipant",
    "ChannelParty",
    "ChannelPreimages",
    "ChannelResult",
    "ChannelState",
    "ChannelStatus",
    "ClaimInfo",
    "Closer",
    "ClosureResult",
    "Condition",
    "Deal",
    "FeeChildInfo",
    "FeeChildPolicy",
    "FeeChildStatus",
    "FeeWallet",
    "FundingStatus",
    "FundingWallet",
    "HtlcAdded",
    "HtlcRemoved",
    "InProcessPeer",
    "KnownPreimage",
    "LogPoint",
    "NewHtlc",
    "OpenBreach",
    "PartyAuth",
    "PartyHome",
    "PartySettings",
    "PartySigner",
    "Peer",
    "PeerAddress",
    "PeerError",
    "PeerLink",
    "PendingState",
    "PreimageResult",
    "PreimageShown",
    "ProtocolState",
    "ResponseResult",
    "ServedPeer",
    "SpentBy",
    "StateChannelClient",
    "StateChannelConfig",
    "StateChannelError",
    "StateUpdate",
    "SyncStateChannelClient",
    "Terms",
    "TowerPast",
    "TowerProblem",
    "TransactionFinding",
    "UpdateResult",
    "ValidationResult",
    "VerificationResult",
    "WalletError",
    "agree",
    "at_time",
    "create_home",
    "never_lose",
    "open_client",
    "open_home",
]
