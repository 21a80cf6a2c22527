"""The files of deploy/prometheus that are made from the rules: python -m tests.support.rules_files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import promql_parser

from tests.support.rules import MAINNET, NETWORKS, RECORDINGS, Alert, Network
from tests.support.rules_cases import FIRING, Case, cases_of, suites
from tests.support.rules_groups import groups

DIRECTORY = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
INTERVAL = "30s"
HEAD = "# Made by `make pages` from tests/support/rules*.py; do not edit.\n"


def alerts_file(network: Network) -> str:
    """Name of the file with the alerts of one network, below `rules`."""
    return "watchtower.alerts.yml" if network is MAINNET else f"watchtower.alerts.{network.name}.yml"


def files() -> dict[str, str]:
    """Path below deploy/prometheus -> text, for every file that is made."""
    made = {"rules/watchtower.recording.yml": "".join(_recording_lines())}
    for network in NETWORKS:
        made[f"rules/{alerts_file(network)}"] = "".join(_alert_lines(network))
    for suite, cases in suites().items():
        made[f"tests/{suite}.yml"] = "".join(_test_lines(MAINNET, cases))
    for network in NETWORKS[1:]:
        made[f"tests/{network.name}.yml"] = "".join(_test_lines(network, cases_of(network)))
    return made


def _expression(text: str, indent: str) -> str:
    lines = promql_parser.parse(text).prettify().splitlines()
    # The first line may be indented itself, so the depth of the block is said.
    return "|2-\n" + "".join(f"{indent}{line}\n" for line in lines)


def _quoted(text: str) -> str:
    """A double-quoted scalar; JSON's escapes are among YAML's."""
    return json.dumps(text, ensure_ascii=False)


def _recording_lines() -> Iterator[str]:
    yield f"{HEAD}groups:\n  - name: watchtower-recordings\n    interval: {INTERVAL}\n    rules:\n"
    for row in RECORDINGS:
        yield f"      - record: {row.name}\n        expr: {_expression(row.expression, ' ' * 10)}"


def _alert_lines(network: Network) -> Iterator[str]:
    yield f"{HEAD}groups:\n"
    for name, rows in groups(network).items():
        if rows:
            yield f"  - name: {name}\n    interval: {INTERVAL}\n    rules:\n"
        for alert in rows:
            yield from _alert(alert)


def _alert(alert: Alert) -> Iterator[str]:
    yield f"      - alert: {alert.name}\n        expr: {_expression(alert.expression, ' ' * 10)}"
    if alert.lasting:
        yield f"        for: {alert.lasting}\n"
    if alert.lingering:
        yield f"        keep_firing_for: {alert.lingering}\n"
    yield f"        labels:\n          severity: {alert.severity}\n        annotations:\n"
    yield f"          summary: {_quoted(alert.summary)}\n"
    if alert.description:
        yield f"          description: {_quoted(alert.description)}\n"
    yield f"          runbook_url: {alert.runbook}\n"


def _test_lines(network: Network, cases: tuple[Case, ...]) -> Iterator[str]:
    yield f"{HEAD}rule_files:\n  - ../rules/watchtower.recording.yml\n  - ../rules/{alerts_file(network)}\n"
    yield "evaluation_interval: 2m\ntests:\n"
    for case in cases:
        yield f"  - name: {_quoted(case.name)}\n    interval: 30s\n    input_series:\n"
        for name, values in case.series().items():
            yield f"      - {{series: '{name}', values: '{values}'}}\n"
        yield f"    promql_expr_test:\n      - expr: {FIRING}\n        eval_time: {case.minutes}m\n"
        yield "        exp_samples:\n"
        for alert in sorted({*case.fires, "WatchtowerDeadMansSwitch"}):
            yield f"          - {{labels: '{{alertname=\"{alert}\"}}', value: 1}}\n"


def main() -> None:
    """Write all files; a directory may be given instead of deploy/prometheus."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DIRECTORY
    for name, text in files().items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text)


if __name__ == "__main__":
    main()
