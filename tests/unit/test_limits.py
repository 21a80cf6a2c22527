"""Limits of the whole tower and of one state: what fits is taken, the next one is refused and stores nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from domain.contract.state_rules import StatePolicy
from domain.errors import InvalidState
from domain.units import Side
from tests.support.parties import Pair, htlc, open_pair
from tests.support.towers import Bench
from watchtower.bootstrap.policies import channel_policy
from watchtower.channels.accept_state import accept_state
from watchtower.channels.context import Context
from watchtower.channels.limits import TowerFull
from watchtower.channels.register import register
from watchtower.config import load


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """B's tower."""
    return Bench(tmp_path)


def limited(tower: Bench, **limits: object) -> Context:
    """The tower's use cases under these limits."""
    return msgspec.structs.replace(tower.context, policy=msgspec.structs.replace(tower.context.policy, **limits))


def fill(tower: Bench, context: Context, *names: str) -> list[Pair]:
    """Register a channel of 1,000,000 sat per name, without waiting for a view."""
    pairs = [open_pair(names=(name, f"peer of {name}")) for name in names]
    for pair in pairs:
        tower.fund(pair)
        register(context, pair.registration(Side.B))
    return pairs


@pytest.mark.parametrize("limits", [{"max_channels": 2}, {"max_total_capacity": 2_999_999}])
@pytest.mark.parametrize("seen", [True, False], ids=["in the views", "just stored"])
def test_a_full_tower_refuses_and_keeps_nothing(tower: Bench, limits: dict[str, object], seen: bool) -> None:
    """The third channel is refused by number or by sum, also before a view has seen the first two."""
    context = limited(tower, **limits)
    fill(tower, context, "first", "second")
    {True: tower.catch_up, False: list}[seen]()
    third = open_pair(names=("third", "other"))
    tower.fund(third)

    with pytest.raises(TowerFull, match="use another tower"):
        register(context, third.registration(Side.B))

    assert None is tower.keystore.get(third.params.proposal_id)
    assert None is context.channels.find(context.channels.stream_of(third.params.proposal_id))


def test_a_full_tower_still_knows_its_own(tower: Bench) -> None:
    """A repetition is answered as before."""
    context = limited(tower, max_channels=1)
    (pair,) = fill(tower, context, "only")

    assert not register(context, pair.registration(Side.B)).created


def test_exactly_the_limit_fits(tower: Bench) -> None:
    """Two channels of 1,000,000 under a sum of 2,000,000."""
    assert 2 == len(fill(tower, limited(tower, max_channels=2, max_total_capacity=2_000_000), "first", "second"))


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (StatePolicy(max_conditions=1), "above the limit of 1"),
        (StatePolicy(max_dust_exposure_sat=599), "above the limit of 599 sat"),
    ],
)
def test_limits_of_a_state(tower: Bench, policy: StatePolicy, words: str) -> None:
    """Number of conditions and dust exposure as configured."""
    pair = open_pair()
    name = tower.registered(pair)
    pair.update((499_700, 499_700), (htlc(Side.A, 1, 300, 900_000), htlc(Side.B, 2, 300, 900_000)))
    stream = tower.context.channels.stream_of(pair.params.proposal_id)

    with pytest.raises(InvalidState, match=words):
        accept_state(limited(tower, state=policy), stream, pair.update_request(Side.B, 1))

    assert 0 == tower.services.get_channel(name).current_sequence


def test_settings_become_the_policy() -> None:
    """Each of the four settings reaches the use cases."""
    names = {"MAX_CHANNELS": "7", "MAX_TOTAL_CAPACITY": "8000000", "MAX_CONDITIONS": "9", "MAX_DUST_EXPOSURE": "1000"}
    environ = {f"STATE_CHANNEL_POLICY__{name}": text for name, text in names.items()}

    policy = channel_policy(load(environ, read_file=False).settings)

    assert (7, 8_000_000) == (policy.max_channels, policy.max_total_capacity)
    assert (9, 1_000) == (policy.state.max_conditions, policy.state.max_dust_exposure_sat)
