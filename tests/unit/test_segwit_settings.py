"""Which profile a new channel gets: the setting of tower, party and client, and what each refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.contract.params import SEGWIT, TAPROOT
from domain.errors import InvalidParams
from domain.units import Side
from tests.support.parties import htlc, make_party, open_pair, settings_of
from watchtower.bootstrap.policies import channel_policy
from watchtower.client.config import StateChannelConfig
from watchtower.config import load


@pytest.mark.parametrize(("enabled", "profile"), [(True, TAPROOT), (False, SEGWIT)])
def test_client_configuration_chooses_the_profile(enabled: bool, profile: int) -> None:
    """Terms and policy of a client follow taproot_enabled."""
    config = StateChannelConfig(network="regtest", taproot_enabled=enabled)

    assert (profile, profile) == (config.terms((500_000, 500_000)).profile, config.params_policy.profile)


@pytest.mark.parametrize(("text", "profile"), [("true", TAPROOT), ("false", SEGWIT)])
def test_service_configuration_chooses_the_profile(text: str, profile: int, tmp_path: Path) -> None:
    """What the service accepts follows its own setting."""
    variables = {"STATE_CHANNEL_NETWORK": "regtest", "STATE_CHANNEL_TAPROOT_ENABLED": text}

    assert profile == channel_policy(load(variables, home=tmp_path).settings).params.profile


@pytest.mark.parametrize("profile", [TAPROOT, SEGWIT])
def test_parties_open_update_and_close_in_either_profile(profile: int) -> None:
    """The whole exchange runs in both profiles, with conditions, over the same messages."""
    pair = open_pair(profile=profile)
    pair.updates(2)
    pair.with_htlcs(htlc(Side.A, 1, 20_000, 900_000), htlc(Side.B, 2, 20_000, 900_000))
    pair.update((500_000, 500_000))

    assert (profile, 4) == (pair.params.profile, pair.sequence)
    assert pair.close(Side.B)


@pytest.mark.parametrize(("opener", "acceptor"), [(TAPROOT, SEGWIT), (SEGWIT, TAPROOT)])
def test_acceptor_refuses_the_other_profile(opener: int, acceptor: int) -> None:
    """A party takes part in new channels of its own setting only, also when the peer opens them."""
    ends = (make_party("alice", settings=settings_of(opener)), make_party("bob", settings=settings_of(acceptor)))

    with pytest.raises(InvalidParams, match="taproot_enabled chooses"):
        open_pair(parties=ends, profile=opener)


def test_unknown_profiles_are_refused() -> None:
    """A profile that does not exist is named, whatever the setting."""
    with pytest.raises(InvalidParams, match="profile 7 is unknown"):
        open_pair(profile=7)


def test_segwit_channels_have_no_rescue_leaf() -> None:
    """The flag of a joint settlement needs taproot and is refused at the opening."""
    with pytest.raises(InvalidParams, match="rescue_leaf needs taproot"):
        open_pair(profile=SEGWIT, flags=1)


def test_musig_close_is_refused_and_the_other_form_works() -> None:
    """Nothing is signed by the refused attempt: the close by both signatures follows as usual."""
    pair = open_pair(profile=SEGWIT)
    with pytest.raises(InvalidParams, match="signature of each party"):
        pair.close(Side.A, musig=True)

    assert pair.close(Side.A)
