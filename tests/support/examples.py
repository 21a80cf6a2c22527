"""How many generated examples a test tries: a tenth in the fast gate, all in `make test`, more in `make search`."""

from __future__ import annotations

import os

LEAST = 15
"""Fewer examples find nothing."""


def examples(full: int) -> int:
    """Examples for this run; `full` with the profile `long`, ten times as many with `search`."""
    profile = os.environ.get("HYPOTHESIS_PROFILE", "fast")
    return {"fast": max(LEAST, full // 10), "search": 10 * full}.get(profile, full)
