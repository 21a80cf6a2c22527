"""The systemd unit: what it says, and what systemd's own tool thinks of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.programs import program
from tests.support.sandbox import UNIT, directives
from watchtower.config.fields import all_fields

EXPOSURE = 10
"""Tenths: systemd's own score from 0 (nothing is exposed) to 10."""

NAME = UNIT.name


def prepared(folder: Path, *changes: tuple[str, str]) -> Path:
    """The unit with programs that exist on every host, so that only the unit itself is judged."""
    text = UNIT.read_text(encoding="utf-8")
    for old, new in (("/opt/state-channel-watchtower/bin/watchtower", "/bin/sh"), ("/bin/kill", "/bin/sh"), *changes):
        assert old in text, f"{old!r} is not in the unit"
        text = text.replace(old, new)
    path = folder / NAME
    path.write_text(text, encoding="utf-8")
    return path


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze; it needs no manager for this."""
    command = [program("systemd-analyze"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.deploy
def test_the_unit_is_valid(tmp_path: Path) -> None:
    """No unknown directive, no wrong value: nothing at all is said about this unit."""
    done = analyze("verify", prepared(tmp_path))
    assert (0, []) == (done.returncode, [line for line in done.stderr.splitlines() if NAME in line]), done.stderr


@pytest.mark.deploy
def test_a_misspelled_directive_is_found(tmp_path: Path) -> None:
    """The tool really looks."""
    done = analyze("verify", prepared(tmp_path, ("WatchdogSignal=", "WatchdogSingal=")))
    assert "WatchdogSingal" in done.stderr


@pytest.mark.deploy
def test_little_is_exposed(tmp_path: Path) -> None:
    """At most 1.0 of 10: the rest is what a tower needs, files and network."""
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", prepared(tmp_path))
    assert 0 == done.returncode, done.stdout


@pytest.mark.deploy
@pytest.mark.parametrize("directive", ["NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateUsers=yes"])
def test_a_missing_restriction_is_found(tmp_path: Path, directive: str) -> None:
    """Without one of them the score is above the limit."""
    path = prepared(tmp_path, (f"{directive}\n", "\n"))
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", path)
    assert 0 < done.returncode


def test_the_manager_waits_for_a_tower_that_watches_and_ends_one_that_hangs() -> None:
    """Notify and watchdog; a crash loop is never given up, a wrong configuration is."""
    unit = directives()
    wanted = {
        "Type": "notify",
        "NotifyAccess": "main",
        "Restart": "always",
        "RestartPreventExitStatus": "2",
        "StartLimitIntervalSec": "0",
        "WatchdogSec": "60s",
        "WatchdogSignal": "SIGABRT",
        "KillMode": "mixed",
        "LogRateLimitIntervalSec": "0",
        "ExecReload": "/bin/kill -HUP $MAINPID",
        "UMask": "0077",
        "LimitCORE": "0",
        "MemoryDenyWriteExecute": "yes",
    }
    assert wanted == {name: unit[name][0] for name in wanted}


def test_the_directories_are_the_services_own() -> None:
    """State, configuration, runtime and logs have one name and are closed to others."""
    unit = directives()
    kinds = ("State", "Configuration", "Runtime", "Logs")
    assert {"state-channel-watchtower"} == {unit[f"{kind}Directory"][0] for kind in kinds}
    assert {"0700"} == {unit[f"{kind}DirectoryMode"][0] for kind in kinds}


def test_what_would_blind_or_end_a_tower_is_not_set() -> None:
    """ProcSubset hides what the metrics of the process read; without sched_setscheduler libzmq ends the process."""
    unit = directives()
    assert "ProcSubset" not in unit
    assert "sched_setscheduler" == unit["SystemCallFilter"][-1]
    assert "LoadCredential" not in unit


def test_credentials_have_names_of_secret_settings() -> None:
    """A file of another name would be ignored without a word."""
    named = re.findall(r"^#LoadCredentialEncrypted=([^:]+):", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    secrets = {field.name for field in all_fields() if field.secret}
    assert 3 == len(named)
    assert set() == set(named) - secrets


def test_the_installation_page_uses_this_unit() -> None:
    """User, directories and paths of the page are those of the unit."""
    page = Path("docs/install-systemd.md").read_text(encoding="utf-8")
    unit = directives()
    (user,) = unit["User"]
    assert f"useradd --system --home-dir /var/lib/{unit['StateDirectory'][0]}" in page
    assert f"-o {user} -g {unit['Group'][0]} -m 0700 /var/lib/{unit['StateDirectory'][0]}" in page
    assert unit["ExecStart"][0].split()[0] in page
    assert unit["ExecStart"][0].split()[2] in page
    assert f"systemctl reload {NAME.removesuffix('.service')}" in page
