"""The settings: where they come from, and what about them is allowed but unwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from watchtower.config import ConfigError
from watchtower.doctor.case import Case
from watchtower.doctor.finding import Finding, fail, ok, warn

LOOK_UP = "`watchtower config show` tells every setting and its source (docs/configuration.md)"


def look(case: Case) -> Iterator[Finding]:
    """Findings about settings that could be loaded."""
    loaded = case.loaded
    yield ok("configuration.file", loaded.path or "no file: defaults and environment")
    kinds = Counter(_kind(source, loaded.path) for source in loaded.sources.values())
    told = ", ".join(f"{number} from {kind}" for kind, number in sorted(kinds.items()))
    yield ok("configuration.values", f"{len(loaded.sources)} settings are valid: {told}")
    for warning in loaded.warnings:
        what, _, mend = warning.rpartition("; ")
        yield warn("configuration.warnings", what or warning, mend if what else LOOK_UP)


def refused(error: ConfigError) -> Sequence[Finding]:
    """Findings about settings that cannot be used; there is nothing else to look at then."""
    found = []
    for finding in error.findings:
        what, _, mend = finding.rpartition("; ")
        found.append(fail("configuration.values", what or finding, mend if what else LOOK_UP))
    return found


def _kind(source: str, path: str) -> str:
    if source in ("default", "credential", "flag"):
        return {"default": "defaults", "credential": "credentials", "flag": "flags"}[source]
    if source == path:
        return "the file"
    return "files of single values" if source.endswith("_FILE") else "the environment"
