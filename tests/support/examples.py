"""How many generated examples a test tries: a tenth, all in the long stage of `make test`, more in `make search`.

The long stage plays the generated tests of tests/properties and tests/fuzz.
"""

from __future__ import annotations

import os

LEAST = 15
"""Fewer examples find nothing."""


def examples(full: int) -> int:
    """Examples for this run; `full` with the profile `long`, ten times as many with `search`."""
    profile = os.environ.get("HYPOTHESIS_PROFILE", "fast")
    return {"fast": max(LEAST, full // 10), "search": 10 * full}.get(profile, full)
