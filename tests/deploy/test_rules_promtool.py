"""The rules under Prometheus' own tool: they are valid, and exactly the right alerts fire in every test."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.dashboards.files import dashboards, panels
from tests.support.dashboards.promql import EVERYTHING, substituted
from tests.support.programs import program
from tests.support.rules_baseline import healthy, standing_by
from tests.support.rules_files import DIRECTORY

pytestmark = pytest.mark.deploy

SUITES = sorted(path.name for path in (DIRECTORY / "tests").glob("*.yml"))


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool in deploy/prometheus."""
    return subprocess.run(
        [program("promtool"), *arguments], cwd=DIRECTORY, capture_output=True, text=True, timeout=100, check=False
    )


def test_configuration_is_valid() -> None:
    """Prometheus takes the configuration with its rule files."""
    done = promtool("check", "config", "prometheus.yml")
    assert (0, True) == (done.returncode, "2 rule files found" in done.stdout), done.stdout + done.stderr


def test_rules_are_valid() -> None:
    """Every rule file stands the strict check, templates of texts included; a duplicate would fail."""
    names = [str(path.relative_to(DIRECTORY)) for path in sorted((DIRECTORY / "rules").glob("*.yml"))]
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", *names)
    assert (0, 4) == (done.returncode, len(names)), done.stdout + done.stderr


@pytest.mark.parametrize("suite", SUITES)
def test_exactly_the_right_alerts_fire(suite: str) -> None:
    """Each test feeds a tower with one trouble and names all alerts that fire; a healthy fleet raises none."""
    done = promtool("test", "rules", f"tests/{suite}")
    assert 0 == done.returncode, done.stdout + done.stderr


def test_wrong_expectation_is_found(tmp_path: Path) -> None:
    """A test that expects another alert fails: the tool really compares."""
    expectation = "promql_expr_test: [{expr: 'count(ALERTS)', eval_time: 2m, exp_samples: [{labels: '{}', value: 9}]}]"
    head = f"rule_files: ['{DIRECTORY}/rules/watchtower.alerts.yml']"
    path = tmp_path / "wrong.yml"
    path.write_text(f"{head}\ntests:\n  - {expectation}\n")
    done = promtool("test", "rules", str(path))
    assert (1, True) == (done.returncode, "exp: {} 9E+00" in done.stdout + done.stderr)


def test_a_standby_turns_no_light_of_the_overview_red(tmp_path: Path) -> None:
    """Beside a healthy tower that leads, one that stands by since hours neither watches nor sings: that is in order."""
    lights = {panel["title"]: panel["targets"][0]["expr"] for panel in panels(dashboards()[0])}
    expected = {"Watching": 1, "Node reachable": 1, "Canary age": 0}
    fed = healthy() | standing_by("standby:9816")
    asked = [
        {
            "expr": substituted(lights[title], EVERYTHING),
            "eval_time": "24m",
            "exp_samples": [{"labels": "{}", "value": value}],
        }
        for title, value in expected.items()
    ]
    series = [{"series": name, "values": values} for name, values in fed.items()]
    path = tmp_path / "overview.yml"
    path.write_text(json.dumps({"tests": [{"interval": "30s", "input_series": series, "promql_expr_test": asked}]}))

    done = promtool("test", "rules", str(path))

    assert 0 == done.returncode, done.stdout + done.stderr
