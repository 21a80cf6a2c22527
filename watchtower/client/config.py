"""The six documented options of the State Channels client, with their defaults and environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from domain.chain import GENESIS_DISPLAY, chain_hash
from domain.contract.params import ParamsPolicy, profile_for
from domain.errors import MalformedInput
from domain.units import MAX_MONEY
from watchtower.client.errors import ConfigurationError
from watchtower.client.party.settings import PartySettings
from watchtower.client.protocol.opening import Terms

VARIABLES = {
    "network": "STATE_CHANNEL_NETWORK",
    "timeout_ms": "STATE_CHANNEL_TIMEOUT_MS",
    "challenge_period": "STATE_CHANNEL_CHALLENGE_PERIOD",
    "funding_threshold": "STATE_CHANNEL_FUNDING_THRESHOLD",
    "max_channel_value": "STATE_CHANNEL_MAX_VALUE",
    "taproot_enabled": "STATE_CHANNEL_TAPROOT_ENABLED",
}
_DIGITS = 18
"""Of a number in a variable; every option is far below, and Python reads no text of thousands of digits."""

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class StateChannelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the client. Amounts in satoshi, `challenge_period` in blocks, `timeout_ms` in milliseconds.

    `timeout_ms` limits one request to the tower, and one call that moves a channel with its peer from beginning to end;
    it never touches a deadline on chain, which counts blocks. `challenge_period` is that of new channels, and the
    shortest one that this client takes part in.
    """

    network: str = "mainnet"
    timeout_ms: int = 30_000
    challenge_period: int = 144
    funding_threshold: int = 10_000
    max_channel_value: int = 100_000_000
    taproot_enabled: bool = True

    def __post_init__(self) -> None:
        """Raise `ConfigurationError` for a value out of range."""
        try:
            chain_hash(self.network)
        except MalformedInput:
            raise ConfigurationError(f"network is one of {', '.join(GENESIS_DISPLAY)}, got {self.network!r}") from None
        _within("timeout_ms", self.timeout_ms, 100, 600_000)
        _within("challenge_period", self.challenge_period, 1, 65_535)
        _within("max_channel_value", self.max_channel_value, 1, MAX_MONEY)
        _within("funding_threshold", self.funding_threshold, 1, self.max_channel_value)
        if not isinstance(self.taproot_enabled, bool):
            # A text like "false" would be true.
            raise ConfigurationError(f"taproot_enabled is True or False, got {self.taproot_enabled!r:.80}")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> StateChannelConfig:
        """The documented variables; what is absent or empty has its default."""
        values = os.environ if environ is None else environ
        found = {name: _parse(name, values[variable]) for name, variable in VARIABLES.items() if values.get(variable)}
        try:
            return msgspec.convert(found, cls)
        except msgspec.ValidationError as error:
            raise ConfigurationError(str(error)) from None

    @property
    def timeout_seconds(self) -> float:
        """The only conversion of `timeout_ms`."""
        return self.timeout_ms / 1000

    def party_settings(self) -> PartySettings:
        """What a party with these options takes part in, as opener and as acceptor."""
        return PartySettings(
            network=self.network,
            min_capacity=self.funding_threshold,
            max_capacity=self.max_channel_value,
            min_challenge_period=self.challenge_period,
            taproot_enabled=self.taproot_enabled,
        )

    def terms(self, balances: tuple[int, int]) -> Terms:
        """Terms of a new channel with the configured challenge period and profile; balances of A and B in satoshi."""
        profile = profile_for(self.taproot_enabled)
        return Terms(balances=balances, challenge_period=self.challenge_period, profile=profile)

    @property
    def params_policy(self) -> ParamsPolicy:
        """What channels this client takes part in."""
        return ParamsPolicy(
            chain_hash(self.network),
            self.funding_threshold,
            self.max_channel_value,
            self.challenge_period,
            profile=profile_for(self.taproot_enabled),
        )


def _parse(name: str, text: str) -> str | int | bool:
    if name == "network":
        return text
    if name == "taproot_enabled":
        if text.lower() not in _BOOLEANS:
            raise ConfigurationError(f"{VARIABLES[name]} is true, false, 1 or 0, got {text[:20]!r}")
        return _BOOLEANS[text.lower()]
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
        raise ConfigurationError(f"{VARIABLES[name]} is a whole number of at most {_DIGITS} digits, got {text[:20]!r}")
    return int(text)


def _within(name: str, value: int, low: int, high: int) -> None:
    if type(value) is not int:
        raise ConfigurationError(f"{name} is a whole number, got {value!r:.80}")
    if not low <= value <= high:
        raise ConfigurationError(f"{name} lies between {low} and {high}, got {value}")
