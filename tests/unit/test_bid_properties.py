"""The list of properties that the bid promises, one test each (docs/adr/0008); `last` is never above the cap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.fees import Market, bid, bid_limits, doubled_step, fee_for, phase_estimate

VSIZE, DUST = 111, 330


def cap_of(value: int) -> float:
    """The feerate that leaves dust."""
    return (value - DUST) / VSIZE


@st.composite
def questions(draw: st.DrawFn) -> dict[str, float | int | None]:
    """Arguments of `bid`: every T from 2 on, also after the deadline, absurd estimates included."""
    window, value = draw(st.integers(2, 2016)), draw(st.integers(1_000, 10_000_000_000))
    share = draw(st.none() | st.floats(0, 1))
    return {
        "remaining": draw(st.integers(-300, window - 1)),
        "window": window,
        "value": value,
        "estimate": draw(st.none() | st.sampled_from([0.0, 1e7]) | st.floats(0, 1e7)),
        "last": None if share is None else cap_of(value) * share,
        "relay_floor": draw(st.floats(1, 500)),
        "vsize": VSIZE,
        "dust": DUST,
        "step": draw(st.floats(1, 20)),
    }


def ask(question: dict[str, float | int | None], **changed: float | int | None) -> float:
    """The bid."""
    return bid(**(question | changed))  # type: ignore[arg-type]


@given(question=questions())
def test_a_bid_stays_between_the_relay_floor_and_the_cap(question: dict[str, float]) -> None:
    """Whatever is asked, also long after the deadline."""
    cap = cap_of(int(question["value"]))

    assert min(question["relay_floor"], cap) - 1e-9 <= ask(question) <= cap + 1e-9


@given(question=questions())
def test_a_bid_never_falls_and_moves_in_whole_steps(question: dict[str, float | None]) -> None:
    """The last bid again, or at least one increment more unless it ends at the cap; the first bid replaces nothing."""
    found, last = ask(question), question["last"] or 0.0
    step = 0.0 if question["last"] is None else float(question["step"] or 0.0)

    assert found >= last
    assert found == last or found >= last + step - 1e-6 or found == pytest.approx(cap_of(int(question["value"] or 0)))


@given(question=questions(), remaining=st.integers(-300, 2))
def test_the_last_two_blocks_cost_everything(question: dict[str, float], remaining: int) -> None:
    """With any T, any estimate and any earlier bid; a last step that is no valid replacement is not made."""
    found = ask(question, remaining=min(remaining, int(question["window"]) - 1))

    assert found >= cap_of(int(question["value"])) - max(1.0, question["step"]) - 1e-9


@given(question=questions())
def test_without_an_estimate_half_is_bid_six_blocks_before_the_deadline(question: dict[str, float]) -> None:
    """The floor alone takes the place of the estimator."""
    window = max(7, int(question["window"]))
    found = ask(question, remaining=6, window=window, estimate=None)

    assert found >= 0.5 * cap_of(int(question["value"])) - max(1.0, question["step"]) - 1e-9


@given(question=questions())
def test_an_absurd_estimate_neither_stops_nor_burns(question: dict[str, float]) -> None:
    """Nothing asks for less than no estimate; ten million sat/vB stays below the ceiling of the phase."""
    limits = bid_limits(**{name: question[name] for name in LIMIT_ARGUMENTS})  # type: ignore[arg-type]

    low, none, high = (ask(question, estimate=estimate) for estimate in (0.0, None, 1e7))

    assert low == none
    assert high == question["last"] or fee_of(high, question) <= limits.highest


LIMIT_ARGUMENTS = ("remaining", "window", "value", "last", "relay_floor", "vsize", "dust", "step")


def fee_of(feerate: float, question: dict[str, float]) -> int:
    """In satoshi."""
    return fee_for(feerate, VSIZE, int(question["value"]), DUST)


@given(question=questions(), share=st.floats(0.5, 1))
def test_no_new_bid_is_above_its_limit(question: dict[str, float], share: float) -> None:
    """What is asked again directly before signing holds for every bid that is not the last one; the owner's cap too."""
    asked = {name: question[name] for name in LIMIT_ARGUMENTS}
    limits = bid_limits(**asked, spendable=share)  # type: ignore[arg-type]

    found = ask(question, spendable=share)

    assert found == question["last"] or fee_of(found, question) <= limits.highest


@given(question=questions())
def test_a_bid_depends_on_its_arguments_only(question: dict[str, float]) -> None:
    """Asked twice, answered alike."""
    assert ask(question) == ask(dict(question))


@given(
    window=st.integers(2, 2016),
    value=st.integers(1_000, 10_000_000_000),
    estimates=st.lists(st.none() | st.floats(0, 1e7), min_size=1, max_size=30),
    floors=st.floats(1, 300),
)
def test_bids_along_a_whole_window_only_rise(
    window: int, value: int, estimates: list[float | None], floors: float
) -> None:
    """From the first block to behind the deadline, with an estimator that says what it likes."""
    bids: list[float] = []
    for past in range(window + 3):
        last = bids[-1] if bids else None
        question = {"remaining": window - 1 - past, "window": window, "value": value, "last": last}
        fixed = {"relay_floor": floors, "vsize": VSIZE, "dust": DUST, "estimate": estimates[past % len(estimates)]}
        bids.append(ask(question | fixed))

    assert sorted(bids) == bids
    assert bids[-1] >= cap_of(value) - 1


def test_blind_raises_double() -> None:
    """Refused as too low and nobody to be seen: a tenth or the increment more, then twice that, and so on."""
    assert [1_111, 1_222, 1_444] == [doubled_step(1_000, 111, 1.0, refusals) for refusals in (1, 2, 3)]
    assert 11_000 == doubled_step(10_000, 111, 1.0, 1)


@pytest.mark.parametrize(("left", "expected"), [(73, 10.0), (72, 20.0), (19, 20.0), (18, 50.0), (7, 50.0), (6, 80.0)])
def test_each_phase_asks_its_estimate(left: int, expected: float) -> None:
    """T = 144: est(6), est(3), est(1) and a quarter, est(1) twice; the borders belong to the later phase."""
    market = Market(1.0, 1.0, 1.0, ((1, 40.0), (3, 20.0), (6, 10.0)))

    assert expected == phase_estimate(left, 144, market)


@pytest.mark.parametrize(("left", "expected"), [(19, 10.0), (18, 50.0), (7, 50.0), (6, 80.0)])
def test_a_short_window_has_no_amber(left: int, expected: float) -> None:
    """For T = 36 red begins where green ends."""
    market = Market(1.0, 1.0, 1.0, ((1, 40.0), (3, 20.0), (6, 10.0)))

    assert expected == phase_estimate(left, 36, market)
