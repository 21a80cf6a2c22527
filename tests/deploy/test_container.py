"""The image: linters, our own rules, and the script that makes the first tower."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deployment import DEPLOY, ROOT, checkov, linter, shell_scripts, yaml_files

DOCKERFILES = (DEPLOY / "container" / "Dockerfile", DEPLOY / "compose" / "tor" / "Dockerfile")
FIRST_START = DEPLOY / "container" / "first-start"
SKIPPED = {
    "CKV_DOCKER_7": "does not look into the ARG that names the base; test_the_base_has_a_tag does",
}

pytestmark = pytest.mark.deploy


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    """Not even a hint."""
    done = linter("hadolint", path)
    assert (0, "") == (done.returncode, done.stdout)


def test_hadolint_finds_planted_mistakes() -> None:
    """A tag that moves, a shell form and a package without a version are found."""
    done = linter("hadolint", "-", text="FROM python:latest\nRUN apt-get install curl\nCMD watchtower run\n")
    assert 1 == done.returncode
    assert {"DL3007", "DL3008", "DL3025"} <= set(re.findall(r"DL\d{4}", done.stdout))


def test_policies_of_images_hold_and_find_planted_mistakes(tmp_path: Path) -> None:
    """Both Dockerfiles, without one rule that cannot see what it asks for; beside them a careless image of root."""
    texts = {path.parent.name: path.read_text() for path in DOCKERFILES}
    texts["planted"] = "FROM debian:12\nEXPOSE 22\nUSER root\n"
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "Dockerfile").write_text(text)

    failed = checkov(tmp_path, "dockerfile", SKIPPED)

    assert ["planted/Dockerfile"] == list(failed), failed
    assert {"CKV_DOCKER_1", "CKV_DOCKER_2", "CKV_DOCKER_8"} <= failed["planted/Dockerfile"]


def test_the_image_is_as_the_documents_say() -> None:
    """Any user but root, one volume, signals, health, labels, hashes, and nothing that asks the network."""
    text = DOCKERFILES[0].read_text()
    code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    final = code.rpartition("FROM ")[2]

    for wanted in (
        "USER 10001:10001",
        "VOLUME /data",
        "STOPSIGNAL SIGTERM",
        'CMD ["watchtower", "health"]',
        'ENTRYPOINT ["watchtower"]',
        "org.opencontainers.image.revision",
        "chmod 1777 /data /backups",
    ):
        assert wanted in final
    assert 2 == code.count("--require-hashes")
    assert [] == re.findall(r"curl|wget|apt-get|chown", code)
    assert ADMIN not in re.findall(r"EXPOSE (\d+)", code)


ADMIN = "9816"


def test_the_base_has_a_tag() -> None:
    """3.11 to 3.13, because coincurve has no wheel for 3.14."""
    bases = [re.findall(r"^ARG \w+_IMAGE=(\S+)$", path.read_text(), re.MULTILINE) for path in DOCKERFILES]
    names = [name for found in bases for name in found]

    assert 2 == len(names)
    assert re.search(r"/python:3\.1[123]-slim", names[0])
    assert [] == [name for name in names if ":" not in name or name.endswith(":latest")]


def test_the_build_sees_only_what_it_needs() -> None:
    """Everything is shut out first, and what is let in exists and is copied."""
    lines = (DEPLOY / "container" / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    let_in = [rule[1:] for rule in rules if rule.startswith("!")]
    copied = " ".join(re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILES[0].read_text(), re.MULTILINE)).split()

    assert "*" == rules[0]
    assert [] == [name for name in let_in if not (ROOT / name).exists()]
    assert [] == [name for name in let_in if name not in copied]


@pytest.mark.parametrize("path", shell_scripts(), ids=lambda path: path.name)
def test_shellcheck_finds_nothing(path: Path) -> None:
    """In any script of deploy/."""
    done = linter("shellcheck", path)
    assert (0, "") == (done.returncode, done.stdout)


def test_shellcheck_finds_a_planted_mistake() -> None:
    """A word that is split."""
    done = linter("shellcheck", "-", text="#!/bin/sh\nrm -r $1\n")
    assert (1, True) == (done.returncode, "SC2086" in done.stdout)


def test_yamllint_finds_nothing() -> None:
    """In any YAML file of deploy/."""
    done = linter("yamllint", "--strict", "-c", ROOT / "tests" / "deploy" / "yamllint.yaml", *yaml_files())
    assert (0, "") == (done.returncode, done.stdout)


def test_yamllint_finds_planted_mistakes() -> None:
    """A key twice, and a word that YAML takes for a truth value."""
    words = ("--strict", "-c", ROOT / "tests" / "deploy" / "yamllint.yaml", "-")
    done = linter("yamllint", *words, text="a: yes\na: b\n")
    assert 1 == done.returncode
    assert {"truthy", "key-duplicates"} <= set(re.findall(r"\((\S+)\)", done.stdout))


def first_start(home: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script with the command of this environment."""
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_DATA_HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "STATE_CHANNEL_NETWORK": "regtest",
        **variables,
    }
    return subprocess.run([str(FIRST_START), *words], env=environ, capture_output=True, text=True, check=False)


def test_a_missing_tower_is_an_error_until_it_is_asked_for(tmp_path: Path) -> None:
    """A volume that went missing does not become a new, empty tower."""
    done = first_start(tmp_path, "echo", "started")
    assert (2, "", True) == (done.returncode, done.stdout, "right volume?" in done.stderr)
    assert [] == list(tmp_path.iterdir())


def test_the_first_start_makes_a_tower_and_the_second_leaves_it_alone(tmp_path: Path) -> None:
    """Then it becomes the command; no secret is printed."""
    first = first_start(tmp_path, "echo", "started", WATCHTOWER_FIRST_START="make")
    home = tmp_path / "state-channel-watchtower"
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    second = first_start(tmp_path, "echo", "started")

    assert (0, "started\n", True) == (first.returncode, first.stdout, "tower_id" in first.stderr)
    assert (0, "started\n", "") == (second.returncode, second.stdout, second.stderr)
    assert before == {path.name: path.read_bytes() for path in home.iterdir()}
    assert {"config.toml", "events.db", "keystore", "tower.key"} <= set(before)
    assert (home / "api.token").read_text().strip() not in first.stderr
