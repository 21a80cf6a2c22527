"""The manifests as kubectl renders them: schemas, policies, and our own rules with planted mistakes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployment import (
    ADMIN_PORT,
    DEPLOY,
    OVERLAYS,
    Document,
    checkov,
    documents,
    image_findings,
    kustomized,
    linter,
    settings_of,
    unknown_settings,
)
from tests.support.prometheus_rule import prometheus_rule

KUSTOMIZE = DEPLOY / "kustomize"
CUSTOM = {"ServiceMonitor", "PrometheusRule"}
"""Kinds of Prometheus Operator: no schema of them comes with Kubernetes."""

SKIPPED = {
    "CKV_K8S_43": "no image is published yet, so there is no digest; components/image says where it goes",
    "CKV_K8S_15": "Always would make a start of the tower depend on a registry; the tag does not move",
}

pytestmark = pytest.mark.deploy


def the(kind: str, rendered: list[Document], name: str = "") -> Document:
    """The one object of a kind."""
    (found,) = [each for each in rendered if each["kind"] == kind and name in each["metadata"]["name"]]
    return found


def pod(rendered: list[Document]) -> dict[str, Any]:
    """The pod of the one stateful set."""
    found: dict[str, Any] = the("StatefulSet", rendered)["spec"]["template"]["spec"]
    return found


def containers(rendered: list[Document]) -> list[dict[str, Any]]:
    """All of them, those that only prepare included."""
    return [*pod(rendered)["initContainers"], *pod(rendered)["containers"]]


def findings(rendered: list[Document]) -> Iterator[str]:
    """Against our own rules."""
    spec, inside = pod(rendered), containers(rendered)
    yield from image_findings(each["image"] for each in inside)
    if len({each["image"] for each in inside}) != 1:
        yield "the containers run different images"
    if the("StatefulSet", rendered)["spec"]["replicas"] != 1:
        yield "there is more than one tower"
    if spec.get("enableServiceLinks") is not False:
        yield "the cluster puts variables into the pod that look like settings"
    yield from (f"{each['metadata']['name']} would look like a setting" for each in rendered if _like_a_setting(each))
    yield from (f"{each['name']} is of the host" for each in spec["volumes"] if "hostPath" in each)
    tower = spec["containers"][0]
    probes = {name: tower[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    if probes != {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}:
        yield f"liveness depends on the node: {probes}"
    for each in inside:
        yield from (f"{each['name']}: {name} is no setting" for name in unknown_settings(variables_of(each, rendered)))
    yield from _opened(rendered)


def _like_a_setting(document: Document) -> bool:
    return bool(document["kind"] == "Service" and document["metadata"]["name"].startswith("state-channel"))


def _opened(rendered: list[Document]) -> Iterator[str]:
    for service in (each for each in rendered if each["kind"] == "Service"):
        inner = service["spec"].get("clusterIP") == "None"
        ports = {str(port["port"]) for port in service["spec"]["ports"]}
        if service["spec"].get("type", "ClusterIP") != "ClusterIP" or (ADMIN_PORT in ports and not inner):
            yield f"{service['metadata']['name']} publishes {sorted(ports)}"


def variables_of(container: dict[str, Any], rendered: list[Document]) -> dict[str, str]:
    """What the container sees in its environment."""
    found: dict[str, str] = {}
    for each in container.get("envFrom", ()):
        found |= the("ConfigMap", rendered, each["configMapRef"]["name"])["data"]
    return found | {each["name"]: each["value"] for each in container.get("env", ())}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_schemas_hold(overlay: str, tmp_path: Path) -> None:
    """Strictly; only the kinds of Prometheus Operator have none."""
    (tmp_path / "all.yaml").write_text(kustomized(overlay))

    done = linter("kubernetes-validate", "--strict", tmp_path / "all.yaml")
    unknown = set(re.findall(r"schema for kind (\w+)", done.stdout + done.stderr))

    assert 0 == done.returncode, done.stdout + done.stderr
    assert (CUSTOM if overlay == "monitoring" else set()) == unknown


def test_the_schemas_find_a_planted_mistake(tmp_path: Path) -> None:
    """A field that does not exist."""
    text = kustomized("sqlite")
    (tmp_path / "all.yaml").write_text(text.replace("enableServiceLinks:", "enableServiceLink:"))

    done = linter("kubernetes-validate", "--strict", tmp_path / "all.yaml")

    assert (1, True) == (done.returncode, "enableServiceLink" in done.stdout + done.stderr)


def test_the_policies_hold_and_find_planted_mistakes(tmp_path: Path) -> None:
    """All overlays, without two rules that cannot hold here; beside them a privileged container with an open root."""
    for overlay in OVERLAYS:
        (tmp_path / f"{overlay}.yaml").write_text(kustomized(overlay))
    text = kustomized("sqlite").replace("allowPrivilegeEscalation: false", "privileged: true")
    planted = text.replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false")
    (tmp_path / "planted.yaml").write_text(planted)

    failed = checkov(tmp_path, "kubernetes", SKIPPED)

    assert ["planted.yaml"] == list(failed), failed
    assert {"CKV_K8S_16", "CKV_K8S_20", "CKV_K8S_22"} <= failed["planted.yaml"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_our_rules_hold(overlay: str) -> None:
    """One tower, one image, nothing of the host, nothing published but the API, and only settings that exist."""
    assert [] == list(findings(documents(kustomized(overlay))))


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("enableServiceLinks: false", "enableServiceLinks: true", "look like settings"),
        ("  replicas: 1", "  replicas: 2", "more than one tower"),
        ("path: /healthz", "path: /readyz", "liveness depends on the node"),
        (":0.1.0", ":latest", "a tag that moves"),
        ("emptyDir:\n          sizeLimit: 64Mi", "hostPath:\n          path: /tmp", "tmp is of the host"),
        ("STATE_CHANNEL_NODE__RPC_USER", "STATE_CHANNEL_NODE__RPC_NAME", "RPC_NAME is no setting"),
        ("    port: 9815", "    port: 9816", "publishes ['9816']"),
        ("type: ClusterIP", "type: LoadBalancer", "publishes ['9815']"),
    ],
)
def test_our_rules_find_planted_mistakes(old: str, new: str, finding: str) -> None:
    """Each rule fires on the rendered text with one change."""
    text = kustomized("sqlite")
    assert old in text
    assert [] != [each for each in findings(documents(text.replace(old, new))) if finding in each]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_environment_alone_is_a_configuration(overlay: str, tmp_path: Path) -> None:
    """Of each container that gets settings."""
    rendered = documents(kustomized(overlay))
    every = [settings_of(variables_of(each, rendered), tmp_path) for each in containers(rendered)]

    assert {"mainnet"} == {settings.network for settings in every}
    assert (overlay == "postgres") is every[-1].store_on_server
    assert ("0.0.0.0:9816" if overlay == "monitoring" else "127.0.0.1:9816") == every[-1].admin.listen


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secrets_are_described(overlay: str) -> None:
    """Each secret that a pod mounts, and each file of it that a setting names."""
    rendered = documents(kustomized(overlay))
    described = {
        each["metadata"]["name"]: each["stringData"]
        for each in documents((KUSTOMIZE / "secrets.example.yaml").read_text())
    }
    volumes = {each["name"]: each["secret"]["secretName"] for each in pod(rendered)["volumes"] if "secret" in each}
    files = {
        f"{mount['mountPath']}/{key}"
        for each in containers(rendered)
        for mount in each["volumeMounts"]
        if mount["name"] in volumes
        for key in described[volumes[mount["name"]]]
    }
    named = {
        value
        for each in containers(rendered)
        for name, value in variables_of(each, rendered).items()
        if name.endswith("_FILE")
    }

    assert set() == named - files
    assert set() == set(volumes.values()) - set(described)


def test_the_database_is_ready_before_the_tower() -> None:
    """Schema first, then the check for a first start; only the first of them sees the owner's password."""
    rendered = documents(kustomized("postgres"))
    sees = [each["name"] for each in containers(rendered) if "owner" in [m["name"] for m in each["volumeMounts"]]]

    assert ["migrate", "first-start"] == [each["name"] for each in pod(rendered)["initContainers"]]
    assert ["migrate"] == sees


def test_the_monitor_finds_the_metrics() -> None:
    """Labels, port and the name of the job that the rules select by."""
    rendered = documents(kustomized("monitoring"))
    monitor, service = the("ServiceMonitor", rendered)["spec"], the("Service", rendered, "metrics")
    labels = service["metadata"]["labels"]

    assert {} == {key: value for key, value in monitor["selector"]["matchLabels"].items() if labels.get(key) != value}
    assert "watchtower" == labels[monitor["jobLabel"]]
    assert [each["port"] for each in monitor["endpoints"]] == [each["name"] for each in service["spec"]["ports"]]
    assert (
        service["spec"]["selector"].items() <= the("StatefulSet", rendered)["spec"]["selector"]["matchLabels"].items()
    )


def test_the_rules_are_those_of_prometheus() -> None:
    """`make pages` writes the object; it is never edited."""
    assert prometheus_rule() == (KUSTOMIZE / "components" / "monitoring" / "prometheusrule.yaml").read_text()
