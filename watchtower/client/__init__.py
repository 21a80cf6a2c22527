"""The SDK: `StateChannelClient` talks to a tower, `ChannelParty` holds the keys and signs.

Secrets stay in the party's keystore; the client carries only what a party hands out.
"""

from domain.status import ChannelStatus
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
from watchtower.client.disputes import Closer, InProcessPeer
from watchtower.client.errors import StateChannelError, TowerProblem
from watchtower.client.opening import Terms
from watchtower.client.party import ChannelParty, PartySettings
from watchtower.client.preimages import ChannelPreimages, KnownPreimage, PreimageResult
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

__all__ = [
    "ChallengeResult",
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
    "FundingStatus",
    "InProcessPeer",
    "KnownPreimage",
    "PartySettings",
    "PendingState",
    "PreimageResult",
    "ProtocolState",
    "ResponseResult",
    "SpentBy",
    "StateChannelClient",
    "StateChannelConfig",
    "StateChannelError",
    "StateUpdate",
    "Terms",
    "TowerProblem",
    "TransactionFinding",
    "UpdateResult",
    "ValidationResult",
    "VerificationResult",
]
