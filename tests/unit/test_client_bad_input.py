"""What a program gives wrongly is refused with a typed error before anything is signed: the channel goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from domain.errors import Equivocation, InvalidState, MalformedInput
from tests.support.sdk import CONFIG, HALF, desk
from tests.support.towers import TIP
from watchtower.client import StateChannelClient, StateUpdate
from watchtower.client.ids import channel_id_of, channel_name
from watchtower.client.peer_errors import PeerRefused

pytestmark = pytest.mark.asyncio

HASH = sha256(b"\x07" * 32).hexdigest()
NEXT = (HALF - 1_000, HALF + 1_000)
NAMES = ["", "ab", "?x", "../proofs", "abcd/state", "\x00abc", "zz" * 32, "ab" * 33, None, 5]

Call = Callable[[StateChannelClient, str], Awaitable[object]]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda client, name: client.close_channel_unilateral(name, True), "sequence: a whole number"),
        (lambda client, name: client.close_channel_unilateral(name, -1), "sequence: a whole number"),
        (lambda client, name: client.close_channel_unilateral(name, "0"), "sequence: a whole number"),
        (lambda client, name: client.close_channel_unilateral(name, None), "sequence: a whole number"),
        (lambda client, name: client.close_channel_unilateral(name, 0, None), "signatures: a list of texts, or ()"),
        (
            lambda client, name: client.close_channel_unilateral(name, 0, "ab" * 64),
            "signatures: a list of texts",
        ),
        (lambda client, name: client.close_channel_unilateral(name, 0, [None] * 2), "signatures: a list of texts, got"),
        (lambda client, name: client.close_channel_cooperative(name, (HALF, HALF), fee=True), "fee: whole satoshi"),
        (lambda client, name: client.close_channel_cooperative(name, (HALF, HALF), fee=400.0), "fee: whole satoshi"),
        (lambda client, name: client.close_channel_cooperative(name, None), "final_balances: the balances of A and B"),
        (lambda client, name: client.update_state(StateUpdate(name, 1.0, NEXT)), "sequence_number: a whole number"),
        (lambda client, name: client.update_state(StateUpdate(name, True, NEXT)), "sequence_number: a whole number"),
        (lambda client, name: client.update_state(StateUpdate(name, 1, None)), "balances: the balances of A and B"),
        (lambda client, name: client.update_state(StateUpdate(name, 1, NEXT, None)), "state_data: a text or bytes"),
        (lambda client, name: client.update_state(StateUpdate(name, 1, NEXT, "\ud800")), "has no UTF-8 form"),
        (lambda client, name: client.update_state(StateUpdate(name, 1, NEXT, conditions=["x"])), "conditions: "),
        (lambda client, name: client.approve_update(StateUpdate(name, "1", NEXT)), "sequence_number: a whole number"),
        (lambda client, name: client.add_htlc(name, 1_000, HASH, 600.5), "expiry: a whole number"),
        (lambda client, name: client.challenge_state(name, "1", "00"), "sequence: a whole number"),
        (lambda client, name: client.challenge_state(name, 1, None), "proof: hexadecimal digits as a text"),
        (lambda client, name: client.respond_to_challenge(name, b"00"), "counter_proof: hexadecimal digits as a text"),
        (lambda client, name: client.verify_proof(None), "proof: hexadecimal digits as a text"),
        (lambda client, name: client.validate_transaction(None), "tx_id: hexadecimal digits as a text"),
        (lambda client, name: client.validate_transaction("00", channel_id="?"), "a channel is named by"),
    ],
)
async def test_values_of_another_kind_sign_nothing(tmp_path: Path, call: Any, words: str) -> None:
    """No commitment and no close is made of them, and the next state is."""
    async with desk(tmp_path) as at:
        channel_id = await at.open()
        with pytest.raises(MalformedInput, match=words):
            await call(at.client, channel_id)
        closing = at.alice.channels()[0].is_closing
        made = await at.client.update_state(StateUpdate(channel_id, 1, NEXT))

        assert (False, 1) == (closing, made.final_sequence)


@pytest.mark.parametrize("name", NAMES)
async def test_what_names_no_channel_reaches_no_tower(tmp_path: Path, name: Any) -> None:
    """It would become a part of an address, and ask for something else."""
    calls: list[Call] = [
        lambda client, name: client.get_channel_info(name),
        lambda client, name: client.get_channel_state(name),
        lambda client, name: client.get_funding_status(name),
        lambda client, name: client.get_liquidity(name),
        lambda client, name: client.get_timeline(name),
        lambda client, name: client.get_preimages(name),
        lambda client, name: client.get_receipt(name, 0),
        lambda client, name: client.challenge_state(name, 1, "00"),
        lambda client, name: client.respond_to_challenge(name, "00"),
        lambda client, name: client.close_channel_unilateral(name, 0),
        lambda client, name: client.close_channel_cooperative(name, (HALF, HALF)),
        lambda client, name: client.update_state(StateUpdate(name, 1, NEXT)),
    ]
    async with desk(tmp_path) as at:
        for call in calls:
            with pytest.raises(MalformedInput, match="hexadecimal digits"):
                await call(at.client, name)


@pytest.mark.parametrize(
    "close",
    [
        lambda client, name: client.close_channel_cooperative(name, (HALF, HALF)),
        lambda client, name: client.close_channel_unilateral(name, 0),
    ],
)
async def test_an_id_in_capitals_is_the_same_id(tmp_path: Path, close: Call) -> None:
    """Else the party would sign a close that the tower then refuses: a channel without updates and without a close."""
    async with desk(tmp_path) as at:
        channel_id = await at.open()
        closed: Any = await close(at.client, channel_id.upper())

        assert (channel_id, "IN_MEMPOOL") == (closed.channel_id, closed.outcome)


async def test_ids_are_read_strictly() -> None:
    """Spaces are no digits; capitals are."""
    assert b"\xab" * 32 == channel_id_of("AB" * 32)
    assert "abcd" == channel_name("ABcd")
    for wrong in ("ab " * 32, " " + "ab" * 32, "ab" * 31):
        with pytest.raises(MalformedInput):
            channel_id_of(wrong)


async def test_a_state_with_other_conditions_is_another_state(tmp_path: Path) -> None:
    """The same number, balances and data with another payment hash, or with none, are not what both signed."""
    async with desk(tmp_path) as at:
        channel_id = await at.open()
        await at.client.add_htlc(channel_id, 20_000, HASH, TIP + 500)
        channel = at.alice.channels()[0]
        signed = StateUpdate(channel_id, 1, channel.balances, conditions=channel.conditions)
        others = [replace(each, hash=b"\x11" * 32) for each in channel.conditions]

        again = await at.client.update_state(signed)
        for conditions in (others, (), [*others, *channel.conditions]):
            with pytest.raises((Equivocation, InvalidState), match="conditions"):
                await at.client.update_state(replace(signed, conditions=conditions))

        assert (True, 1) == (again.duplicate, again.sequence)


@pytest.mark.parametrize("taproot", [True, False])
async def test_a_close_that_no_node_relays_ends_no_updates(tmp_path: Path, taproot: bool) -> None:
    """The peer would refuse it, and this side would stand there with a close that it may not change any more."""
    async with desk(tmp_path, replace(CONFIG, taproot_enabled=taproot)) as at:
        channel_id = await at.open()
        with pytest.raises(InvalidState, match="a fee of 100 sat, no node relays it for less than"):
            await at.client.close_channel_cooperative(channel_id, (HALF, HALF), fee=100)
        closing = at.alice.channels()[0].is_closing
        made = await at.client.update_state(StateUpdate(channel_id, 1, NEXT))

        assert (False, 1) == (closing, made.final_sequence)


async def test_a_slip_in_the_final_balances_costs_nothing(tmp_path: Path) -> None:
    """The peer refuses what gives it less; the channel goes on, and closes with the right ones."""
    async with desk(tmp_path) as at:
        channel_id = await at.open()
        with pytest.raises(PeerRefused, match=r"the balance of [AB] is"):
            await at.client.close_channel_cooperative(channel_id, (HALF + 1, HALF - 1))
        made = await at.client.update_state(StateUpdate(channel_id, 1, NEXT))
        closed = await at.client.close_channel_cooperative(channel_id, NEXT)

        assert (1, "IN_MEMPOOL") == (made.final_sequence, closed.outcome)
