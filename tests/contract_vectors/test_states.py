"""Headers and signatures of the seven states of the vectors, byte for byte."""

import msgspec
import pytest

from domain.chain import display
from domain.contract.conditions import Condition, decode_conditions, encode_conditions
from domain.contract.params import ChannelParams
from domain.contract.state import (
    PreviousState,
    StateHeader,
    StateSignatures,
    build_header,
    check_state,
    onchain_state_hash,
    sign_state,
    state_data_hash,
    state_transactions,
    verify_complete_state,
    verify_state_signatures,
)
from domain.errors import InvalidSignature, InvalidState, MalformedInput
from domain.units import MAX_SEQUENCE, Side
from tests.contract_vectors.load import (
    PARAMS,
    SECRETS,
    ZERO,
    conditions_of,
    header_of,
    load,
    points,
    raw,
    state_vector,
)

STATES = range(7)
HEADER = raw(state_vector(5)["state_header"])


def _previous(sequence: int) -> PreviousState | None:
    return PreviousState.of(header_of(sequence - 1)) if sequence else None


def _signatures(sequence: int, side: Side) -> StateSignatures:
    vector = state_vector(sequence)["signatures"][side.name]
    return StateSignatures(*(raw(vector[name]) for name in ("state", "settle_A", "settle_B", "commit_peer")))


def _build(params: ChannelParams, sequence: int, conditions: list[Condition], prev_hash: bytes) -> StateHeader:
    vector = state_vector(sequence)
    balances, data = (vector["balance_A"], vector["balance_B"]), raw(vector["state_data"])
    return build_header(params, sequence, balances, conditions, data, prev_hash, ZERO, *points(sequence))


@pytest.mark.parametrize("sequence", STATES)
def test_headers_of_the_vectors(sequence: int) -> None:
    """A header built from balances, conditions and points is that of the vectors, and its hash too."""
    vector, previous = state_vector(sequence), _previous(sequence)
    header = _build(PARAMS, sequence, conditions_of(vector), previous.state_hash if previous else ZERO)

    assert vector["state_header"] == header.encode().hex()
    assert vector["state_hash"] == header.state_hash.hex()
    assert header == StateHeader.decode(raw(vector["state_header"]))


@pytest.mark.parametrize("sequence", STATES)
def test_txids_of_the_vectors(sequence: int) -> None:
    """The header names the four transactions of the vectors."""
    vector, header = state_vector(sequence), header_of(sequence)

    assert [vector[f"commit_txid_{side.name}"] for side in Side] == [display(header.commit_txid(s)) for s in Side]
    assert [vector[f"settle_txid_{side.name}"] for side in Side] == [display(header.settle_txid(s)) for s in Side]


@pytest.mark.parametrize("sequence", STATES)
def test_states_of_the_vectors_follow_each_other(sequence: int) -> None:
    """Each state is a valid successor of the one before."""
    vector = state_vector(sequence)

    check_state(PARAMS, header_of(sequence), conditions_of(vector), raw(vector["state_data"]), _previous(sequence))


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("sequence", STATES)
def test_signatures_of_the_vectors(sequence: int, side: Side) -> None:
    """All four signatures of a side are reproduced and accepted."""
    header, conditions, pair = header_of(sequence), conditions_of(state_vector(sequence)), points(sequence)
    signatures = sign_state(PARAMS, header, conditions, side, SECRETS[side], pair, ZERO)

    assert _signatures(sequence, side) == signatures
    assert signatures == StateSignatures.decode(signatures.encode())
    verify_state_signatures(PARAMS, header, conditions, side, signatures, pair)


@pytest.mark.parametrize("name", ["state", "settle_A", "settle_B", "commit_peer"])
@pytest.mark.parametrize("side", list(Side))
def test_f08_a_wrong_signature_is_named(side: Side, name: str) -> None:
    """F08: each of the four signatures is checked, and the refusal says which one fails."""
    good = _signatures(6, side)
    wrong = msgspec.structs.replace(good, **{name.lower(): bytes(63) + b"\x01"})

    with pytest.raises(InvalidSignature, match=f"signature {name} of {side.name}"):
        verify_state_signatures(PARAMS, header_of(6), conditions_of(state_vector(6)), side, wrong, points(6))


@pytest.mark.parametrize("name", ["state", "settle_A", "settle_B", "commit_peer"])
@pytest.mark.parametrize("side", list(Side))
def test_f08_one_wrong_signature_among_eight_is_named(side: Side, name: str) -> None:
    """F08: a complete state is refused for each of its eight signatures, with the same words."""
    pair = [_signatures(6, Side.A), _signatures(6, Side.B)]
    pair[side] = msgspec.structs.replace(pair[side], **{name.lower(): bytes(63) + b"\x01"})

    with pytest.raises(InvalidSignature, match=f"signature {name} of {side.name}"):
        verify_complete_state(PARAMS, header_of(6), conditions_of(state_vector(6)), (pair[0], pair[1]), points(6))


@pytest.mark.parametrize("sequence", STATES)
def test_the_eight_signatures_of_the_vectors(sequence: int) -> None:
    """A complete state of the vectors is accepted as a whole."""
    pair = (_signatures(sequence, Side.A), _signatures(sequence, Side.B))

    verify_complete_state(PARAMS, header_of(sequence), conditions_of(state_vector(sequence)), pair, points(sequence))


def test_signatures_of_the_other_side_are_refused() -> None:
    """What A signed does not count for B."""
    with pytest.raises(InvalidSignature):
        verify_state_signatures(PARAMS, header_of(5), [], Side.B, _signatures(5, Side.A), points(5))


@pytest.mark.parametrize("field", ["commit_txid_a", "commit_txid_b", "settle_txid_a", "settle_txid_b"])
def test_a_header_must_name_the_rebuilt_transactions(field: str) -> None:
    """A header with another txid is refused before any signature is made or read."""
    header = msgspec.structs.replace(header_of(5), **{field: ZERO})

    with pytest.raises(InvalidState, match=field[:-1]):
        state_transactions(PARAMS, header, [], points(5))


def test_records_of_the_vectors() -> None:
    """Condition records are the bytes of the vectors, in order, and read back."""
    vector = state_vector(6)
    expected = "".join(entry["record"] for entry in vector["conds"])
    conditions = conditions_of(vector)

    assert expected == encode_conditions(reversed(conditions)).hex()
    assert tuple(conditions) == decode_conditions(raw(expected))


def test_onchain_state_of_the_vectors() -> None:
    """With flag onchain_state the settlement carries the hash of the header without settlement txids."""
    vector = load("variants")["onchain_state_variant"]
    params = msgspec.structs.replace(PARAMS, flags=vector["flags"])
    header = _build(params, 5, [], raw(vector["prev_state_hash"]))
    built = state_transactions(params, header, [], points(5))
    blank = msgspec.structs.replace(header, settle_txid_a=ZERO, settle_txid_b=ZERO)

    assert vector["header_with_zero_settle_txids"] == blank.encode().hex()
    assert vector["onchain_hash"] == onchain_state_hash(header).hex() == onchain_state_hash(blank).hex()
    assert vector["settle_A_5_nowitness"] == built.settlements[0].serialize(witness=False).hex()
    assert vector["settle_A_5_txid"] == display(header.settle_txid_a)
    assert vector["onchain_hash"] == built.settlements[0].outputs[2].spk[2:].hex()


def test_states_with_flags_are_signed_and_verified() -> None:
    """Both flags together: headers, signatures and rules work as without them."""
    params = msgspec.structs.replace(PARAMS, flags=3)
    conditions = conditions_of(state_vector(6))
    header = _build(params, 6, conditions, ZERO)
    signatures = sign_state(params, header, conditions, Side.A, SECRETS[Side.A], points(6), ZERO)

    verify_state_signatures(params, header, conditions, Side.A, signatures, points(6))
    check_state(params, header, conditions, None, PreviousState(5, ZERO, 600_000, 400_000, ZERO))


def test_state_data_has_a_hash_even_if_empty() -> None:
    """Empty state data have the hash of no bytes, not zeros."""
    assert state_data_hash(b"") == header_of(0).state_data_hash
    assert state_data_hash(b"") != ZERO


@pytest.mark.parametrize(
    "damaged",
    [
        HEADER[:-1],
        HEADER + b"\x00",
        b"SCT2" + HEADER[4:],
        HEADER[:4] + b"\x02" + HEADER[5:],
        HEADER[:5] + b"\x01" + HEADER[6:],
        HEADER[:40] + (MAX_SEQUENCE + 1).to_bytes(8, "little") + HEADER[48:],
    ],
    ids=["short", "long", "magic", "version", "flags", "sequence"],
)
def test_damaged_headers_are_refused(damaged: bytes) -> None:
    """Only version 1 with flags 0 and a possible number is a header."""
    with pytest.raises(MalformedInput):
        StateHeader.decode(damaged)


@pytest.mark.parametrize("changes", [{"balance_a": -1}, {"seq": 2**64}, {"app_id": bytes(31)}, {"n_cond": 65_536}])
def test_headers_are_never_truncated(changes: dict[str, object]) -> None:
    """A value that does not fit its field is refused on writing."""
    with pytest.raises(MalformedInput):
        msgspec.structs.replace(header_of(5), **changes).encode()


def test_signatures_have_fixed_lengths() -> None:
    """A set of signatures has 256 bytes, each of them 64."""
    with pytest.raises(MalformedInput):
        StateSignatures.decode(bytes(255))
    with pytest.raises(MalformedInput):
        StateSignatures(bytes(64), bytes(64), bytes(64), bytes(65)).encode()
