"""Registrations, states and revocations that must be refused: the problem says why, and nothing is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from domain.events import AlertKind, AlertRaised, EquivocationFound
from domain.units import Side
from tests.support.calls import assert_problem, post
from tests.support.parties import Pair, htlc, open_pair
from tests.support.towers import Bench
from watchtower.wire.hexes import to_plain

OFF_CURVE = "02" + "ff" * 32


Body = dict[str, Any]


def with_params(change: Callable[[bytearray], object]) -> Callable[[Pair, Body], Body]:
    """A registration whose 516 bytes were changed."""

    def altered(pair: Pair, body: Body) -> Body:
        raw = bytearray.fromhex(body["params"])
        change(raw)
        return {**body, "params": raw.hex()}

    return altered


def field(name: str, value: object) -> Callable[[Pair, Body], Body]:
    """A registration with another value in one field."""
    return lambda pair, body: {**body, name: value}


def in_state(name: str, value: object) -> Callable[[Pair, Body], Body]:
    """A registration with another value in one field of its state."""
    return lambda pair, body: {**body, "state": {**body["state"], name: value}}


def set_bytes(start: int, raw: bytes) -> Callable[[bytearray], object]:
    """Overwrite a part of the constants."""
    return lambda params: params.__setitem__(slice(start, start + len(raw)), raw)


REGISTRATION_FAULTS: dict[str, tuple[Callable[[Pair, Body], Body], int, str, str]] = {
    "hex": (field("params", "zz" * 516), 400, "malformed", "$.params"),
    "odd hex": (field("params", "0" * 1031), 400, "malformed", "hexadecimal"),
    "upper case": (field("sweep_spk", "AB"), 400, "malformed", "lower-case"),
    "short params": (field("params", "00" * 515), 400, "malformed", "516 bytes"),
    "version": (with_params(set_bytes(0, b"\x02")), 400, "malformed", "version"),
    "missing field": (lambda pair, body: {k: v for k, v in body.items() if k != "state"}, 400, "malformed", "state"),
    "unknown field": (field("note", "hi"), 400, "malformed", "note"),
    "side": (field("own_side", "C"), 400, "malformed", "own_side"),
    "index": (field("channel_index", -1), 400, "malformed", "channel_index"),
    "no object": (lambda pair, body: [body], 400, "malformed", "object"),
    "profile 2": (with_params(set_bytes(1, b"\x02")), 422, "invalid-params", "profile 2"),
    "network": (with_params(set_bytes(2, bytes(32))), 422, "invalid-params", "network"),
    "capacity": (with_params(set_bytes(70, (5_000).to_bytes(8, "little"))), 422, "invalid-params", "capacity"),
    "period": (with_params(set_bytes(78, bytes(2))), 422, "invalid-params", "challenge period"),
    "anchor": (with_params(set_bytes(84, bytes(8))), 422, "invalid-params", "anchor"),
    "flags": (with_params(set_bytes(100, b"\x10")), 422, "invalid-params", "flags"),
    "key off the curve": (with_params(set_bytes(104, bytes.fromhex(OFF_CURVE))), 422, "invalid-params", "fund_A"),
    "key twice": (
        lambda pair, body: with_params(set_bytes(104, pair.params.keys_b.fund))(pair, body),
        422,
        "invalid-params",
        "repeats",
    ),
    "unknown funding": (
        with_params(set_bytes(34, bytes(32) + b"\xff" * 4)),
        422,
        "invalid-params",
        "funding outpoint",
    ),
    "sweep script": (field("sweep_spk", "76a914" + "00" * 20 + "88ac"), 422, "invalid-params", "witness program"),
    "sweep to P2A": (field("sweep_spk", "51024e73"), 422, "invalid-params", "P2A"),
    "secret of another key": (field("revocation_secret", "07" * 32), 422, "invalid-secret", "rev key"),
    "secret zero": (field("revocation_secret", "00" * 32), 422, "invalid-secret", "rev key"),
    "own point off the curve": (
        lambda pair, body: {**body, "own_points": [body["own_points"][0], OFF_CURVE]},
        400,
        "malformed",
        "point",
    ),
    "their point off the curve": (
        lambda pair, body: {**body, "counterparty_points": [OFF_CURVE, OFF_CURVE]},
        400,
        "malformed",
        "point",
    ),
    "upload signature": (field("upload_sig", "00" * 64), 422, "invalid-signature", "upload_sig"),
    "header length": (in_state("header", "00" * 319), 400, "malformed", "$.state.header"),
    "header magic": (in_state("header", "00" * 320), 400, "malformed", "SCT1"),
    "state data": (in_state("state_data", "00"), 422, "invalid-state", "state_data_hash"),
    "own point of the state": (in_state("own_point", OFF_CURVE), 400, "malformed", "own_point"),
    "giant state data": (in_state("state_data", "00" * 65_537), 400, "malformed", "at most"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", REGISTRATION_FAULTS)
async def test_bad_registrations(tower: Bench, http: httpx.AsyncClient, pair: Pair, fault: str) -> None:
    """Each fault has its own typed refusal; log and keystore stay as they were."""
    change, status, slug, words = REGISTRATION_FAULTS[fault]
    tower.fund(pair)

    answer = await post(http, "/v1/channels", change(pair, to_plain(pair.registration(Side.B))))

    assert_problem(answer, status, slug, words)
    assert tower.store.last_id() == 1
    assert tower.keystore.get(pair.params.proposal_id) is None


@pytest.mark.asyncio
@pytest.mark.parametrize("side", ["A", "B"])
@pytest.mark.parametrize("name", ["state", "settle_A", "settle_B", "commit_peer"])
async def test_every_signature_of_state_zero_counts(
    tower: Bench, http: httpx.AsyncClient, pair: Pair, side: str, name: str
) -> None:
    """Any one of the eight signatures wrong: refused, and the refusal names it."""
    tower.fund(pair)
    body = to_plain(pair.registration(Side.B))
    body["state"]["signatures"][side][name] = "00" * 64

    answer = await post(http, "/v1/channels", body)

    assert_problem(answer, 422, "invalid-signature", name, f"of {side}")
    assert tower.store.last_id() == 1


@pytest.mark.asyncio
async def test_another_registration_of_the_same_channel(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """The first registration stands."""
    name = tower.registered(pair)
    stored = tower.store.last_id()

    answer = await post(http, "/v1/channels", pair.registration(Side.A))

    assert_problem(answer, 409, "channel-exists", "first registration stands")
    assert tower.store.last_id() == stored
    assert (await http.get(f"/v1/channels/{name}")).json()["own_side"] == "B"


@pytest.mark.asyncio
async def test_small_channels_are_taken_with_a_warning(tower: Bench, http: httpx.AsyncClient) -> None:
    """Between threshold and recommendation the answer warns."""
    pair = open_pair(balances=(12_000, 3_000), challenge_period=100)
    tower.fund(pair)

    created = await post(http, "/v1/channels", pair.registration(Side.B))

    capacity, period = created.json()["warnings"]
    assert "15000 sat is below 20000" in capacity
    assert "100 is below 144" in period


STATE_FAULTS: dict[str, tuple[Callable[[Pair], object], int, str, str]] = {
    "gap": (
        lambda pair: pair.forged_update(Side.B, (400_000, 600_000), sequence=3),
        409,
        "sequence-gap",
        "2 comes next",
    ),
    "sum": (lambda pair: pair.forged_update(Side.B, (400_000, 500_000)), 422, "invalid-state", "add up"),
    "reserve": (lambda pair: pair.forged_update(Side.B, (999_000, 1_000)), 422, "invalid-state", "reserve"),
    "other application": (
        lambda pair: pair.forged_update(Side.B, (499_000, 501_000), app_id=b"\x01" * 32),
        422,
        "invalid-state",
        "app_id",
    ),
    "other history": (
        lambda pair: pair.forged_update(Side.B, (499_000, 501_000), prev_state_hash=b"\x01" * 32),
        422,
        "invalid-state",
        "prev_state_hash",
    ),
    "dust": (
        lambda pair: pair.forged_update(
            Side.B, (498_000, 496_600), conditions=[htlc(Side.A, n, 300, 900_000) for n in range(18)]
        ),
        422,
        "invalid-state",
        "below dust",
    ),
    "signature": (
        lambda pair: {
            **to_plain(body := pair.forged_update(Side.B, (499_000, 501_000))),
            "state": spoiled_signature(to_plain(body)["state"]),
        },
        422,
        "invalid-signature",
        "settle_B of A",
    ),
    "secret of another point": (
        lambda pair: {**to_plain(pair.forged_update(Side.B, (499_000, 501_000))), "revoked_secret": "07" * 32},
        422,
        "invalid-secret",
        "point",
    ),
    "next point off the curve": (
        lambda pair: {**to_plain(pair.forged_update(Side.B, (499_000, 501_000))), "next_point": OFF_CURVE},
        400,
        "malformed",
        "next_point",
    ),
    "secret without point": (
        lambda pair: {**to_plain(pair.forged_update(Side.B, (499_000, 501_000))), "next_point": None},
        400,
        "malformed",
        "both or none",
    ),
    "descriptor condition": (
        lambda pair: with_condition(pair, {"type": 2, "descriptor": "tr(00)"}),
        422,
        "invalid-state",
        "cannot be read as a descriptor",
    ),
    "conditions out of order": (
        lambda pair: with_condition(pair, {"id": 2}, {"id": 1}),
        400,
        "malformed",
        "ascend",
    ),
}


def spoiled_signature(state: Body) -> Body:
    """The state with one of its eight signatures cleared."""
    signatures = state["signatures"]
    return {**state, "signatures": {**signatures, "A": {**signatures["A"], "settle_B": "00" * 64}}}


def with_condition(pair: Pair, *changes: Body) -> Body:
    """An upload with conditions that nobody signed."""
    record = {"type": 0, "id": 1, "expiry": 900_000, "amount": 1_000, "hash": "00" * 32}
    body = to_plain(pair.forged_update(Side.B, (499_000, 501_000)))
    body["state"]["conditions"] = [{**record, **change} for change in changes]
    return dict(body)


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", STATE_FAULTS)
async def test_bad_states(tower: Bench, http: httpx.AsyncClient, pair: Pair, fault: str) -> None:
    """F06, F07, F09 and more, signed by both and still refused; the log stays as it was."""
    make, status, slug, words = STATE_FAULTS[fault]
    name = tower.registered(pair)
    pair.update()
    await post(http, f"/v1/channels/{name}/states", pair.update_request(Side.B, 1))
    stored = tower.store.last_id()

    answer = await post(http, f"/v1/channels/{name}/states", make(pair))

    assert_problem(answer, status, slug, words)
    assert tower.store.last_id() == stored


@pytest.mark.asyncio
async def test_f06_second_content_for_a_stored_number(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """Another content for a stored number is refused, also for a replaced one; its evidence is stored once."""
    name = tower.registered(pair)
    second = pair.forged_update(Side.B, (400_000, 600_000))
    pair.updates(3)
    await post(http, f"/v1/channels/{name}/states", pair.update_request(Side.B, 1))
    first = await post(http, f"/v1/channels/{name}/states", second)
    found, alert = [each.envelope.payload for each in tower.store.read_log(tower.store.last_id() - 2, 2)]

    assert_problem(first, 409, "equivocation")
    assert found == EquivocationFound(
        recorded_at=found.recorded_at,
        sequence=1,
        stored_state_hash=pair.state(1).content.state_hash,
        offered_header=bytes(second.state.header),
        offered_sig=bytes(second.state.signatures.a.state),
    )
    assert isinstance(alert, AlertRaised)
    assert alert.kind is AlertKind.EQUIVOCATION
    for sequence in (2, 3):
        await post(http, f"/v1/channels/{name}/states", pair.update_request(Side.B, sequence))
        stored = tower.store.last_id()
        answer = await post(http, f"/v1/channels/{name}/states", second)
        assert_problem(answer, 409, "equivocation")
        assert tower.store.last_id() == stored


@pytest.mark.asyncio
async def test_a_forged_second_content_leaves_no_trace(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """Without the counterparty's signature a second content proves nothing: refused, and nothing is stored."""
    name = tower.registered(pair)
    second = to_plain(pair.forged_update(Side.B, (400_000, 600_000)))
    pair.update()
    await post(http, f"/v1/channels/{name}/states", pair.update_request(Side.B, 1))
    stored = tower.store.last_id()
    second["state"]["signatures"]["A"]["state"] = "11" * 64

    answer = await post(http, f"/v1/channels/{name}/states", second)

    assert_problem(answer, 409, "equivocation")
    assert tower.store.last_id() == stored


@pytest.mark.asyncio
async def test_an_own_secret_is_not_taken(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """The release of an own state is a number; the secret itself is refused."""
    name = tower.registered(pair)
    pair.update()
    await post(http, f"/v1/channels/{name}/states", pair.update_request(Side.B, 1))
    body = {**to_plain(pair.release_request(Side.B, 0)), "secret": pair.secret(Side.B, 0).hex()}
    stored = tower.store.last_id()

    answer = await post(http, f"/v1/channels/{name}/revocations", body)

    assert_problem(answer, 422, "refused", "must not be uploaded")
    assert tower.store.last_id() == stored


@pytest.mark.asyncio
async def test_f10_secret_that_contradicts_the_shachain(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """A revocation that fits no earlier secret is refused."""
    name = tower.registered(pair)
    pair.updates(2)
    await post(http, f"/v1/channels/{name}/states", pair.update_request(Side.B, 1))
    body = {"party": "A", "sequence": 0, "secret": "07" * 32, "next_point": pair.point(Side.A, 2).hex()}
    stored = tower.store.last_id()

    answer = await post(http, f"/v1/channels/{name}/revocations", body)

    assert_problem(answer, 422, "invalid-secret", "secret is unique")
    assert tower.store.last_id() == stored


@pytest.mark.asyncio
async def test_unknown_and_ambiguous_names(tower: Bench, http: httpx.AsyncClient, pair: Pair) -> None:
    """A channel that is not here is 404 everywhere; what is no name is 400."""
    tower.registered(pair)
    pair.update()
    upload = pair.update_request(Side.B, 1)
    unknown = "00" * 32

    assert_problem(await http.get(f"/v1/channels/{unknown}"), 404, "unknown-channel")
    assert_problem(await http.get("/v1/channels/0000"), 404, "unknown-channel")
    assert_problem(await http.get(f"/v1/channels/{unknown}/funding"), 404, "unknown-channel")
    assert_problem(await post(http, f"/v1/channels/{unknown}/states", upload), 404, "unknown-channel")
    assert_problem(await http.get("/v1/channels/abc"), 400, "malformed", "4 to 64")
    assert_problem(await http.get("/v1/channels/nothexadecimal"), 400, "malformed", "4 to 64")
