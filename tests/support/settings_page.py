"""The table of docs/configuration.md, made from the settings: python -m tests.support.settings_page FILE.

Everything around the table is written by people and stays as it is.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from watchtower.config import reference_table

TABLE = re.compile(r"(?<=\n## All settings\n\n)(?:\|[^\n]*\n)+")


def with_table(page: str) -> str:
    """The page with the table as the settings are now."""
    renewed, number = TABLE.subn(lambda _: reference_table(), page)
    if number != 1:
        raise ValueError("the page needs one heading 'All settings' with a table under it")
    return renewed


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
