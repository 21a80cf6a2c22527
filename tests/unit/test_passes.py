"""When passes start: urgent at once, calm ones apart, retries that grow, nothing lost while one runs."""

from __future__ import annotations

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from domain.chain import OutPoint
from watchtower.watch.passes import CALM_GAP, CAPTURED_LIMIT, TOUCHED_LIMIT, UNFINISHED_GAP, Pacer, Turn, Wake

NOW = 1_000.0


def taken(wake: Wake) -> Turn:
    """What the next pass gets, without a wait."""
    turn = wake.next_turn(Pacer(idle=0.0))
    assert turn is not None
    return turn


def test_an_urgent_ring_starts_at_once() -> None:
    """Even directly after another pass."""
    pacer = Pacer(idle=15.0)
    pacer.started(NOW, urgent=False)
    assert NOW + 0.001 == pacer.due(NOW + 0.001, rung=True, urgent=True)


def test_at_most_ten_urgent_starts_in_a_second() -> None:
    """The eleventh waits until the first is a second old."""
    pacer = Pacer(idle=15.0)
    for number in range(10):
        pacer.started(NOW + number / 10, urgent=True)
    assert NOW + 1.0 == pacer.due(NOW + 0.95, rung=True, urgent=True)
    assert NOW + 1.5 == pacer.due(NOW + 1.5, rung=True, urgent=True)


def test_beyond_ten_a_second_an_urgent_ring_waits_no_longer_than_a_calm_one() -> None:
    """Ten starts in a tenth of a second do not stop the eleventh for the rest of the second."""
    pacer = Pacer(idle=15.0)
    for number in range(10):
        pacer.started(NOW + number / 100, urgent=True)
    assert NOW + 0.09 + CALM_GAP == pacer.due(NOW + 0.2, rung=True, urgent=True)


def test_an_unfinished_sweep_goes_on_soon_and_costs_no_urgent_start() -> None:
    """Its slices follow each other quickly, and a breach in between still starts at once."""
    pacer = Pacer(idle=15.0)
    for number in range(20):
        pacer.started(NOW + number / 1000, urgent=False)
    last = NOW + 0.019
    assert last + UNFINISHED_GAP == pacer.due(NOW + 0.02, rung=True, urgent=False, unfinished=True)
    assert NOW + 0.02 == pacer.due(NOW + 0.02, rung=True, urgent=True, unfinished=True)


def test_calm_rings_keep_their_distance() -> None:
    """A flood of foreign transactions causes three passes a second at most."""
    pacer = Pacer(idle=15.0)
    pacer.started(NOW, urgent=False)
    assert NOW + CALM_GAP == pacer.due(NOW + 0.01, rung=True, urgent=False)


def test_the_timer_works_without_any_ring() -> None:
    """A silent feed delays by the idle time and no longer."""
    pacer = Pacer(idle=15.0)
    pacer.started(NOW, urgent=False)
    assert NOW + 15.0 == pacer.due(NOW + 1, rung=False, urgent=False)


def test_retries_double_up_to_their_limit() -> None:
    """Half a second, doubling to 30 s; a success begins again."""
    pacer = Pacer(idle=15.0)
    delays = [pacer.failed(NOW, warming_up=False, breach_open=False, jitter=0.5) for _ in range(9)]
    pacer.succeeded()
    assert [0.5, 1, 2, 4, 8, 16, 30, 30, 30] == delays
    assert 0.5 == pacer.failed(NOW, warming_up=False, breach_open=False, jitter=0.5)


def test_an_open_breach_is_never_left_alone_for_long() -> None:
    """At most 3 s between tries while money is at stake; 1 s while the node loads."""
    pacer = Pacer(idle=15.0)
    delays = [pacer.failed(NOW, warming_up=False, breach_open=True, jitter=1.0) for _ in range(6)]
    assert 3.0 == max(delays)
    assert 1.0 == pacer.failed(NOW, warming_up=True, breach_open=False, jitter=0.5)


def test_a_ring_cuts_the_wait_after_an_error() -> None:
    """The node's first notification after its return is acted upon."""
    pacer = Pacer(idle=15.0)
    pacer.started(NOW, urgent=False)
    pacer.failed(NOW, warming_up=False, breach_open=False, jitter=0.5)
    assert NOW + 0.5 == pacer.due(NOW + 0.1, rung=False, urgent=False)
    assert NOW + CALM_GAP == pacer.due(NOW + 0.1, rung=True, urgent=False)


def test_rings_before_a_pass_become_one_pass() -> None:
    """The flag has one slot; the hints are collected."""
    wake = Wake(lambda: NOW)
    first, second = OutPoint(b"\x01" * 36), OutPoint(b"\x02" * 36)
    wake.ring(touched=[first], captured={b"a": b"raw"})
    wake.ring(touched=[second], urgent=True)
    turn = taken(wake)
    assert frozenset({first, second}) == turn.hints.touched
    assert {b"a": b"raw"} == turn.hints.captured
    assert (True, True) == (turn.rung, turn.urgent)
    assert Turn(type(turn.hints)(), False, False) == taken(wake)


@given(st.integers(1, 50))
def test_too_many_hints_become_a_full_sweep(extra: int) -> None:
    """A flood cannot fill the memory: beyond the limit the pass asks for everything."""
    wake = Wake(lambda: NOW)
    wake.ring(touched=[OutPoint(number.to_bytes(36, "big")) for number in range(TOUCHED_LIMIT + extra)])
    hints = taken(wake).hints
    assert hints.full_sweep
    assert frozenset() == hints.touched


def test_too_many_captured_bytes_become_a_full_sweep() -> None:
    """The same holds for signed bytes."""
    wake = Wake(lambda: NOW)
    wake.ring(captured={bytes([number]): bytes(2**20) for number in range(CAPTURED_LIMIT // 2**20 + 1)})
    hints = taken(wake).hints
    assert hints.full_sweep
    assert {} == hints.captured


def test_stop_ends_a_wait() -> None:
    """A thread that waits for the next pass returns at once."""
    wake, pacer = Wake(), Pacer(idle=1e9)
    pacer.started(time.monotonic(), urgent=False)
    ends: list[Turn | None] = []
    thread = threading.Thread(target=lambda: ends.append(wake.next_turn(pacer)))
    thread.start()
    wake.stop()
    thread.join(30)
    assert [None] == ends
