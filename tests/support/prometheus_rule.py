"""The rules as one object of Prometheus Operator: python -m tests.support.prometheus_rule FILE."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.rules import MAINNET
from tests.support.rules_files import HEAD, alerts_file, files

RECORDINGS = "rules/watchtower.recording.yml"
ALERTS = f"rules/{alerts_file(MAINNET)}"

_BEGIN = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: watchtower
  labels:
    app.kubernetes.io/name: watchtower
spec:
  groups:
"""


def prometheus_rule() -> str:
    """The manifest with the recording rules and the alerts of mainnet, group by group as in deploy/prometheus."""
    made = files()
    return HEAD + _BEGIN + "".join([*_groups(made[RECORDINGS]), *_groups(made[ALERTS])])


def _groups(text: str) -> Iterator[str]:
    _, _, groups = text.partition("groups:\n")
    for line in groups.splitlines():
        yield f"  {line}\n" if line else "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(prometheus_rule())
