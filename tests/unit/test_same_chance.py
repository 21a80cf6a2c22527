"""With tests/support/chance.py a test draws the same random numbers each time."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.slow

DRAWING = """
    import os
    import random
    import secrets
    import uuid
    from pathlib import Path

    import pytest

    SAID = Path("drawn")

    def say(name, *values):
        with SAID.open("a") as file:
            print(name, *values, file=file)

    @pytest.fixture(scope="module")
    def shared():
        value = secrets.token_hex(8)
        say("shared", value)
        return value

    def test_one(shared):
        say("one", secrets.token_urlsafe(8), uuid.uuid4(), random.random(), os.urandom(4).hex())

    def test_two(shared):
        say("two", secrets.token_urlsafe(8), uuid.uuid4(), random.random(), os.urandom(4).hex())

    def test_child():
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, os.urandom(8))
            os._exit(0)
        os.wait()
        assert os.read(read, 8) != os.urandom(8)

    def test_at_the_second_play():
        value = secrets.token_hex(8)
        say("again", value)
        assert 2 == SAID.read_text().count("again")
"""


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The plugins are found from the temporary directory, too."""
    monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath))


def drawn(pytester: pytest.Pytester, *arguments: str) -> list[str]:
    """What the tests drew in one run, in any order."""
    said = Path(pytester.path) / "drawn"
    said.unlink(missing_ok=True)
    plugins = (
        "-p",
        "tests.support.second_play",
        "-p",
        "tests.support.chance",
        "--reruns",
        "1",
        "-p",
        "no:cacheprovider",
    )
    assert pytest.ExitCode.OK == pytester.runpytest_subprocess("-q", *plugins, *arguments).ret
    return sorted(said.read_text().splitlines())


def test_each_run_draws_the_same(pytester: pytest.Pytester) -> None:
    """In whatever order tests are played; two tests, and two plays of one, draw different numbers."""
    path = pytester.makepyfile(DRAWING)
    names = [f"{path.name}::test_{name}" for name in ("two", "one", "at_the_second_play")]

    forwards = drawn(pytester)
    backwards = drawn(pytester, *names)

    assert forwards == backwards
    values = [value for line in forwards for value in line.split()[1:]]
    assert 11 == len(values) == len(set(values))


def test_without_it_chance_is_real(pytester: pytest.Pytester) -> None:
    """Two runs that draw the same would mean that the test above shows nothing."""
    pytester.makepyfile(DRAWING.replace("assert 2 == ", "assert "))
    said = Path(pytester.path) / "drawn"
    runs = []
    for _ in range(2):
        said.unlink(missing_ok=True)
        assert pytest.ExitCode.OK == pytester.runpytest_subprocess("-q").ret
        runs.append(said.read_text())
    assert runs[0] != runs[1]
