"""Scripts, taproot outputs and descriptors."""

from typing import Any

import msgspec
import pytest

from domain.contract.descriptors import descriptor_checksum, with_checksum
from domain.contract.keys import taproot_tweak
from domain.contract.primitives import HtlcTerms
from domain.contract.scripts import contest_descriptor, dust_limit, funding_descriptor, htlc_descriptor, push_number
from domain.contract.taproot_scripts import contest_leaves, contest_output, funding_output, htlc_output
from domain.contract.taproot_tree import tap_leaf_hash, taproot_output
from domain.errors import InvalidState, MalformedInput
from domain.units import Side
from tests.contract_vectors.load import PARAMS, load, raw

CHANNEL = load("channel")
FUNDING = CHANNEL["funding"]


@pytest.mark.parametrize(
    ("internal", "leaves", "root", "tweak", "spk", "controls"),
    [case for case in load("bip341")["outputs"] if case[1]],
    ids=["leaf, odd", "leaf, even", "two leaves"],
)
def test_bip341_outputs(internal: str, leaves: list[str], root: str, tweak: str, spk: str, controls: list[str]) -> None:
    """Trees of one and two leaves give the published root, tweak, script and control blocks."""
    output = taproot_output(raw(internal), tuple(raw(leaf) for leaf in leaves))

    assert (root, spk) == (output.merkle_root.hex(), output.spk.hex())
    assert tweak == taproot_tweak(output.internal, output.merkle_root).hex()
    assert controls == [block.hex() for block in output.control_blocks]


def test_funding_output_of_the_vectors() -> None:
    """The funding output has the aggregate key, leaf, control block and script of the vectors."""
    output = funding_output(PARAMS)

    assert FUNDING["agg_xonly"] == output.internal.hex()
    assert FUNDING["leaf_F"] == output.leaf.hex()
    assert FUNDING["tapleaf_hash"] == tap_leaf_hash(output.leaf).hex() == output.merkle_root.hex()
    assert FUNDING["tweak"] == taproot_tweak(output.internal, output.merkle_root).hex()
    assert FUNDING["control_block"] == output.control_block.hex()
    assert FUNDING["spk"] == output.spk.hex()
    assert 68 == len(output.leaf)


def test_funding_descriptors_of_the_vectors() -> None:
    """Both forms of the descriptor are written as in the vectors."""
    assert FUNDING["descriptor"] == funding_descriptor(PARAMS)
    assert FUNDING["descriptor_no_musig"] == funding_descriptor(PARAMS, musig=False)


@pytest.mark.parametrize(
    ("descriptor", "checksum"),
    [
        ("raw(deadbeef)", "89f8spxm"),
        ("addr(mkmZxiEcEd8ZqjQWVZuC6so5dFMKEFpN2j)", "02wpgw69"),
        ("wpkh([d34db33f/84h/0h/0h]0279be667ef9dcbbac55a06295Ce870b07029Bfcdb2dce28d959f2815b16f81798)", "qwlqgth7"),
    ],
)
def test_descriptor_checksums(descriptor: str, checksum: str) -> None:
    """Checksums agree with published ones of BIP-380."""
    assert checksum == descriptor_checksum(descriptor)
    assert f"{descriptor}#{checksum}" == with_checksum(descriptor)


def test_descriptors_with_foreign_characters_have_no_checksum() -> None:
    """Characters outside the set are refused."""
    with pytest.raises(MalformedInput):
        descriptor_checksum("raw(é)")


@pytest.mark.parametrize("case", CHANNEL["T_encodings"], ids=lambda case: str(case["T"]))
def test_leaf_s_for_all_widths_of_the_challenge_period(case: dict[str, Any]) -> None:
    """The challenge period is pushed minimally, so leaf_S has 70 to 73 bytes."""
    (leaf,) = contest_leaves(msgspec.structs.replace(PARAMS, challenge_period=case["T"]))

    assert case["push"] == push_number(case["T"]).hex()
    assert (case["script"], case["length"]) == (leaf.hex(), len(leaf))


def test_leaves_of_the_contest_output() -> None:
    """Without the rescue flag there is leaf_S only, with it leaf_R as well."""
    rescue = msgspec.structs.replace(PARAMS, flags=1)

    assert [CHANNEL["leaf_S"]] == [leaf.hex() for leaf in contest_leaves(PARAMS)]
    assert [CHANNEL["leaf_S"], CHANNEL["leaf_R"]] == [leaf.hex() for leaf in contest_leaves(rescue)]


@pytest.mark.parametrize("name", list(load("commitments")))
def test_contest_outputs_of_the_vectors(name: str) -> None:
    """Contest outputs have the script, root, tweak and parity of the vectors."""
    vector = load("commitments")[name]
    output = contest_output(PARAMS, raw(vector["R"]))

    assert vector["contest_spk"] == output.spk.hex()
    assert vector["merkle_root"] == output.merkle_root.hex()
    assert vector["tweak"] == taproot_tweak(output.internal, output.merkle_root).hex()
    assert vector["parity"] == output.parity


def test_contest_output_with_rescue_leaf() -> None:
    """With flag rescue_leaf the output and both control blocks are those of the vectors."""
    vector = load("variants")["rescue_leaf_variant"]
    params = msgspec.structs.replace(PARAMS, flags=vector["flags"])
    output = contest_output(params, raw(load("commitments")["commit_A_5"]["R"]))

    assert vector["contest_spk_A_5"] == output.spk.hex()
    assert vector["control_block_leaf_S"] == output.control_blocks[0].hex()
    assert vector["control_block_leaf_R"] == output.control_blocks[1].hex()


def test_contest_descriptors() -> None:
    """The descriptor of the contest output names the key, both settle keys and T."""
    key = raw(load("commitments")["commit_A_5"]["R"])
    low, high = sorted((PARAMS.keys_a.settle.hex(), PARAMS.keys_b.settle.hex()))
    leaf_s = f"and_v(and_v(v:pk({low}),v:pk({high})),older(144))"
    rescue = msgspec.structs.replace(PARAMS, flags=1)

    assert f"tr({key[1:].hex()},{leaf_s})" == contest_descriptor(PARAMS, key)
    assert f"tr({key[1:].hex()},{{{leaf_s},and_v(v:pk({low}),pk({high}))}})" == contest_descriptor(rescue, key)


@pytest.mark.parametrize("case", CHANNEL["dust_limits"], ids=lambda case: case["spk"][:4])
def test_dust_limits(case: dict[str, Any]) -> None:
    """Dust limits are the constants of the protocol."""
    assert case["dust"] == dust_limit(raw(case["spk"]))


@pytest.mark.parametrize("case", CHANNEL["E_encodings"], ids=lambda case: str(case["E"]))
def test_timeout_leaves_for_all_widths_of_the_expiry(case: dict[str, Any]) -> None:
    """The expiry is pushed minimally, so the timeout leaf has 36 to 40 bytes."""
    output = htlc_output(PARAMS, HtlcTerms(Side.A, bytes(32), case["E"]))

    assert case["push"] == push_number(case["E"]).hex()
    assert (61, case["timeout_leaf_length"]) == tuple(len(leaf) for leaf in output.leaves)


@pytest.mark.parametrize("case", load("htlc")["htlc"], ids=["A to B", "B to A"])
def test_htlc_outputs_of_the_vectors(case: dict[str, Any]) -> None:
    """HTLC outputs have the internal key, leaves, root and script of the vectors."""
    offerer = Side(case["type"])
    output = htlc_output(PARAMS, HtlcTerms(offerer, raw(case["payment_hash"]), case["expiry"]))

    assert case["internal_xonly"] == output.internal.hex()
    assert [case["success_leaf"], case["timeout_leaf"]] == [leaf.hex() for leaf in output.leaves]
    assert (case["merkle_root"], case["spk"]) == (output.merkle_root.hex(), output.spk.hex())


def test_htlc_descriptor_names_hash_keys_and_expiry() -> None:
    """The descriptor of an HTLC is the miniscript of its two leaves."""
    case = load("htlc")["htlc"][0]
    receiver, offerer = PARAMS.keys_b.htlc[1:].hex(), PARAMS.keys_a.htlc[1:].hex()
    success = f"and_v(v:hash160({case['ripemd160_of_hash']}),pk({receiver}))"
    expected = f"tr({case['internal_xonly']},{{{success},and_v(v:pk({offerer}),after({case['expiry']}))}})"

    assert expected == htlc_descriptor(PARAMS, Side.A, raw(case["payment_hash"]), case["expiry"])


@pytest.mark.parametrize("expiry", [0, 500_000_000])
def test_htlcs_expire_at_heights(expiry: int) -> None:
    """Zero and values that mean a time are no expiry."""
    with pytest.raises(InvalidState):
        htlc_output(PARAMS, HtlcTerms(Side.A, bytes(32), expiry))


def test_scripts_push_no_negative_numbers() -> None:
    """A negative number has no place in a script of this contract."""
    with pytest.raises(MalformedInput):
        push_number(-1)
