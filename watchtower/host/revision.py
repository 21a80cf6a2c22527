"""Which commit is running: from the installer's record, or from the checkout beside the package."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

DISTRIBUTION = "state-channel-watchtower"
UNKNOWN = "unknown"


def revision(checkout: Path | None = None) -> str:
    """The first 12 characters of the commit id, or `unknown` for a package without that record."""
    return (_from_installer() or _from_checkout(checkout or Path(__file__).parents[2]) or UNKNOWN)[:12]


def _from_installer() -> str:
    """PEP 610: direct_url.json names the commit of an installation from version control."""
    try:
        text = distribution(DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:
        return ""
    return str(json.loads(text or "{}").get("vcs_info", {}).get("commit_id", ""))


def _from_checkout(root: Path) -> str:
    """gitrepository-layout(5): HEAD holds a commit or names a ref, which is a file or a line of packed-refs."""
    git = root / ".git"
    if not (git / "HEAD").is_file():
        return ""
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return head
    name = head.removeprefix("ref: ")
    if (git / name).is_file():
        return (git / name).read_text().strip()
    packed = (git / "packed-refs").read_text().splitlines() if (git / "packed-refs").is_file() else []
    return next((line.split(" ")[0] for line in packed if line.endswith(f" {name}")), "")
