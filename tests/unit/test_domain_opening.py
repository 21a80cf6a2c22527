"""Registrations: what a tower takes under its watch, and every reason to refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from domain.contract.params import ParamsPolicy, check_params
from domain.contract.state import StateSignatures
from domain.errors import (
    ChannelExists,
    DomainError,
    FundingMismatch,
    InvalidParams,
    InvalidSignature,
    InvalidState,
    MalformedInput,
    SequenceGap,
)
from domain.events import (
    MAX_RAW_TRANSACTION,
    ChannelProposed,
    ChannelRegistered,
    Source,
    StateUpdated,
    decode_payload,
    encode_payload,
)
from domain.opening import check_funding_output, decide_register
from domain.spending import disconnected, funding_confirmed, funding_double_spent, funding_seen
from domain.status import ChannelStatus
from domain.transaction import Transaction, TxOut
from domain.units import Side
from tests.support.scenes import (
    CAPACITY,
    FUNDED_AT,
    NOW,
    POLICY,
    UPLOAD,
    Scene,
    block,
    funded,
    funding_of,
    payout,
    secrets_of,
    sweep,
    unfunded_params,
)


def scene_with(**changes: Any) -> Scene:
    """A scene whose constants differ in some fields."""
    return Scene(params=funded(msgspec.structs.replace(unfunded_params(), **changes)))


def without_output(raw: Transaction, output: TxOut) -> Transaction:
    """The funding transaction with another output."""
    return Transaction(raw.version, raw.inputs, (output,), raw.lock_time)


@pytest.mark.parametrize("own", list(Side))
def test_a_registration_is_three_events(own: Side) -> None:
    """Proposal, watch and state 0 are stored together; nothing is revoked yet."""
    scene = Scene(own)

    events = scene.then(decide_register(None, scene.registration()))

    assert [ChannelProposed, ChannelRegistered, StateUpdated] == [type(event) for event in events]
    assert (0, -1, own.other) == (scene.channel.sequence, scene.channel.highest_revoked, scene.channel.counterparty)
    assert (600_000, 400_000) == scene.channel.initial_balances == scene.channel.balances
    assert (scene.points(0)[own.other], scene.points(1)[own.other]) == scene.channel.points
    assert ChannelStatus.PROPOSED is scene.channel.status


def test_the_proposal_has_a_blank_outpoint() -> None:
    """The stream is named by what never changes: the constants without the funding outpoint."""
    scene = Scene()
    proposal = decide_register(None, scene.registration())[0]

    assert isinstance(proposal, ChannelProposed)
    assert unfunded_params().encode() == proposal.params
    assert unfunded_params().proposal_id == scene.params.proposal_id


def test_no_event_of_a_registration_holds_a_secret() -> None:
    """The bytes of the events contain none of the secrets of either side."""
    scene = Scene()
    stored = b"".join(msgspec.msgpack.encode(event) for event in decide_register(None, scene.registration()))

    assert [] == [s for side in Side for s in msgspec.structs.astuple(secrets_of(side)) if s in stored]


def test_the_same_registration_again_changes_nothing() -> None:
    """A repeated upload is answered from what is stored, also much later."""
    scene = Scene().opened(2)

    assert [] == decide_register(scene.channel, scene.registration())


@pytest.mark.parametrize(
    "change", [{"upload_sha256": bytes(32)}, {"params": funded(unfunded_params()).with_funding(b"\x09" * 32, 1)}]
)
def test_another_registration_of_the_same_channel_is_refused(change: dict[str, Any]) -> None:
    """The first registration stands."""
    scene = Scene().opened(0)

    with pytest.raises(ChannelExists, match="first registration stands"):
        decide_register(scene.channel, scene.registration(**change))


# ── refusals: constants ──────────────────────────────────────────────────────────────────────────────────

KEYS_A, KEYS_B = unfunded_params().keys_a, unfunded_params().keys_b

BAD_PARAMS: dict[str, tuple[dict[str, Any], str]] = {
    "one key in two roles": ({"keys_a": msgspec.structs.replace(KEYS_A, rev=KEYS_A.fund)}, "rev_A repeats fund_A"),
    "one key on two sides": ({"keys_b": msgspec.structs.replace(KEYS_B, auth=KEYS_A.auth)}, "auth_B repeats auth_A"),
    "same x, other parity": (
        {"keys_b": msgspec.structs.replace(KEYS_B, htlc=bytes((KEYS_A.fund[0] ^ 1,)) + KEYS_A.fund[1:])},
        "htlc_B repeats fund_A",
    ),
    "fund key off the curve": ({"keys_a": msgspec.structs.replace(KEYS_A, fund=b"\x02" + b"\xff" * 32)}, "fund_A"),
    "auth key off the curve": ({"keys_b": msgspec.structs.replace(KEYS_B, auth=b"\xff" * 32)}, "auth_B"),
    "uncompressed prefix": ({"keys_a": msgspec.structs.replace(KEYS_A, rev=b"\x04" + KEYS_A.rev[1:])}, "rev_A"),
    "another network": ({"chain_hash": bytes(32)}, "another network"),
    "capacity too small": ({"capacity": 9_999}, "outside 10000"),
    "capacity too large": ({"capacity": 100_000_001}, "outside 10000"),
    "challenge period zero": ({"challenge_period": 0}, "outside 1 … 65535"),
    "static feerate too low": ({"static_feerate": 999}, "outside 1000 … 50000"),
    "static feerate too high": ({"static_feerate": 50_001}, "outside 1000 … 50000"),
    "reserve above the capacity": ({"reserve_sat": CAPACITY + 1}, "above the capacity"),
    "profile unknown": ({"profile": 2}, "profile 2 is unknown"),
    "reserved flags": ({"flags": 8}, "reserved bits"),
    "presigned HTLCs": ({"flags": 4}, "not supported"),
    "payout to anybody": (
        {"keys_b": msgspec.structs.replace(KEYS_B, payout=bytes.fromhex("51024e73"))},
        "must not be P2A",
    ),
    "payout to a legacy script": (
        {"keys_b": msgspec.structs.replace(KEYS_B, payout=b"\x76\xa9\x14" + bytes(20) + b"\x88\xac")},
        "witness program",
    ),
}


@pytest.mark.parametrize("case", BAD_PARAMS)
def test_constants_against_the_rules_are_refused(case: str) -> None:
    """The refusal names the field."""
    changes, text = BAD_PARAMS[case]
    params = msgspec.structs.replace(funded(unfunded_params()), **changes)

    with pytest.raises(InvalidParams, match=text):
        decide_register(None, Scene().registration(params=params))


def test_another_profile_has_another_funding_script() -> None:
    """Constants of the profile without Taproot are fine, but not with the funding output of the other one."""
    params = msgspec.structs.replace(funded(unfunded_params()), profile=1)

    with pytest.raises(FundingMismatch, match="pays script 5120"):
        decide_register(None, Scene().registration(params=params))


def test_an_unknown_funding_outpoint_is_refused() -> None:
    """A tower cannot watch what has no name yet."""
    with pytest.raises(InvalidParams, match="outpoint must be known"):
        decide_register(None, Scene().registration(params=unfunded_params()))


def test_the_policy_of_the_installation_counts() -> None:
    """T of 144 blocks is below what this installation wants."""
    policy = ParamsPolicy(POLICY.chain_hash, min_challenge_period=200)

    with pytest.raises(InvalidParams, match="challenge period 144"):
        decide_register(None, Scene().registration(params_policy=policy))


@pytest.mark.parametrize("period", [1, 16, 17, 127, 128, 144, 32_767, 32_768, 65_535])
def test_F14_every_challenge_period_can_be_registered(period: int) -> None:
    """T from 1 to 65535: state 0 of such a channel is complete and accepted."""
    scene = scene_with(challenge_period=period)

    assert 3 == len(decide_register(None, scene.registration()))


# ── refusals: everything beside the constants ────────────────────────────────────────────────────────────

BAD_COMMANDS: dict[str, tuple[Callable[[Scene], dict[str, Any]], type[DomainError], str]] = {
    "sweep to anybody": (lambda _: {"sweep_spk": bytes.fromhex("51024e73")}, InvalidParams, "P2A"),
    "sweep to a legacy script": (lambda _: {"sweep_spk": b"\xa9\x14" + bytes(20) + b"\x87"}, InvalidParams, "witness"),
    "empty sweep": (lambda _: {"sweep_spk": b""}, InvalidParams, "witness program"),
    "sweep of 43 bytes": (lambda _: {"sweep_spk": b"\x51\x29" + bytes(41)}, InvalidParams, "witness program"),
    "own point off the curve": (
        lambda s: {"own_points": (s.points(0)[s.own], b"\x02" + b"\xff" * 32)},
        MalformedInput,
        "point",
    ),
    "counterparty point off the curve": (
        lambda s: {"counterparty_points": (s.points(0)[s.peer], b"\x05" + bytes(32))},
        MalformedInput,
        "point",
    ),
    "point too short": (
        lambda s: {"counterparty_points": (s.points(0)[s.peer][:32], s.points(1)[s.peer])},
        MalformedInput,
        "33-byte",
    ),
    "own points in another order": (
        lambda s: {"own_points": (s.points(1)[s.own], s.points(0)[s.own])},
        MalformedInput,
        "first of own_points",
    ),
    "counterparty points in another order": (
        lambda s: {"counterparty_points": (s.points(1)[s.peer], s.points(0)[s.peer])},
        InvalidState,
        "commit_txid_B",
    ),
    "upload signed by nobody": (lambda _: {"upload_sig": bytes(64)}, InvalidSignature, "upload_sig"),
    "upload signature too short": (
        lambda s: {"upload_sig": s.registration().upload_sig[:63]},
        InvalidSignature,
        "upload_sig",
    ),
    "another upload signed": (lambda _: {"upload_message": bytes(32)}, InvalidSignature, "upload_sig"),
    "the other side's signature": (lambda _: {"own_side": Side.B}, InvalidSignature, "upload_sig"),
    "state 1 first": (
        lambda s: {"state": msgspec.structs.replace(s.state(1), own_point=s.points(0)[s.own])},
        SequenceGap,
        "state 0 comes next, got 1",
    ),
    "sum mismatch": (
        lambda s: {"state": s.variant(0, balances=(600_001, 400_000))},
        InvalidState,
        "add up to 1000001",
    ),
    "opener without reserve": (
        lambda s: {"state": s.variant(0, balances=(9_999, 990_001))},
        InvalidState,
        "opener must start with its reserve of 10000",
    ),
    "predecessor of state 0": (
        lambda s: {"state": s.variant(0, prev_state_hash=b"\x01" * 32)},
        InvalidState,
        "prev_state_hash",
    ),
    "funding bytes that are no transaction": (lambda _: {"funding_tx": b"\x02\x00"}, MalformedInput, "cut off"),
    "funding bytes with a tail": (
        lambda s: {"funding_tx": funding_of(s.params).serialize() + b"\x00"},
        MalformedInput,
        "1 bytes follow",
    ),
    "funding bytes too long for an event": (
        lambda _: {"funding_tx": bytes(MAX_RAW_TRANSACTION + 1)},
        MalformedInput,
        "100001 bytes",
    ),
    "another funding transaction": (
        lambda s: {"funding_tx": without_output(funding_of(s.params), TxOut(1_000, payout(Side.A))).serialize()},
        FundingMismatch,
        "has txid",
    ),
}


@pytest.mark.parametrize("case", BAD_COMMANDS)
def test_a_bad_registration_is_refused(case: str) -> None:
    """Each refusal is typed and says what was wrong."""
    make, error, text = BAD_COMMANDS[case]
    scene = Scene()

    with pytest.raises(error, match=text):
        decide_register(None, scene.registration(**make(scene)))


@pytest.mark.parametrize("side", ["sigs_a", "sigs_b"])
@pytest.mark.parametrize("name", StateSignatures.__struct_fields__)
def test_each_signature_of_state_0_is_checked(side: str, name: str) -> None:
    """U1 holds for state 0: all eight signatures or no watch."""
    scene = Scene()
    broken = msgspec.structs.replace(getattr(scene.state(0), side), **{name: b"\x01" * 64})
    state = msgspec.structs.replace(scene.state(0), **{side: broken})

    with pytest.raises(InvalidSignature, match=name[:-1] + ".* of " + side[-1].upper()):
        decide_register(None, scene.registration(state))


# ── funding ──────────────────────────────────────────────────────────────────────────────────────────────


def test_F01_a_funding_output_of_other_keys_is_refused() -> None:
    """The outpoint exists and its transaction is genuine, but the script is not the channel's."""
    params = unfunded_params()
    other = without_output(funding_of(params), TxOut(CAPACITY, payout(Side.A)))
    scene = Scene(params=params.with_funding(other.txid, 0))

    with pytest.raises(FundingMismatch, match="pays script"):
        decide_register(None, scene.registration(funding_tx=other.serialize()))


def test_a_funding_output_of_another_value_is_refused() -> None:
    """One satoshi less than the agreed capacity."""
    params = unfunded_params()
    genuine = funding_of(params)
    other = without_output(genuine, TxOut(CAPACITY - 1, genuine.outputs[0].spk))
    scene = Scene(params=params.with_funding(other.txid, 0))

    with pytest.raises(FundingMismatch, match="999999 sat, the channel's capacity is 1000000"):
        decide_register(None, scene.registration(funding_tx=other.serialize()))


def test_a_funding_output_number_that_does_not_exist_is_refused() -> None:
    """The transaction has one output, the channel names the second."""
    params = unfunded_params()
    scene = Scene(params=params.with_funding(funding_of(params).txid, 1))

    with pytest.raises(FundingMismatch, match="no output 1"):
        decide_register(None, scene.registration(funding_tx=funding_of(params).serialize()))


def test_a_registration_without_the_funding_transaction_is_accepted() -> None:
    """The caller asks the node instead; the output's rule is the same."""
    scene = Scene()
    output = funding_of(scene.params).outputs[0]

    assert 3 == len(decide_register(None, scene.registration(funding_tx=None)))
    check_funding_output(scene.params, output.value, output.spk)
    with pytest.raises(FundingMismatch):
        check_funding_output(scene.params, output.value + 1, output.spk)


def test_F05_swapped_parties_share_the_funding_script() -> None:
    """The script sorts its keys; the channel id does not."""
    params = unfunded_params()
    swapped = msgspec.structs.replace(params, keys_a=params.keys_b, keys_b=params.keys_a)

    check_params(swapped.with_funding(b"\x01" * 32, 0), POLICY)
    assert funding_of(params).outputs == funding_of(swapped).outputs
    assert params.proposal_id != swapped.proposal_id


def test_F02_F03_the_funding_comes_goes_and_comes_back() -> None:
    """Mempool, block, disconnected, another block: the status follows, no event twice."""
    scene = Scene()
    raw = funding_of(scene.params).serialize()
    scene.then(decide_register(None, scene.registration(funding_tx=None)))
    seen = [scene.channel.status]

    scene.then(funding_seen(scene.channel, raw, Source.MEMPOOL, NOW))
    seen.append(scene.channel.status)
    scene.then(funding_confirmed(scene.channel, block(FUNDED_AT), NOW))
    seen.append(scene.channel.status)
    scene.then(disconnected(scene.channel, block(FUNDED_AT), NOW))
    seen.append(scene.channel.status)
    scene.then(funding_confirmed(scene.channel, block(FUNDED_AT + 1, branch=1), NOW))
    seen.append(scene.channel.status)

    assert ["PROPOSED", "FUNDING_BROADCAST", "ACTIVE", "FUNDING_BROADCAST", "ACTIVE"] == seen
    assert raw == scene.channel.funding_tx
    assert [] == funding_seen(scene.channel, raw, Source.MEMPOOL, NOW)
    assert [] == funding_confirmed(scene.channel, block(FUNDED_AT + 1, branch=1), NOW)


@pytest.mark.parametrize(("size", "kept"), [(MAX_RAW_TRANSACTION, True), (MAX_RAW_TRANSACTION + 1, False)])
def test_a_funding_transaction_too_long_for_an_event_is_seen_without_its_bytes(size: int, kept: bool) -> None:
    """The fact is recorded; the event can be read back."""
    scene = Scene()
    scene.then(decide_register(None, scene.registration(funding_tx=None)))

    event = scene.then(funding_seen(scene.channel, bytes(size), Source.MEMPOOL, NOW))[0]

    assert scene.channel.funding_seen
    assert kept is (scene.channel.funding_tx is not None)
    assert event == decode_payload(event.TOPIC, encode_payload(event))


def test_F04_a_double_spend_voids_the_channel_while_its_block_stands() -> None:
    """Funding reorganized out, a conflict confirmed, the conflict reorganized out again."""
    scene = Scene().opened(1)
    scene.then(disconnected(scene.channel, block(FUNDED_AT), NOW))
    conflict = block(FUNDED_AT + 1, branch=1)

    scene.then(funding_double_spent(scene.channel, b"\x0d" * 32, conflict, NOW))
    void = scene.channel
    scene.then(disconnected(void, conflict, NOW))

    assert "DOUBLE_SPENT" == void.status.value
    assert [] == funding_double_spent(void, b"\x0d" * 32, conflict, NOW)
    assert "FUNDING_BROADCAST" == scene.channel.status.value


def test_a_confirmed_funding_is_not_double_spent() -> None:
    """What spends the funding's inputs then is the funding transaction itself."""
    scene = Scene().opened(0)

    assert [] == funding_double_spent(scene.channel, b"\x0d" * 32, block(101), NOW)


def test_the_support_builder_uses_distinct_scripts() -> None:
    """Sweep and payout differ, so that tests can tell a penalty from a settlement."""
    assert 4 == len({payout(Side.A), payout(Side.B), sweep(Side.A), sweep(Side.B)})
    assert UPLOAD == Scene().registration().upload_message
