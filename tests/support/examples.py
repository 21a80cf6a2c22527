"""How many generated examples a test tries: a tenth in the fast gate, all in `make test`."""

from __future__ import annotations

import os

LEAST = 15
"""Fewer examples find nothing."""


def examples(full: int) -> int:
    """Examples for this run; `full` with the profiles `long` and `large`."""
    profile = os.environ.get("HYPOTHESIS_PROFILE", "fast")
    return max(LEAST, full // 10) if profile == "fast" else full
