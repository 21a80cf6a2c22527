"""A real Prometheus for tests: deploy/prometheus/prometheus.yml with other addresses, by the second.

with Prometheus(tmp_path, {"watchtower": "127.0.0.1:9816"}) as prometheus:
    prometheus.wait_scraped()
    prometheus.query("watchtower_node_up")
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.programs import program
from watchtower.devnode.launch import free_ports

CONFIG = Path(__file__).parents[3] / "deploy" / "prometheus" / "prometheus.yml"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
SCRAPE_SECONDS = 1
RULE_SECONDS = 2
LOOK_AGAIN_SECONDS = 0.1
ENOUGH_SCRAPES = 3

Series = dict[str, Any]
"""`metric` (labels) and `value` or `values`, as Prometheus answers."""


class QueryFailed(Exception):
    """Prometheus refused a query; the text is its own."""


class Prometheus:
    """The process, its configuration and its data below a directory. Use as a context manager."""

    def __init__(
        self,
        directory: Path,
        targets: Mapping[str, str],
        *,
        rules: Sequence[Path] = (),
        alertmanager: str = "",
        sooner: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """`targets` are addresses by job name; `rules` are files whose groups are evaluated faster than they say.

        `alertmanager` is an address. `sooner` gives alerts by name another `for` or `keep_firing_for`.
        """
        (port,) = free_ports(1)
        directory.mkdir(parents=True, exist_ok=True)
        self.url = f"http://127.0.0.1:{port}"
        self._log = directory / "prometheus.log"
        config = directory / "prometheus.yml"
        copies = [_hastened(path, directory, sooner or {}) for path in rules]
        config.write_text(yaml.safe_dump(_configuration(targets, copies, alertmanager)))
        options = [f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}"]
        options += [f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=1d"]
        # An alert that fires before Alertmanager is known to the sender is lost, and sent again after a minute.
        options.append(f"--rules.alert.resend-delay={RULE_SECONDS}s")
        self._command = [str(program("prometheus")), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        try:
            self.wait(self._is_ready, START_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    # ── questions ────────────────────────────────────────────────────────────────────────────────────────

    def query(self, expr: str, at: float | None = None) -> list[Series]:
        """Instant query; a scalar is one series without labels. Raises `QueryFailed`."""
        when = {} if at is None else {"time": f"{at:.3f}"}
        answer = self.ask("query", {"query": expr, **when})
        if answer["resultType"] == "scalar":
            return [{"metric": {}, "value": answer["result"]}]
        found: list[Series] = answer["result"]
        return found

    def query_range(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """Range query between Unix times. Raises `QueryFailed`."""
        asked = {"query": expr, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        found: list[Series] = self.ask("query_range", asked)["result"]
        return found

    def label_values(self, label: str, selector: str) -> list[str]:
        """Values of a label among the series of a selector."""
        found = self.ask("series", {"match[]": selector})
        return sorted({each[label] for each in found if label in each})

    def firing(self) -> set[str]:
        """Names of the alerts that fire."""
        return {each["metric"]["alertname"] for each in self.query('ALERTS{alertstate="firing"}')}

    def rules(self) -> list[dict[str, Any]]:
        """All rules with `name`, `query`, `health`, `lastError`, and for alerts `state` and `alerts`."""
        return [rule for group in self.ask("rules", {})["groups"] for rule in group["rules"]]

    def ask(self, path: str, values: Mapping[str, str]) -> Any:
        """`data` of an answer of the HTTP API. Raises `QueryFailed`."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(values)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            raise QueryFailed(json.loads(error.read())["error"]) from error

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────────────

    def wait_scraped(self, seconds: float = 60.0) -> None:
        """Until every target was scraped once."""
        self.wait(lambda: {"1"} == {each["value"][1] for each in self.query("up")}, seconds)

    def wait_seen(self, seconds: float = 60.0) -> None:
        """Until what is true now was scraped often enough for a rate, and all rules have read it."""
        moment = time.time()
        self.wait(lambda: self._oldest("up") > moment + ENOUGH_SCRAPES * SCRAPE_SECONDS, seconds)
        self.wait(lambda: self._oldest("instance:watchtower_fresh:bool") > moment + RULE_SECONDS, seconds)
        self.wait(lambda: all(rule["health"] != "unknown" for rule in self.rules()), seconds)

    def _oldest(self, selector: str) -> float:
        """Unix time of the sample that is oldest among the newest of each series; 0 without any."""
        found = self.query(f"min(timestamp({selector}))")
        return float(found[0]["value"][1]) if found else 0.0

    def wait(self, predicate: Callable[[], object], seconds: float) -> None:
        """Until true; Prometheus tells nobody what it scraped, so it is asked again and again."""
        end = time.monotonic() + seconds
        while not predicate():
            ended = self._process is not None and self._process.poll() is not None
            if ended or time.monotonic() > end:
                raise AssertionError(f"Prometheus ended or was late; the end of its log:\n{self.said()}")
            time.sleep(LOOK_AGAIN_SECONDS)

    def said(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-2000:]

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def _configuration(targets: Mapping[str, str], rules: Sequence[Path], alertmanager: str) -> dict[str, Any]:
    """The repository's configuration with these addresses and rules; nothing is alerted without an `alertmanager`."""
    made: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    made["global"] |= {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{RULE_SECONDS}s"}
    made["rule_files"] = [str(path) for path in rules]
    for job in made["scrape_configs"]:
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    made["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}] if alertmanager else []
    return made


def _hastened(path: Path, directory: Path, sooner: Mapping[str, Mapping[str, str]]) -> Path:
    """A copy of a rule file whose groups have no interval of their own."""
    document = yaml.safe_load(path.read_text())
    for group in document["groups"]:
        group.pop("interval", None)
        for rule in group["rules"]:
            rule.update(sooner.get(rule.get("alert"), {}))
    copy = directory / path.name
    copy.write_text(yaml.safe_dump(document, sort_keys=False))
    return copy
