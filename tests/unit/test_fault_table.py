"""The table of faults: nothing of the catalogue is without a test or a reason, and the page says so."""

from __future__ import annotations

import pytest

from tests.support.fault_table import FAULTS, NOT_HERE, ROOT, proofs, table


@pytest.mark.slow
def test_every_fault_has_a_test_or_a_reason() -> None:
    """What has no test is named with the reason, and what has one is not."""
    without = {fault for fault in FAULTS if not proofs()[fault]}

    assert set(NOT_HERE) == without


@pytest.mark.slow
def test_the_page_is_what_the_tests_say() -> None:
    """Run `make pages` after a change."""
    assert table() == (ROOT / "docs/faults.md").read_text()
