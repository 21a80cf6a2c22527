"""`watchtower run` with every cache of keys and scripts cut to a few entries: what grows then is a leak.

With their full size these caches take 11 kB of memory per channel until two thousand channels have been seen, and half
an hour could not tell that from a leak. Sizes are read when a function is decorated, so they are cut before anything
of the service is imported.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

MOST = 64
"""Entries of one cache."""

_lru_cache = functools.lru_cache


def _small(maxsize: Any = 128, typed: bool = False) -> Callable[..., Any]:
    if callable(maxsize):
        return _lru_cache(MOST)(maxsize)
    return _lru_cache(MOST if maxsize is None else min(maxsize, MOST), typed)


if __name__ == "__main__":
    functools.lru_cache = _small  # type: ignore[assignment]
    from watchtower import repository

    repository.Channels.__init__.__defaults__ = (MOST,)
    from watchtower.cli import main

    main()
