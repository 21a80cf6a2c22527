"""What the tests of deploy/ share: its files, the linters of the environment, and the findings of our own rules."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.programs import missing, program
from watchtower.config import load
from watchtower.config.fields import PREFIX, all_fields
from watchtower.config.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHECKOV = ROOT / ".venv-policy" / "bin" / "checkov"
OVERLAYS = ("sqlite", "postgres", "monitoring")
ADMIN_PORT = "9816"

Document = dict[str, Any]


def linter(name: str, *words: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a linter of the test environment; `text` is its standard input."""
    command = [str(Path(sys.executable).parent / name), *map(str, words)]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, cwd=ROOT)


def checkov(directory: Path, framework: str, skip: Iterable[str]) -> dict[str, set[str]]:
    """Policies over all files of a directory, without the network: file -> checks that failed; `skip` names checks.

    It takes seconds to start: give it good files and planted mistakes at once.
    """
    if not CHECKOV.is_file():
        missing("checkov is not there; `make check-deploy` puts it into .venv-policy")
    words = [str(CHECKOV), "--quiet", "--compact", "--skip-download", "-o", "json", "-d", str(directory)]
    words += ["--framework", framework, "--skip-check", ",".join(skip)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=directory)
    found: dict[str, set[str]] = {}
    for each in json.loads(done.stdout)["results"]["failed_checks"]:
        found.setdefault(each["file_path"].removeprefix("/"), set()).add(each["check_id"])
    return found


def make_secrets(directory: Path) -> Path:
    """Run compose's script beside copies of what it needs; returns the directory of the secrets."""
    openssl = program("openssl")
    shutil.copy(DEPLOY / "compose" / "make-secrets", directory)
    path = f"{os.environ['PATH']}:{openssl.parent}"
    script = str(directory / "make-secrets")
    subprocess.run([script], check=True, capture_output=True, cwd="/", env=os.environ | {"PATH": path})
    return directory / "secrets"


@functools.cache
def kustomized(overlay: str) -> str:
    """What `kubectl kustomize` makes of an overlay."""
    command = [str(program("kubectl")), "kustomize", str(DEPLOY / "kustomize" / "overlays" / overlay)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def documents(text: str) -> list[Document]:
    """The documents of a YAML stream."""
    return [document for document in yaml.safe_load_all(text) if document]


def read_yaml(path: Path) -> Document:
    """The one document of a file below deploy/ or anywhere."""
    (document,) = documents(path.read_text())
    return document


def yaml_files() -> list[Path]:
    """Every YAML file below deploy/."""
    return sorted(path for path in DEPLOY.rglob("*") if path.suffix in (".yml", ".yaml"))


def shell_scripts() -> list[Path]:
    """Every shell script below deploy/, known by its first line or its name."""
    files = (path for path in DEPLOY.rglob("*") if path.is_file() and "secrets" not in path.parts)
    return sorted(path for path in files if path.suffix == ".sh" or path.read_bytes().startswith(b"#!/bin/sh"))


def substituted(text: str, variables: Mapping[str, str]) -> str:
    """A value of a compose file as the engine would read it: `${NAME}`, `${NAME:-default}`, `${NAME:?reason}`."""

    def value(match: re.Match[str]) -> str:
        return variables.get(match["name"]) or match["default"] or ""

    return re.sub(r"\$\{(?P<name>\w+)(?::[-?](?P<default>[^}]*))?\}", value, text)


def unknown_settings(names: Iterable[str]) -> list[str]:
    """Those of our variables that the program would refuse."""
    variables = [name for field in all_fields() for name in (field.variable, field.variable_alias) if name]
    known = {*variables, *(f"{name}_FILE" for name in variables)}
    return sorted(name for name in names if name.startswith(PREFIX) and name not in known)


def settings_of(environment: Mapping[str, str], tmp_path: Path) -> Settings:
    """The settings that an environment alone gives; files of secrets are replaced by one that exists."""
    secret = tmp_path / "secret"
    secret.write_text("of no use\n")
    given = {name: str(secret) if name.endswith("_FILE") else value for name, value in environment.items()}
    return load(given, home=tmp_path, read_file=False).settings


def image_findings(images: Iterable[str]) -> Iterator[str]:
    """Images without a tag, or with one that moves."""
    for image in images:
        _, _, tag = image.partition("@")[0].rpartition("/")[2].partition(":")
        if not tag:
            yield f"{image} has no tag"
        elif tag in ("latest", "stable", "main", "master", "edge"):
            yield f"{image} has a tag that moves"
