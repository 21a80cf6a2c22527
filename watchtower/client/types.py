"""The documented types of the State Channels client, and one result type per method.

Names follow the documentation; `ChannelParams` here is what an application asks for, not the 516 bytes of the
protocol (`domain.contract.params.ChannelParams`). Identifiers are hexadecimal texts, amounts satoshi.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from domain.contract.conditions import Condition
from domain.status import ChannelStatus
from watchtower.client.claim_types import ClaimInfo
from watchtower.client.liquidity import ChannelLiquidity
from watchtower.client.past import LogPoint, TowerPast
from watchtower.wire.api import UpdateRequest

TAPROOT = "taproot"
"""`funding_script` that means: the channel's own funding output."""


class ChannelParticipant(msgspec.Struct, frozen=True):
    """A party: its funding key (66 hexadecimal digits) and its balance in state 0, in satoshi.

    A party tells its next one: `ChannelParty.next_funding_key`. An empty text means: whatever key this party takes
    next, or the authenticated peer brings. Only keys tell a repeated `create_channel` from a second channel: with an
    empty text each call opens another one.
    """

    pubkey: str
    initial_balance: int


class ChannelParams(msgspec.Struct, frozen=True):
    """What a channel is made of. `participants[0]` is the opener A, `participants[1]` is B.

    `challenge_period` in blocks; None takes that of the client's configuration. `funding_script` is "taproot" or the
    channel's own descriptor in any of its forms, with or without checksum.
    """

    participants: Sequence[ChannelParticipant]
    challenge_period: int | None = None
    funding_script: str = TAPROOT


class StateUpdate(msgspec.Struct, frozen=True):
    """A new state. `balances` of A and B in satoshi; `state_data` is text or the application's bytes.

    `signatures` are those of A and of B, 512 hexadecimal digits each; without them the own party and the peer sign.
    `conditions` None keeps those of the newest state. `upload` is the complete form that a party makes
    (`ChannelParty.update_body`); a client with a party fills it in. The documented fields are compared with it.
    """

    channel_id: str
    sequence_number: int
    balances: Sequence[int]
    state_data: str | bytes = ""
    signatures: Sequence[str] = ()
    conditions: Sequence[Condition] | None = None
    upload: UpdateRequest | None = None


class ChannelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A channel as the tower knows it. `final_sequence` is the highest state that cannot be undone (U4).

    `as_of` is the point of the tower's log that was asked for, None for the present.
    """

    channel_id: str
    status: ChannelStatus
    participants: tuple[ChannelParticipant, ...]
    current_sequence: int
    balances: tuple[int, ...]
    funding_txid: str
    challenge_period: int
    final_sequence: int
    proposal_id: str
    capacity: int
    own_side: Literal["A", "B"]
    highest_revoked: int
    funding_height: int | None = None
    warnings: tuple[str, ...] = ()
    liquidity: ChannelLiquidity | None = None
    claims: tuple[ClaimInfo, ...] = ()
    as_of: LogPoint | None = None


class ChannelResult(msgspec.Struct, frozen=True):
    """Result of `create_channel`. `created` is False if exactly this channel was registered before.

    `descriptor` is that of the funding output, with its checksum; `funding_txid` as block explorers show it; `receipt`
    is the tower's receipt of the registration with its signature (hexadecimal), checked.
    """

    channel_id: str
    info: ChannelInfo
    created: bool
    descriptor: str = ""
    receipt: str | None = None

    @property
    def funding_txid(self) -> str:
        """The funding transaction."""
        return self.info.funding_txid


class UpdateResult(msgspec.Struct, frozen=True):
    """Result of `update_state` and `revoke_state`: it is stored durably at the tower.

    `receipt` is the tower's receipt of a state that was uploaded, with its signature in hexadecimal digits, checked.
    """

    channel_id: str
    sequence: int
    final_sequence: int
    state_hash: str | None = None
    duplicate: bool = False
    receipt: str | None = None


class LogState(msgspec.Struct, frozen=True, kw_only=True):
    """Which log the tower keeps (32 hexadecimal digits), its epoch, and how many events it holds."""

    log_id: str
    epoch: int
    position: int


class Behind(msgspec.Struct, frozen=True, kw_only=True):
    """The tower's log is an older copy: it lacks what came behind `since`, up to `high_water`.

    Until `accepted` its operator has not decided, and no receipts are signed; states are stored all the same.
    """

    since: int
    high_water: int
    channels: int
    accepted: bool


class ProtocolState(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `get_state`: the tower itself. `lag` in blocks behind its node.

    `profiles` are those of new channels: 0 with Taproot, 1 without. `tower_id` is its x-only key. With `as_of`, height,
    tip, channels and capacity are those of then, `past` says more, and `phase` is "past": what the process was doing
    is not in its log.
    """

    version: str
    network: str
    operational: bool
    watching: bool
    phase: str
    height: int | None
    tip_hash: str | None
    channels: int
    capacity: int
    lag: int | None
    tower_id: str
    protocol_version: int
    chain_hash: str
    profiles: tuple[int, ...]
    reasons: tuple[str, ...] = ()
    connected: bool = True
    log: LogState | None = None
    behind_receipts: Behind | None = None
    past: TowerPast | None = None


class FundingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `get_funding_status`; `confirmed` means: as deep as the tower asks for.

    A reorganization that disconnects `confirmations` blocks undoes the funding.
    """

    channel_id: str
    status: Literal["UNSEEN", "MEMPOOL", "CONFIRMED", "DOUBLE_SPENT", "SPENT_BY"]
    confirmed: bool
    confirmations: int
    funding_txid: str
    funding_vout: int
    funding_height: int | None = None
    double_spent_by: str | None = None
    spent_by: SpentBy | None = None


class SpentBy(msgspec.Struct, frozen=True, kw_only=True):
    """What spent the funding output; with `height` and `block_hash` (as block explorers show it), in that block."""

    kind: Literal["COOP", "COMMIT", "UNKNOWN"]
    txid: str
    party: Literal["A", "B"] | None = None
    sequence: int | None = None
    revoked: bool | None = None
    height: int | None = None
    block_hash: str | None = None
