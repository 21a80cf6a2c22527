"""Alertmanager: routes, receivers and inhibition, by its own tool and alive."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.alertmanager import CONFIG, RECEIVERS, SECRETS, Alertmanager, Inbox
from tests.support.programs import program
from tests.support.rules_groups import alerts

NEVER_SILENT = re.compile("Watchtower(Breach|Penalty|FundsLost|UnexpectedSpend|OutputMissed|AnswerHindered)")
"""Alerts about money that is being taken."""

TOWER = {"job": "watchtower", "instance": "tower:9816"}


def labels(name: str, severity: str, **more: str) -> dict[str, str]:
    """Labels of one alert as Prometheus sends them."""
    return {"alertname": f"Watchtower{name}", "severity": severity, **TOWER, **more}


def configuration() -> dict[str, Any]:
    """The configuration as it is read."""
    return yaml.safe_load(CONFIG.read_text())


def matches(matcher: str, alert: dict[str, str]) -> bool:
    """Whether an alert satisfies one matcher of Alertmanager."""
    name, operator, value = re.fullmatch(r'(\w+)(=~|=)"(.*)"', matcher).groups()  # type: ignore[union-attr]
    pattern = value if operator == "=~" else re.escape(value)
    return re.fullmatch(pattern, alert.get(name, "")) is not None


def seconds(duration: str) -> int:
    """Of a duration as Prometheus writes it."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


def test_inhibitions_name_alerts_that_exist() -> None:
    """A misspelt name would inhibit nothing, silently."""
    texts = [matcher for rule in configuration()["inhibit_rules"] for each in rule.values() for matcher in each]
    named = {
        f"Watchtower{part}"
        for text in texts
        for group in re.findall(r"Watchtower\(?([\w|]+)\)?", text)
        for part in group.split("|")
    }
    assert named <= {alert.name for alert in alerts()}


def test_pages_about_money_are_never_inhibited() -> None:
    """No rule silences a page about a breach, a penalty, a loss or an unexpected spend, whatever else fires."""
    pages = [
        {"alertname": alert.name, "severity": alert.severity, "reason": "disk_low"}
        for alert in alerts()
        if NEVER_SILENT.match(alert.name) and alert.severity == "page"
    ]
    rules = configuration()["inhibit_rules"]
    silenced = [
        page["alertname"]
        for page in pages
        for rule in rules
        if all(matches(matcher, page) for matcher in rule["target_matchers"])
    ]
    assert 8 == len(pages)
    assert [] == silenced


def test_inhibition_stays_within_one_tower() -> None:
    """A node that is down silences alerts of its own tower only."""
    assert [["job", "instance"]] * 7 == [rule["equal"] for rule in configuration()["inhibit_rules"]]


def test_the_lost_node_silences_until_its_followers_have_ended() -> None:
    """After its return each is scraped, evaluated and told once more: the source must not end before that."""
    prometheus = yaml.safe_load((CONFIG.parents[1] / "prometheus" / "prometheus.yml").read_text())["global"]
    pages = next(route for route in configuration()["route"]["routes"] if route["receiver"] == "page")
    waits = (prometheus["scrape_interval"], prometheus["evaluation_interval"], pages["group_interval"])
    lost = next(alert for alert in alerts() if alert.name == "WatchtowerNodeUnreachable")
    assert seconds(lost.lingering) > sum(seconds(each) for each in waits)


def test_addresses_come_from_files() -> None:
    """No address, which is a secret, is in the configuration."""
    hooks = [hook for receiver in configuration()["receivers"] for hook in receiver["webhook_configs"]]
    assert [f"{SECRETS}/{name}-url" for name in RECEIVERS] == [hook.get("url_file") for hook in hooks]
    assert [] == [hook for hook in hooks if "url" in hook]


@pytest.mark.deploy
def test_configuration_is_valid() -> None:
    """Alertmanager's own tool takes the file and sees all parts."""
    done = subprocess.run(
        [program("amtool"), "check-config", CONFIG], capture_output=True, text=True, timeout=60, check=False
    )
    assert (0, True) == (done.returncode, "7 inhibit rules" in done.stdout), done.stdout + done.stderr


@pytest.mark.deploy
@pytest.mark.parametrize(
    ("severity", "receiver"), [("page", "page"), ("ticket", "ticket"), ("heartbeat", "heartbeat"), ("none", "ticket")]
)
def test_routes_by_severity(severity: str, receiver: str) -> None:
    """Each severity has its receiver; what has none is at least a ticket."""
    command = [program("amtool"), "config", "routes", "test", f"--config.file={CONFIG}", f"severity={severity}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (0, receiver) == (done.returncode, done.stdout.strip()), done.stderr


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    """Where messages arrive."""
    made = Inbox()
    yield made
    made.close()


@pytest.fixture
def alertmanager(tmp_path: Path, inbox: Inbox) -> Iterator[Alertmanager]:
    """A running Alertmanager with our configuration."""
    with Alertmanager(tmp_path, inbox) as running:
        yield running


def delivered(message: dict[str, Any]) -> set[tuple[str, str]]:
    """Names and states of the alerts in one message."""
    return {(each["labels"]["alertname"], each["status"]) for each in message["alerts"]}


@pytest.mark.deploy
def test_breach_passes_what_the_node_silences(alertmanager: Alertmanager, inbox: Inbox) -> None:
    """With the node away its followers are suppressed, those of another tower and breaches are delivered."""
    alertmanager.post(labels("NodeUnreachable", "page"), labels("StorageCritical", "page"))
    first = {name for _ in range(2) for name, _state in delivered(inbox.next("page"))}
    alertmanager.post(
        *(labels(name, "page") for name in ("BreachOpen", "BreachDeadlineAtRisk", "FundsLost", "UnexpectedSpend")),
        *(labels(name, "page") for name in ("ChainLag", "NotWatching", "TipStale", "CanaryStale")),
        *(labels(name, "ticket") for name in ("ZmqSilent", "ZmqDegraded", "RpcErrors", "NodeFewPeers", "StorageLow")),
        labels("NotReady", "page", reason="disk_low"),
        labels("StorageFillingUp", "ticket"),
        labels("EventLoopLag", "ticket", instance="other:9816"),
    )
    later = {name for _ in range(4) for name, _state in delivered(inbox.next("page"))}
    states = alertmanager.states()
    suppressed = {name.removeprefix("Watchtower") for name, state in states.items() if state == "suppressed"}
    followers = {"ChainLag", "NotWatching", "TipStale", "CanaryStale", "ZmqSilent", "ZmqDegraded", "RpcErrors"}
    assert {"WatchtowerNodeUnreachable", "WatchtowerStorageCritical"} == first
    assert followers | {"NodeFewPeers", "StorageLow", "NotReady"} == suppressed
    assert {
        f"Watchtower{name}" for name in ("BreachOpen", "BreachDeadlineAtRisk", "FundsLost", "UnexpectedSpend")
    } == later


@pytest.mark.deploy
def test_tower_that_is_down_silences_its_tickets(alertmanager: Alertmanager, inbox: Inbox) -> None:
    """Nobody reads tickets of a tower that is gone; its other pages and the tickets of other towers stay."""
    alertmanager.post(labels("Down", "page"))
    inbox.next("page")
    alertmanager.post(
        labels("BackupStale", "ticket"),
        labels("BreachUnanswered", "page"),
        labels("ApiSlow", "ticket", instance="other:9816"),
    )
    page, ticket = inbox.next("page"), inbox.next("ticket")
    assert {("WatchtowerBreachUnanswered", "firing")} == delivered(page)
    assert {("WatchtowerApiSlow", "firing")} == delivered(ticket)
    assert "suppressed" == alertmanager.states()["WatchtowerBackupStale"]


@pytest.mark.deploy
def test_heartbeat_goes_its_own_way(alertmanager: Alertmanager, inbox: Inbox) -> None:
    """The dead man's switch reaches the service that alarms when it stops, and nobody else."""
    alertmanager.post({"alertname": "WatchtowerDeadMansSwitch", "severity": "heartbeat"})
    message = inbox.next("heartbeat")
    assert ("heartbeat", {("WatchtowerDeadMansSwitch", "firing")}) == (message["receiver"], delivered(message))
