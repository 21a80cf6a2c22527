"""What a check says: which check, how bad it is, one line about what was found and one about how to mend it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Level = Literal["ok", "warn", "fail"]

HEALTHY, BLOCKED, WRONG_SETTINGS, UNREACHABLE = 0, 3, 2, 4
"""Exit codes of `watchtower doctor`."""


class Finding(msgspec.Struct, frozen=True):
    """`check` is a stable name, group first (`node.version`); `mend` is empty if there is nothing to do.

    `fail` = the tower cannot watch, or cannot keep what it promises; `warn` = it can, and something is worth a look.
    """

    check: str
    level: Level
    what: str
    mend: str = ""

    @property
    def group(self) -> str:
        """The group of the check."""
        return self.check.partition(".")[0]


def ok(check: str, what: str) -> Finding:
    """Nothing to do."""
    return Finding(check, "ok", what)


def warn(check: str, what: str, mend: str) -> Finding:
    """Worth a look."""
    return Finding(check, "warn", what, mend)


def fail(check: str, what: str, mend: str) -> Finding:
    """This must be mended."""
    return Finding(check, "fail", what, mend)


class Diagnosis(msgspec.Struct, frozen=True):
    """All findings, in the order of the groups."""

    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """The worst one."""
        levels = {finding.level for finding in self.findings}
        return "fail" if "fail" in levels else "warn" if "warn" in levels else "ok"

    @property
    def exit_code(self) -> int:
        """0 with warnings at most; else 2 for settings, 4 for a node or server that does not answer, 3 for the rest."""
        failed = {finding.check for finding in self.findings if finding.level == "fail"}
        if not failed:
            return HEALTHY
        if any(check.startswith("configuration.") for check in failed):
            return WRONG_SETTINGS
        return UNREACHABLE if failed & {"node.reachable", "server.reachable"} else BLOCKED

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "level": self.level,
            "exit_code": self.exit_code,
            "findings": [msgspec.structs.asdict(finding) | {"group": finding.group} for finding in self.findings],
        }
