"""What the oracles must not let pass: each of these was accepted once."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from domain.events import Envelope, PenaltyPrepared
from tests.simulation import oracles
from tests.simulation.case import Case, parsed
from tests.simulation.fairness import excuse
from tests.simulation.judge import Judge, Violation
from tests.simulation.schedule import open_channels
from tests.simulation.world import SimWorld
from watchtower.ports import NodeUnavailable


@pytest.fixture
def world() -> SimWorld:
    """Three channels with some states each."""
    made = SimWorld(1)
    open_channels(made)
    return made


def breached(world: SimWorld) -> Case:
    """The first revoked state of a channel stands in a block."""
    case = next(case for case in world.cases if case.revoked >= 1)
    world.miners.smuggled.append(case.channel.commitments[0])
    world.mine()
    return case


def bid_in(world: SimWorld, case: Case) -> Envelope:
    """The last bid in the log."""
    events = world.store.read_stream(case.stream)
    return next(event for event in reversed(events) if isinstance(event.payload, PenaltyPrepared))


def replayed(world: SimWorld, case: Case, *, is_full: Callable[[], bool] = lambda: False) -> Judge:
    """A judge who has seen everything in the log of a channel but its bids."""
    judge = Judge({case.stream: Case(case.channel, case.stream)}, is_full=is_full, height=lambda: world.chain.height)
    for event in world.store.read_stream(case.stream):
        if not isinstance(event.payload, PenaltyPrepared):
            judge.observe(event)
    return judge


def test_a_theft_is_not_excused_by_what_a_client_says_later(world: SimWorld) -> None:
    """The state was revoked long before; an upload in the last blocks explains nothing."""
    case = breached(world)
    world.node.trouble = NodeUnavailable("refused")
    world.mine(case.channel.period - 1)
    excuse(world, case)
    world.mine(2)

    with pytest.raises(Violation, match=r"O1.*the cheater's settlement"):
        oracles.o1_safety(world)


def test_a_secret_that_comes_too_late_excuses(world: SimWorld) -> None:
    """Nobody can use what is said when one block is left."""
    case = next(case for case in world.cases if case.newest < len(case.channel.uploads))
    world.miners.smuggled.append(case.channel.commitments[case.newest])
    world.mine(case.channel.period - 1)
    world.clean_pass()
    world.clients.reveal(world.context, case, case.newest)
    excuse(world, case)
    world.mine(3)

    oracles.o1_safety(world)
    assert {case.revoked} == case.excused


@pytest.mark.parametrize("left", [3, None])
def test_a_bid_for_other_blocks_than_are_left_is_found(world: SimWorld, left: int | None) -> None:
    """The ceiling of the last blocks is no ceiling for a penalty that has all the time."""
    case = breached(world)
    world.clean_pass()
    bid = bid_in(world, case)
    otherwise = msgspec.structs.replace(bid, payload=msgspec.structs.replace(bid.payload, remaining=left))
    replayed(world, case).observe(bid)

    with pytest.raises(Violation, match=f"O5: a bid was made for {left} blocks left"):
        replayed(world, case).observe(otherwise)


def test_a_disk_that_was_full_once_excuses_no_later_haste(world: SimWorld) -> None:
    """Only while the log takes nothing may a penalty go out that is not in it."""
    case = breached(world)
    world.clean_pass()
    payload = bid_in(world, case).payload
    assert isinstance(payload, PenaltyPrepared)
    full = iter([True, False])
    judge = replayed(world, case, is_full=lambda: next(full))
    judge.sent(payload.raw)

    with pytest.raises(Violation, match=r"O5.*before the intent was durable"):
        judge.sent(payload.raw)


def test_a_package_against_a_retreat_is_found(world: SimWorld) -> None:
    """The cheater replaced his stale commitment by the newest one: to send it again would undo that."""
    case = next(case for case in world.cases if case.revoked >= 1)
    stale, newest = case.channel.commitments[0], case.channel.commitments[case.newest]
    world.judge.packed(stale, {})
    world.judge.packed(stale, {case.funding: parsed(case.channel.commitments[1]).txid})

    with pytest.raises(Violation, match="O6: a package goes out against the commit transaction"):
        world.judge.packed(stale, {case.funding: parsed(newest).txid})


def test_a_mistake_in_the_program_is_found_in_any_pass(world: SimWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The border around a channel catches it; the schedule does not go on."""
    breached(world)

    def mistaken(_name: bytes) -> bytes | None:
        raise ValueError("nobody foresaw this")

    monkeypatch.setattr(world.keystore, "get", mistaken)

    with pytest.raises(Violation, match="O7: a mistake in the program"):
        world.look()
