"""A second play in continuous integration forgives one chance and hides nothing."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.slow

FAILS_AT_FIRST = """
    import pytest

    seen = set()

    @pytest.mark.parametrize("number", range({count}))
    def test_number(number):
        if number not in seen:
            seen.add(number)
            raise AssertionError("a moment too early")
"""

BORN_BADLY = """
    import pytest

    made = []

    @pytest.fixture(scope="{scope}")
    def world():
        made.append("set up")
        yield len(made)
        made.append("torn down")

    def test_before(world):
        assert 1 == world

    def test_world(world):
        assert 3 == world

    def test_after(world):
        assert ["set up", "torn down", "set up"] == made
"""

GENERATED = """
    from hypothesis import given, strategies

    calls = []

    @given(strategies.booleans())
    def test_generated(value):
        calls.append(value)
        assert len(calls) > 3
"""


def play(pytester: pytest.Pytester, reruns: int = 1) -> pytest.RunResult:
    """As the stages of `make test` do."""
    return pytester.runpytest_subprocess("-q", "-p", "tests.support.second_play", "--reruns", str(reruns))


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The plugin is found from the temporary directory, too."""
    monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath))


def test_a_chance_is_forgiven_and_shown(pytester: pytest.Pytester) -> None:
    """Green, with the name of the test and the end of its first failure."""
    pytester.makepyfile(FAILS_AT_FIRST.format(count=1))
    result = play(pytester)
    assert pytest.ExitCode.OK == result.ret
    result.stdout.fnmatch_lines(["*played twice: 1,*", "*::test_number[[]0]*", "*a moment too early*"])


@pytest.mark.parametrize("scope", ["module", "session"])
def test_the_second_play_has_a_new_world(pytester: pytest.Pytester, scope: str) -> None:
    """A fixture that many tests share may be what failed: it is torn down, and made once more."""
    pytester.makepyfile(BORN_BADLY.format(scope=scope))
    result = play(pytester)
    assert pytest.ExitCode.OK == result.ret
    result.stdout.fnmatch_lines(["*3 passed, 1 rerun*"])


def test_many_chances_are_red(pytester: pytest.Pytester) -> None:
    """Four tests that pass at the second play only."""
    pytester.makepyfile(FAILS_AT_FIRST.format(count=4))
    result = play(pytester)
    assert pytest.ExitCode.TESTS_FAILED == result.ret
    result.stdout.fnmatch_lines(["*played twice: 4, at most 3*"])


def test_by_default_nothing_is_played_again(pytester: pytest.Pytester) -> None:
    """With `--reruns 0`, as everywhere but in continuous integration."""
    pytester.makepyfile(FAILS_AT_FIRST.format(count=1))
    assert pytest.ExitCode.TESTS_FAILED == play(pytester, reruns=0).ret


def test_what_is_generated_is_not_played_again(pytester: pytest.Pytester) -> None:
    """A second play would pass; a failing example must not get one."""
    pytester.makepyfile(GENERATED)
    result = play(pytester)
    assert pytest.ExitCode.TESTS_FAILED == result.ret
    assert "played twice" not in result.stdout.str()
