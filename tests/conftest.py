"""Settings that hold for every test: the sizes of generated runs.

In the gates the same commit generates the same examples, so that a red run can be repeated. New examples are what
`make search` is for; what it finds becomes an `@example` of its test.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

QUIET = [HealthCheck.too_slow]

settings.register_profile("fast", max_examples=30, deadline=None, derandomize=True, suppress_health_check=QUIET)
settings.register_profile("long", max_examples=400, deadline=None, derandomize=True, suppress_health_check=QUIET)
settings.register_profile(
    "search", max_examples=5_000, deadline=None, derandomize=False, print_blob=True, suppress_health_check=QUIET
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))
