"""Random SIGKILL of towers that write a log on a server: nothing acknowledged is lost, nothing is half written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.test_kills import kill_writers


def test_fault_P2_killed_leaders_lose_nothing(
    log_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Eight processes, sixteen callers each, one after the other; the copy of each is where its successor begins."""
    counts = kill_writers(tmp_path, 8, 1, log_url)
    record_property("kills", counts["kills"])
    record_property("acknowledged", counts["acknowledged"])

    assert 8 == counts["kills"]
    assert counts["acknowledged"] > 200


@pytest.mark.crash
@pytest.mark.timeout(600)
def test_fault_P2_hundreds_of_killed_leaders_lose_nothing(
    log_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The same for long."""
    counts = kill_writers(tmp_path, 200, 2, log_url)
    record_property("kills", counts["kills"])
    record_property("acknowledged", counts["acknowledged"])

    assert 200 == counts["kills"]
