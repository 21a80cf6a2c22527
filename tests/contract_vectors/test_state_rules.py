"""Which states are refused: rules 1 to 5 of protocol 5.1, and condition records."""

from typing import Any

import msgspec
import pytest

from domain.contract.conditions import (
    Condition,
    ConditionType,
    check_condition,
    cond_root,
    condition_spk,
    decode_conditions,
    descriptor_hash,
    is_trimmed,
)
from domain.contract.settlement import plan_settlement
from domain.contract.state import PreviousState, StateHeader, StatePolicy, build_header, check_state
from domain.errors import DomainError, InvalidState, MalformedInput, SequenceGap
from domain.units import MAX_SEQUENCE
from tests.contract_vectors.load import PARAMS, ZERO, header_of, points, raw, state_vector

SPK = b"\x00\x20" + bytes(32)
TEXT = "tr(99a1de0c474ad593f74eb94bb1292316bb2fde08f52e72a8f3ee49008f9a0121)"
DESCRIPTOR = Condition(ConditionType.DESCRIPTOR, 9, 0, 10_000, descriptor_hash(TEXT), TEXT, SPK)
HTLC = Condition(ConditionType.HTLC_A_TO_B, 1, 900_000, 10_000, ZERO)
RECORD = HTLC.encode()
PREVIOUS = PreviousState(4, b"\x04" * 32, 600_000, 400_000, ZERO)


def _header(balances: tuple[int, int], conditions: list[Condition] | None = None) -> StateHeader:
    return build_header(PARAMS, 5, balances, conditions or [], b"", PREVIOUS.state_hash, ZERO, *points(5))


def _check(header: StateHeader, conditions: list[Condition] | None = None, **policy: int) -> None:
    check_state(PARAMS, header, conditions or [], b"", PREVIOUS, StatePolicy(**policy))


GOOD = _header((600_000, 400_000))


def test_a_good_successor_passes() -> None:
    """The state that the refusals below are made from is accepted, with and without its data."""
    _check(GOOD)
    check_state(PARAMS, GOOD, [], None, PREVIOUS)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"seq": 4}, SequenceGap, "state 5 comes next"),
        ({"seq": 6}, SequenceGap, "state 5 comes next"),
        ({"channel_id": ZERO}, InvalidState, "another channel"),
        ({"prev_state_hash": ZERO}, InvalidState, "prev_state_hash"),
        ({"app_id": b"\x01" * 32}, InvalidState, "app_id"),
        ({"n_cond": 1}, InvalidState, "counts 1 conditions"),
        ({"cond_root": b"\x01" * 32}, InvalidState, "cond_root"),
        ({"state_data_hash": ZERO}, InvalidState, "state_data_hash"),
        ({"balance_a": 600_001}, InvalidState, "add up to 1000001"),
        ({"balance_a": -1, "balance_b": 1_000_001}, InvalidState, "negative"),
        ({"balance_a": 9_999, "balance_b": 990_001}, InvalidState, "balance A of 9999 sat is below its reserve"),
        ({"balance_a": 990_001, "balance_b": 9_999}, InvalidState, "balance B of 9999 sat is below its reserve"),
    ],
)
def test_f06_f07_bad_successors_are_refused(changes: dict[str, Any], error: type[DomainError], message: str) -> None:
    """F06, F07: gaps, foreign hashes, wrong sums, negative balances and broken reserves are named."""
    with pytest.raises(error, match=message):
        _check(msgspec.structs.replace(GOOD, **changes))


def test_a_poor_party_may_stay_as_poor_as_it_is() -> None:
    """Below its reserve a party keeps at least what it had, and not less."""
    poor = msgspec.structs.replace(PREVIOUS, balance_a=995_000, balance_b=5_000)
    same, less = _header((995_000, 5_000)), _header((995_001, 4_999))

    check_state(PARAMS, same, [], b"", poor)
    with pytest.raises(InvalidState, match="reserve of 5000"):
        check_state(PARAMS, less, [], b"", poor)


def test_state_0_may_leave_b_nothing_but_not_a() -> None:
    """A single-funded channel starts with all on A's side; the opposite is refused."""
    first = build_header(PARAMS, 0, (1_000_000, 0), [], b"", ZERO, ZERO, *points(0))
    other = build_header(PARAMS, 0, (9_999, 990_001), [], b"", ZERO, ZERO, *points(0))

    check_state(PARAMS, first, [], b"", None)
    with pytest.raises(InvalidState, match="opener must start"):
        check_state(PARAMS, other, [], b"", None)


def test_f13_no_state_follows_the_last_one() -> None:
    """F13: after 2^48-2 the channel must be closed."""
    last = msgspec.structs.replace(PREVIOUS, seq=MAX_SEQUENCE)

    with pytest.raises(SequenceGap, match="last state number"):
        check_state(PARAMS, msgspec.structs.replace(GOOD, seq=MAX_SEQUENCE + 1), [], b"", last)


def test_an_opener_that_cannot_pay_the_overhead_has_no_state() -> None:
    """The overhead is checked also where the reserve is lower."""
    params = msgspec.structs.replace(PARAMS, reserve_sat=0)
    header = msgspec.structs.replace(GOOD, channel_id=params.channel_id, balance_a=1231, balance_b=998_769)

    with pytest.raises(InvalidState, match="overhead"):
        check_state(params, header, [], b"", PREVIOUS)


def test_conditions_count_into_the_sum() -> None:
    """Balances and conditions together are the capacity; all records are counted."""
    conditions = [HTLC, msgspec.structs.replace(HTLC, type=1, amount=400)]

    _check(_header((590_000, 399_600), conditions), conditions)
    with pytest.raises(InvalidState, match=r"add up to 1010400 sat, the capacity is 1000000 sat; \d pending hold"):
        _check(_header((600_000, 400_000), conditions), conditions)


def test_limits_of_the_policy() -> None:
    """Too many conditions, too much dust and too much data are refused."""
    dust = [msgspec.structs.replace(HTLC, id=i, amount=329) for i in range(16)]
    header = _header((600_000 - 16 * 329, 400_000), dust)

    with pytest.raises(InvalidState, match="16 conditions are above the limit of 15"):
        _check(header, dust, max_conditions=15)
    with pytest.raises(InvalidState, match="5264 sat, above the limit of 5000"):
        _check(header, dust)
    with pytest.raises(InvalidState, match="state data"):
        check_state(PARAMS, GOOD, [], bytes(11), PREVIOUS, StatePolicy(max_state_data=10))
    _check(header, dust, max_dust_exposure_sat=5264)


def test_a_settlement_must_fit_a_version_3_transaction() -> None:
    """227 HTLC outputs with P2TR payouts fit into 10,000 vB, 228 do not."""
    conditions = [msgspec.structs.replace(HTLC, id=i, amount=1000) for i in range(228)]
    header = _header((372_000, 400_000), conditions)

    assert plan_settlement(PARAMS, 373_000, 400_000, conditions[:227]).vsize <= 10_000
    with pytest.raises(InvalidState, match="above 10000"):
        _check(header, conditions, max_conditions=300)


def test_a_condition_may_appear_once() -> None:
    """(type, id) is unique in a state."""
    twice = [HTLC, msgspec.structs.replace(HTLC, amount=20_000)]

    with pytest.raises(InvalidState, match="same type and id"):
        _check(_header((570_000, 400_000), twice), twice)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": 3}, "type must be"),
        ({"amount": 0}, "at least 1 sat"),
        ({"expiry": 0}, "expires at a height"),
        ({"expiry": 500_000_000}, "expires at a height"),
        ({"type": 2}, "expiry 0"),
    ],
)
def test_bad_conditions_are_refused(changes: dict[str, int], message: str) -> None:
    """Unknown types, empty amounts and expiries out of range are named."""
    with pytest.raises(InvalidState, match=message):
        check_condition(msgspec.structs.replace(HTLC, **changes))


@pytest.mark.parametrize(
    "records",
    [
        RECORD[:-1],
        RECORD[:1] + b"\x01" + RECORD[2:],
        RECORD[:-1] + b"\x01",
        RECORD + RECORD,
        msgspec.structs.replace(HTLC, id=2).encode() + RECORD,
    ],
    ids=["length", "reserved", "padding", "twice", "order"],
)
def test_damaged_records_are_refused(records: bytes) -> None:
    """Wrong lengths, reserved bytes and a wrong order cannot be read."""
    with pytest.raises(MalformedInput):
        decode_conditions(records)


def test_records_are_never_truncated() -> None:
    """A field that does not fit is refused on writing."""
    with pytest.raises(MalformedInput):
        msgspec.structs.replace(HTLC, id=65_536).encode()
    with pytest.raises(MalformedInput):
        msgspec.structs.replace(HTLC, hash=bytes(31)).encode()


def test_the_root_of_no_conditions_is_zero() -> None:
    """No condition has zeros as root, and the order of arguments does not matter."""
    pair = [HTLC, msgspec.structs.replace(HTLC, id=2)]

    assert ZERO == cond_root([])
    assert cond_root(pair) == cond_root(pair[::-1]) != ZERO


def test_resolved_descriptor_conditions_are_paid() -> None:
    """A descriptor with the script that an engine derived becomes an output after the HTLCs."""
    conditions = [DESCRIPTOR, HTLC]
    header = _header((580_000, 400_000), conditions)

    _check(header, conditions)
    assert SPK == condition_spk(PARAMS, DESCRIPTOR)
    assert {(0, 1): 2, (2, 9): 3} == plan_settlement(PARAMS, 580_000, 400_000, conditions).condition_vouts


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spk": None}, "descriptor engine"),
        ({"descriptor": None}, "descriptor engine"),
        ({"descriptor": TEXT[:-1]}, "not that of the descriptor"),
        ({"spk": b"\x6a\x00"}, "witness program"),
        ({"spk": raw("51024e73")}, "witness program"),
    ],
)
def test_unresolved_or_unpayable_descriptors_are_refused(changes: dict[str, Any], message: str) -> None:
    """Without an engine's script, or with a hash or script that does not fit, there is no output."""
    with pytest.raises(InvalidState, match=message):
        condition_spk(PARAMS, msgspec.structs.replace(DESCRIPTOR, **changes))


@pytest.mark.parametrize("text", ["", "tr(é)", "x" * 513, TEXT + "#abcdefgh"])
def test_descriptors_have_a_form(text: str) -> None:
    """Descriptors are ASCII, at most 512 characters, and without checksum."""
    with pytest.raises(InvalidState):
        descriptor_hash(text)


def test_trimmed_conditions_of_the_vectors() -> None:
    """Of the three conditions of state 6 the one of 329 sat has no output."""
    entries = state_vector(6)["conds"]
    conditions = decode_conditions(raw("".join(entry["record"] for entry in entries)))

    assert [False, True, False] == [is_trimmed(PARAMS, condition) for condition in conditions]
    assert header_of(6).cond_root == cond_root(conditions)
