"""The planted bugs: the page tells all of them, each is found by a schedule, and the same schedule holds without it."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from tests.simulation.mutants.__main__ import PAGE, SEEDS, main
from tests.simulation.mutants.catalog import BY_NAME, MUTANTS
from tests.simulation.mutants.planting import planted
from tests.simulation.schedule import Failed, play

ROWS = re.findall(r"^\| \d+ \| `([a-z-]+)` \|.*?\| (\d+) \| \d+ \| [O0-9 ,]+ \|$", PAGE.read_text(), re.MULTILINE)
FIRST = {name: int(seed) for name, seed in ROWS}


def first_failure(name: str, seeds: Iterable[int]) -> tuple[int, Failed]:
    """The first of these schedules that finds a bug; without one the bug survives."""
    for seed in seeds:
        try:
            with planted(BY_NAME[name]):
                play(seed)
        except Failed as failed:
            return seed, failed
    raise AssertionError(f"no schedule finds {name}")


def test_the_page_lists_every_bug_in_its_order() -> None:
    """docs/mutants.md was written by the list as it is, and each bug on it was found."""
    assert [mutant.name for mutant in MUTANTS] == [name for name, _ in ROWS]


def test_there_are_many_bugs_and_each_breaks_something() -> None:
    """At least two dozen names, and no bug without a place."""
    assert len(BY_NAME) == len(MUTANTS) >= 24
    assert all(mutant.changes and mutant.oracles for mutant in MUTANTS)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_bug_is_gone_when_it_is_dug_out(name: str) -> None:
    """What a bug replaced stands in its place again."""
    places = [(owner, attribute) for owner, attribute, _ in BY_NAME[name].changes]
    before = [getattr(owner, attribute) for owner, attribute in places]
    with planted(BY_NAME[name]):
        pass

    assert before == [getattr(owner, attribute) for owner, attribute in places]


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_NAME)
def test_a_bug_is_found_and_without_it_nothing_is(name: str) -> None:
    """The schedule of the page, or a later one, fails by an expected oracle, and holds without the bug."""
    seed, failed = first_failure(name, [FIRST[name], *range(SEEDS)])

    assert failed.violation.oracle in BY_NAME[name].oracles
    assert play(seed).seed == seed


@pytest.mark.slow
def test_a_bug_that_is_not_found_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code says so, and the last line its name."""
    assert main(["--only", "secret-in-the-log", "--seeds", "0", "--workers", "1"]) == 1

    assert "1 not found: secret-in-the-log" in capsys.readouterr().out
