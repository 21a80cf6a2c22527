"""What this installation accepts, and what one client may use, from its settings."""

from __future__ import annotations

from domain.chain import chain_hash
from domain.contract.params import ParamsPolicy, profile_for
from domain.contract.state_rules import StatePolicy
from watchtower.channels.context import ChannelPolicy
from watchtower.config import Settings
from watchtower.http.routes import Limits

WARN_WINDOW = 144
"""Blocks: on mainnet a shorter challenge period is questioned."""


def channel_policy(settings: Settings) -> ChannelPolicy:
    """What this installation accepts."""
    return ChannelPolicy(
        params=ParamsPolicy(
            chain_hash=chain_hash(settings.network),
            min_capacity=settings.funding_threshold,
            max_capacity=settings.max_value,
            min_challenge_period=settings.min_challenge_period,
            profile=profile_for(settings.taproot_enabled),
        ),
        confirmations=settings.funding_confirmations,
        warn_below_challenge_period=WARN_WINDOW if settings.network == "mainnet" else 0,
        max_channels=settings.policy.max_channels,
        max_total_capacity=settings.policy.max_total_capacity,
        state=StatePolicy(
            max_conditions=settings.policy.max_conditions, max_dust_exposure_sat=settings.policy.max_dust_exposure
        ),
    )


def limits(settings: Settings) -> Limits:
    """What one client of the API may use."""
    return Limits(
        max_body=settings.api.max_body_bytes,
        body_seconds=settings.api.request_deadline_seconds,
        per_address=settings.api.max_requests_per_ip,
        per_key=settings.api.max_requests_per_key,
        bytes_per_key=settings.api.max_bytes_per_key,
        heartbeat=settings.api.sse_heartbeat_seconds,
    )
