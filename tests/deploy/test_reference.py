"""docs/reference.md says what the docstrings say."""

from __future__ import annotations

from pathlib import Path

import watchtower.client
from tests.support import reference

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"


def test_the_reference_is_made_from_the_docstrings() -> None:
    """After a change: python -m tests.support.reference docs/reference.md."""
    assert reference.page() == PAGE.read_text(), test_the_reference_is_made_from_the_docstrings.__doc__


def test_every_public_name_has_its_entry() -> None:
    """Nothing of the SDK is missing, and everything says what it is."""
    page = PAGE.read_text()

    assert [] == [
        name for name in watchtower.client.__all__ if f"### {name}\n" not in page and f"| `{name}` |" not in page
    ]
    assert [] == [name for name in watchtower.client.__all__ if not getattr(watchtower.client, name).__doc__]
