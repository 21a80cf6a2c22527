"""What a planted bug is, and how it gets into the program for a while.

with planted(mutant):
    play(seed)                # raises `Failed` if the schedule finds it
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import msgspec

Change = tuple[object, str, object]
"""Owner (a class or a module), name of the attribute, what stands there instead."""


class Mutant(msgspec.Struct, frozen=True):
    """A planted bug: its name, what it does, who had it, the oracles that may find it, what it replaces."""

    name: str
    bug: str
    source: str
    oracles: tuple[str, ...]
    changes: tuple[Change, ...]


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The program has the bug until the block ends. Unknown attributes are refused: a bug must not miss its place."""
    with ExitStack() as stack:
        for owner, name, value in mutant.changes:
            stack.enter_context(patch.object(owner, name, value))
        yield
