"""The SDK: `StateChannelClient` talks to a tower, `ChannelParty` holds the keys and signs.

Secrets stay in the party's keystore; the client carries only what a party hands out.
"""

from domain.status import ChannelStatus
from watchtower.client.client import StateChannelClient
from watchtower.client.config import StateChannelConfig
from watchtower.client.errors import StateChannelError, TowerProblem
from watchtower.client.opening import Terms
from watchtower.client.party import ChannelParty, PartySettings
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
    "ChannelInfo",
    "ChannelParams",
    "ChannelParticipant",
    "ChannelParty",
    "ChannelResult",
    "ChannelStatus",
    "FundingStatus",
    "PartySettings",
    "ProtocolState",
    "SpentBy",
    "StateChannelClient",
    "StateChannelConfig",
    "StateChannelError",
    "StateUpdate",
    "Terms",
    "TowerProblem",
    "UpdateResult",
]
