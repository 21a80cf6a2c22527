"""Channel constants: bytes, names, rules and defaults."""

import msgspec
import pytest

from domain.chain import NULL_TXID, display, parse_outpoint
from domain.contract.params import (
    UNKNOWN_VOUT,
    ChannelParams,
    KeyBlock,
    ParamsPolicy,
    check_params,
    check_payout_script,
    default_challenge_period,
    default_reserve,
    read_spk_field,
    spk_field,
)
from domain.contract.scripts import funding_output
from domain.errors import InvalidParams, MalformedInput
from domain.units import Side
from tests.contract_vectors.load import PARAMS, load, raw

CHANNEL = load("channel")["channel"]
ENCODED = raw(CHANNEL["channel_params"])
POLICY = ParamsPolicy(PARAMS.chain_hash)
P2A = raw("51024e73")


def _with(**changes: object) -> ChannelParams:
    return msgspec.structs.replace(PARAMS, **changes)


def _with_keys(side: Side, **changes: object) -> ChannelParams:
    block = msgspec.structs.replace(PARAMS.keys(side), **changes)
    return _with(**{f"keys_{side.name.lower()}": block})


def _patched(offset: int, patch: bytes) -> bytes:
    return ENCODED[:offset] + patch + ENCODED[offset + len(patch) :]


def test_channel_params_of_the_vectors() -> None:
    """The 516 bytes, their fields and everything that follows from them."""
    fields = ("version", "profile", "capacity", "T", "static_feerate", "reserve_sat", "flags")
    found = (1, PARAMS.profile, PARAMS.capacity, PARAMS.challenge_period, PARAMS.static_feerate)

    assert tuple(CHANNEL[name] for name in fields) == (*found, PARAMS.reserve_sat, PARAMS.flags)
    assert ENCODED == PARAMS.encode()
    assert CHANNEL["chain_hash"] == PARAMS.chain_hash.hex()
    assert parse_outpoint(CHANNEL["funding_outpoint"]) == PARAMS.funding_outpoint
    assert CHANNEL["channel_id"] == PARAMS.channel_id.hex()
    assert CHANNEL["proposal_id"] == PARAMS.proposal_id.hex()
    assert CHANNEL["mask48"] == f"{PARAMS.mask48:012x}"
    assert (CHANNEL["F_c"], CHANNEL["contest_value"]) == (PARAMS.commitment_fee, PARAMS.contest_value)


@pytest.mark.parametrize("side", list(Side))
def test_key_blocks_of_the_vectors(side: Side) -> None:
    """The key blocks hold the parties' public keys and payouts."""
    party, block = load("keys")[side.name], PARAMS.keys(side)
    points = [party[role]["pk"] for role in ("fund", "rev", "htlc")]

    assert points == [block.fund.hex(), block.rev.hex(), block.htlc.hex()]
    assert (party["settle_xonly"], party["auth_xonly"]) == (block.settle.hex(), block.auth.hex())
    assert party["payout_spk"] == block.payout.hex()
    assert block == KeyBlock.decode(block.encode())


def test_the_proposal_id_does_not_depend_on_the_funding_outpoint() -> None:
    """A proposal has the same name before and after its funding is known; the channel id differs."""
    proposal = PARAMS.with_funding(NULL_TXID, UNKNOWN_VOUT)

    assert PARAMS.proposal_id == proposal.proposal_id
    assert PARAMS.channel_id != proposal.channel_id
    assert (True, False) == (PARAMS.is_funding_known, proposal.is_funding_known)


def test_f05_swapping_the_sides_changes_the_name_but_no_script() -> None:
    """F05: A and B swapped give the same funding script and mask, and another channel id."""
    swapped = _with(keys_a=PARAMS.keys_b, keys_b=PARAMS.keys_a)

    assert funding_output(PARAMS).spk == funding_output(swapped).spk
    assert PARAMS.mask48 == swapped.mask48
    assert PARAMS.channel_id != swapped.channel_id


def test_the_channel_of_the_vectors_is_accepted() -> None:
    """A channel that follows all rules passes."""
    check_params(PARAMS, POLICY)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (_with(chain_hash=bytes(32)), "network"),
        (_with(capacity=9_999), "capacity"),
        (_with(capacity=100_000_001), "capacity"),
        (_with(challenge_period=0), "challenge period"),
        (_with(challenge_period=65_536), "challenge period"),
        (_with(static_feerate=999), "static_feerate"),
        (_with(static_feerate=50_001), "static_feerate"),
        (_with(reserve_sat=1_000_001), "reserve_sat"),
        (_with(capacity=572), "fee of a commitment"),
        (_with(flags=4), "htlc_presigned"),
        (_with(flags=8), "reserved bits"),
        (_with(flags=16), "reserved bits"),
        (_with(flags=2**31), "reserved bits"),
        (_with(profile=1, flags=1), "rescue_leaf needs taproot"),
        (_with(profile=2), "profile 2"),
        (_with_keys(Side.A, payout=P2A), "P2A"),
        (_with_keys(Side.B, payout=b"\x76\xa9\x14" + bytes(20) + b"\x88\xac"), "witness program"),
        (_with_keys(Side.A, rev=PARAMS.keys_a.fund), "rev_A repeats fund_A"),
        (_with_keys(Side.B, settle=PARAMS.keys_a.rev[1:]), "settle_B repeats rev_A"),
        (_with_keys(Side.B, htlc=b"\x02" + PARAMS.keys_b.fund[1:]), "htlc_B repeats fund_B"),
        (_with_keys(Side.A, fund=b"\x02" + b"\xff" * 32), "fund_A is not"),
        (_with_keys(Side.B, htlc=b"\x04" + PARAMS.keys_b.htlc[1:]), "htlc_B is not"),
        (_with_keys(Side.A, auth=b"\xff" * 32), "auth_A is not"),
        (_with_keys(Side.B, settle=b"\xff" * 32), "settle_B is not"),
    ],
)
def test_forbidden_constants_are_refused_by_name(params: ChannelParams, message: str) -> None:
    """Each rule of the protocol has its own refusal that names the field."""
    with pytest.raises(InvalidParams, match=message):
        check_params(params, POLICY)


def test_policies_narrow_the_rules() -> None:
    """An installation may want longer challenge periods than the protocol."""
    with pytest.raises(InvalidParams, match="challenge period 144"):
        check_params(PARAMS, ParamsPolicy(PARAMS.chain_hash, min_challenge_period=145))


@pytest.mark.parametrize(
    "encoded",
    [ENCODED[:-1], ENCODED + b"\x00", _patched(0, b"\x02"), _patched(515, b"\x01"), _patched(267, b"\x2b")],
    ids=["short", "long", "version", "padding", "script length"],
)
def test_constants_of_a_wrong_form_are_refused(encoded: bytes) -> None:
    """Wrong lengths, versions and padding cannot be read."""
    with pytest.raises(MalformedInput):
        ChannelParams.decode(encoded)


@pytest.mark.parametrize(
    "encoded",
    [
        _patched(1, b"\x02"),
        _patched(78, b"\x00\x00"),
        _patched(84, b"\xf1"),
        _patched(100, b"\x08"),
        _patched(80, b"\x00\x00"),
    ],
    ids=["profile", "challenge period", "anchor", "flags", "feerate"],
)
def test_constants_out_of_range_are_refused_on_reading(encoded: bytes) -> None:
    """Values that no channel may have are refused when they are read."""
    with pytest.raises(InvalidParams):
        ChannelParams.decode(encoded)


@pytest.mark.parametrize("changes", [{"capacity": -1}, {"funding_txid": bytes(31)}, {"challenge_period": 2**16}])
def test_constants_that_do_not_fit_their_field_are_not_encoded(changes: dict[str, object]) -> None:
    """Encoding never truncates."""
    with pytest.raises(MalformedInput):
        _with(**changes).encode()


@pytest.mark.parametrize(("capacity", "reserve"), [(20_000, 1660), (166_000, 1660), (166_100, 1661), (10**8, 10**6)])
def test_default_reserve(capacity: int, reserve: int) -> None:
    """The reserve is one percent, at least 1,660 sat."""
    assert reserve == default_reserve(capacity)


@pytest.mark.parametrize(
    ("capacity", "blocks"), [(20_000, 144), (1_198_372, 144), (16_777_215, 2016), (10**8, 2016), (8_388_608, 1008)]
)
def test_default_challenge_period(capacity: int, blocks: int) -> None:
    """The challenge period grows with the capacity between one day and two weeks."""
    assert blocks == default_challenge_period(capacity)


@pytest.mark.parametrize(
    "spk",
    ["0014" + "00" * 20, "0020" + "00" * 32, "5120" + "00" * 32, "51020000", "6028" + "00" * 40],
)
def test_witness_programs_may_be_paid(spk: str) -> None:
    """Every witness program of at most 42 bytes is a payout."""
    check_payout_script(raw(spk))

    assert raw(spk) == read_spk_field(spk_field(raw(spk)))


@pytest.mark.parametrize(
    "spk",
    [
        "",
        "51",
        "5101ff",
        "51024e73",
        "0015" + "00" * 21,
        "5129" + "00" * 41,
        "5020" + "00" * 32,
        "6120" + "00" * 32,
        "512000",
    ],
)
def test_other_scripts_may_not_be_paid(spk: str) -> None:
    """Keyless, legacy and unknown scripts are no payout."""
    with pytest.raises(InvalidParams):
        check_payout_script(raw(spk))


def test_display_of_the_funding_outpoint_is_reversed() -> None:
    """The txid of the vectors reads the same both ways, so a changed one shows the order."""
    changed = PARAMS.with_funding(bytes(31) + b"\x01", 3)

    assert "01" + "00" * 31 == display(changed.funding_outpoint[:32])
    assert 3 == changed.funding_outpoint[32]
