"""`watchtower run` with every cache cut to a few entries: what grows then is a leak.

With their full size the caches of keys and scripts take 11 kB of memory per channel until two thousand channels have
been seen, those of database pages as much as was written until they hold 64 MiB; half an hour could not tell that from
a leak. Some sizes are read when a function is decorated, so they are cut before anything of the service is imported.
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
    from watchtower.store import datastore, group_commit
    from watchtower.telemetry import reporter

    repository.Channels.__init__.__defaults__ = (MOST, None)
    datastore._SETTINGS = (*datastore._SETTINGS, "PRAGMA cache_size = -512")  # type: ignore[assignment]
    group_commit.KNOWN_STREAMS = reporter.REMEMBERED = MOST
    from watchtower.cli import main

    main()
