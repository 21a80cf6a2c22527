"""Applications with manners good and bad, loaded by name in the processes that judge states."""

from __future__ import annotations

import os
import sys
from hashlib import sha256

from domain.application import ApplicationState, decode_state_data

COUNTER_ID = sha256(b"a counter that only rises").digest()


class Counter:
    """State data is a canonical integer that rises by one; `crash`, `hang` and the like in place of it do just that."""

    app_id = COUNTER_ID

    def validate(self, old: ApplicationState | None, new: ApplicationState) -> str | None:
        """Refuse what does not rise by one."""
        misbehave(new.state_data)
        if new.state_data == b"fork":
            return None
        before = -1 if old is None else decode_state_data(old.state_data)
        after = decode_state_data(new.state_data)
        return None if after == before + 1 else f"the counter stands at {before}, {after} is not the next number"


def misbehave(order: bytes) -> None:
    """Whatever a hostile or broken validator can do."""
    if order == b"crash":
        os._exit(7)
    if order == b"hang":
        while True:
            pass
    if order == b"raise":
        raise RuntimeError("out of order")
    if order == b"leave":
        sys.exit(3)
    if order == b"print":
        print("noise " * 1000)  # noqa: T201
        raise RuntimeError("after much noise")
    if order == b"memory":
        bytearray(2**33)
    if order == b"fork" and os.fork():
        raise RuntimeError("one of two")


class Mute(Counter):
    """Answers with something that is no verdict."""

    app_id = sha256(b"no verdict").digest()

    def validate(self, old: ApplicationState | None, new: ApplicationState) -> str | None:
        """A number is neither None nor a text."""
        return 42  # type: ignore[return-value]


class Environment(Counter):
    """Answers with the environment that it can see."""

    app_id = sha256(b"environment").digest()

    def validate(self, old: ApplicationState | None, new: ApplicationState) -> str | None:
        """The names of all variables."""
        return ",".join(sorted(os.environ))


class Nameless(Counter):
    """Has no name of 32 bytes."""

    app_id = b"short"


class Broken:
    """Cannot even be made."""

    def __init__(self) -> None:
        raise RuntimeError("no configuration")


counter = Counter()
