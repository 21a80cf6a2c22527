"""What a party accepts and where it wants to be paid."""

from __future__ import annotations

import msgspec

from domain.chain import chain_hash
from domain.contract.params import MIN_RESERVE, ParamsPolicy, profile_for
from domain.contract.state import DEFAULT_STATE_POLICY, StatePolicy

MAINNET_PERIOD = 144
"""Blocks; protocol 2.2 wants an explicit setting for less."""


class PartySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a party accepts, and where it wants to be paid; without scripts it derives P2TR ones per channel.

    `taproot_enabled` chooses the profile of new channels, also of those that the peer opens. `max_total_capacity` and
    `max_peer_capacity` (satoshi) limit the sum of all channels and of those with one peer; 0 is no limit. Peers are
    told apart by the transport, so the latter holds for links.

    A challenge period (blocks) below `min_challenge_period` is refused in every new channel; None is 144 on mainnet,
    where a shorter one needs a decision, and 1 elsewhere. `max_challenge_period` and `min_reserve_sat` hold for what
    peers open: how long a close may lock the own money, and how much the peer always has to lose.
    """

    network: str = "mainnet"
    min_capacity: int = 10_000
    max_capacity: int = 100_000_000
    min_challenge_period: int | None = None
    max_challenge_period: int = 2_016
    min_reserve_sat: int = MIN_RESERVE
    taproot_enabled: bool = True
    state_policy: StatePolicy = DEFAULT_STATE_POLICY
    payout_spk: bytes | None = None
    sweep_spk: bytes | None = None
    max_channels: int = 0
    max_total_capacity: int = 0
    max_peer_capacity: int = 0

    @property
    def least_challenge_period(self) -> int:
        """`min_challenge_period`, or its default for the network."""
        if self.min_challenge_period is not None:
            return self.min_challenge_period
        return MAINNET_PERIOD if self.network == "mainnet" else 1

    @property
    def params_policy(self) -> ParamsPolicy:
        """The policy for channel constants."""
        return ParamsPolicy(
            chain_hash(self.network),
            self.min_capacity,
            self.max_capacity,
            self.least_challenge_period,
            profile=profile_for(self.taproot_enabled),
        )
