"""In the gates a test draws the same random numbers each time (docs/adr/0036-second-play.md).

`pytest -p tests.support.chance` seeds `os.urandom`, `secrets` and `random` anew for each test and for each fixture of a
wider scope, by its name. A test that fails for one name of a stream in sixty-four then fails always or never, whichever
worker plays it and whatever was played before; its second play draws other numbers. Without the plugin chance is real.
Started processes and forked children draw from the kernel as ever.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
from collections.abc import Generator
from typing import Any

import pytest

Standing = tuple[str, int, tuple[Any, ...]]
"""The name, how often it was drawn from, and the state of `random`."""


class Chance:
    """A generator of bytes that can be begun anew."""

    def __init__(self) -> None:
        self.play = 1
        self._lock = threading.Lock()
        self._name = ""
        self._drawn = 0

    def begin(self, name: str) -> None:
        """What is drawn from here on follows from this name and from how often the test was played."""
        with self._lock:
            self._name, self._drawn = f"{self.play} {name}", 0
        random.seed(self._name)

    def urandom(self, size: int) -> bytes:
        """As `os.urandom`."""
        with self._lock:
            self._drawn += 1
            label = f"{self._name} {self._drawn}"
        return hashlib.shake_256(label.encode()).digest(size)

    def kept(self) -> Standing:
        """Where it stands."""
        with self._lock:
            return self._name, self._drawn, random.getstate()

    def go_on(self, kept: Standing) -> None:
        """Stand there again."""
        with self._lock:
            self._name, self._drawn, state = kept
        random.setstate(state)


CHANCE = Chance()
DRAWN = pytest.MonkeyPatch()


def pytest_configure(config: pytest.Config) -> None:
    """From here on; `secrets`, `SystemRandom` and `uuid` draw from these two."""
    DRAWN.setattr(os, "urandom", CHANCE.urandom)
    DRAWN.setattr(random, "_urandom", CHANCE.urandom)
    os.register_at_fork(after_in_child=DRAWN.undo)


def pytest_unconfigure(config: pytest.Config) -> None:
    """As before."""
    DRAWN.undo()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Each play of a test begins anew."""
    CHANCE.play = getattr(item, "execution_count", 1)
    CHANCE.begin(item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """A fixture that several tests share doesn't depend on which of them is played first, nor they on that."""
    if fixturedef.scope == "function":
        return (yield)
    before = CHANCE.kept()
    CHANCE.begin(f"{fixturedef.baseid} {fixturedef.argname} {getattr(request, 'param_index', 0)}")
    try:
        return (yield)
    finally:
        CHANCE.go_on(before)
