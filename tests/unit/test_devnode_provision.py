"""Where bitcoind comes from, with made-up programs and source lists; nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from watchtower.devnode import debian, provision
from watchtower.devnode.provision import NodeNotFound, find

VERSION_LINE = "Bitcoin Core daemon version v29.1.0"


def program(path: Path, version: str = VERSION_LINE, code: int = 0) -> Path:
    """An executable that answers `-version`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{version}'\nexit {code}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """No node anywhere, and no network."""
    monkeypatch.setattr(debian, "architecture", lambda: "amd64")
    monkeypatch.setattr(debian, "unpack", lambda *_: pytest.fail("a download was started"))
    return {"HOME": str(tmp_path), "PATH": str(tmp_path / "bin"), "STATE_CHANNEL_OFFLINE": "1"}


def cached(home: Path) -> Path:
    """A complete cache."""
    tree = home / ".cache" / "state-channel-watchtower" / "node" / "debian-forky-amd64"
    path = program(tree / "bin" / "bitcoind", "Bitcoin Knots daemon version v29.4.2.knots")
    (tree / debian.MANIFEST).write_text(json.dumps({}))
    return path


def test_variable_comes_first(environment: dict[str, str], tmp_path: Path) -> None:
    """BITCOIND wins over PATH and cache."""
    mine = program(tmp_path / "mine" / "node")
    program(tmp_path / "bin" / "bitcoind")
    cached(tmp_path)

    found = find(environment={**environment, "BITCOIND": str(mine)})

    assert (mine, "BITCOIND", VERSION_LINE) == (found.path, found.origin, found.version)


@pytest.mark.parametrize("value", ["", "/nowhere/bitcoind", "bitcoind"])
def test_wrong_variable_is_an_error(environment: dict[str, str], tmp_path: Path, value: str) -> None:
    """A wrong BITCOIND never falls through to another node."""
    program(tmp_path / "bin" / "bitcoind")

    with pytest.raises(NodeNotFound, match="BITCOIND="):
        find(environment={**environment, "BITCOIND": value})


@pytest.mark.parametrize(
    ("version", "code", "reason"),
    [
        ("something else", 0, "does not answer"),
        ("Bitcoin Core version v22.0.0", 0, "or later"),
        ("x", 1, "cannot be run"),
    ],
)
def test_unusable_variable_is_an_error(
    environment: dict[str, str], tmp_path: Path, version: str, code: int, reason: str
) -> None:
    """A program that is no bitcoind, too old, or does not run is named as such."""
    path = program(tmp_path / "odd", version, code)

    with pytest.raises(NodeNotFound, match=reason):
        find(environment={**environment, "BITCOIND": str(path)})


def test_path_comes_second(environment: dict[str, str], tmp_path: Path) -> None:
    """A bitcoind on PATH wins over the cache."""
    path = program(tmp_path / "bin" / "bitcoind")
    cached(tmp_path)

    found = find(environment=environment)

    assert (path, "PATH") == (found.path, found.origin)


def test_too_old_node_on_path_is_passed_over(environment: dict[str, str], tmp_path: Path) -> None:
    """An old installation does not hide the cache, and the explanation says so."""
    program(tmp_path / "bin" / "bitcoind", "Bitcoin Core version v22.0.0")
    path = cached(tmp_path)
    lines: list[str] = []

    found = find(environment=environment, explain=lines.append)

    assert (path, "cache") == (found.path, found.origin)
    assert any("v22.0.0" in line and "28 or later" in line for line in lines)


def test_cache_without_manifest_is_not_used(environment: dict[str, str], tmp_path: Path) -> None:
    """A tree that is not complete is as good as none."""
    (cached(tmp_path).parents[1] / debian.MANIFEST).unlink()

    with pytest.raises(NodeNotFound, match="switched off"):
        find(environment=environment)


def test_failure_names_reason_and_ways_out(environment: dict[str, str]) -> None:
    """Without a node the text gives three ways out and both variables."""
    with pytest.raises(NodeNotFound) as caught:
        find(environment=environment)

    for word in ("BITCOIND", "PATH", "Debian", "STATE_CHANNEL_OFFLINE", "STATE_CHANNEL_REQUIRE_NODE", "MIRROR"):
        assert word in str(caught.value)


def test_download_happens_once_and_is_found_again(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call unpacks with the configured mirror, the second finds the cache."""
    requests: list[debian.Request] = []

    def unpack(request: debian.Request, target: Path) -> None:
        requests.append(request)
        assert cached(tmp_path).parents[1] == target

    monkeypatch.setattr(debian, "unpack", unpack)
    online = {**environment, "STATE_CHANNEL_OFFLINE": "", "STATE_CHANNEL_DEBIAN_MIRROR": "http://mirror.example/debian"}

    first, second = find(environment=online), find(environment=online)

    assert ("download", "cache") == (first.origin, second.origin)
    assert ["http://mirror.example/debian"] == [request.mirror for request in requests]
    assert provision.PACKAGES == requests[0].packages


def test_failed_download_keeps_apts_words(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason of the archive stands before the ways out."""

    def unpack(_request: debian.Request, _target: Path) -> None:
        raise debian.ArchiveError("E: The repository is not signed.")

    monkeypatch.setattr(debian, "unpack", unpack)

    with pytest.raises(NodeNotFound, match="is not signed"):
        find(environment=environment, offline=False)


DEB822 = """\
# a comment
Types: deb
URIs: https://deb.example.org/node
Suites: nodistro
Components: main

Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("sources.list.d/debian.sources", DEB822, "http://mirror.example/debian"),
        ("sources.list.d/debian.sources", DEB822.replace("Types: deb deb-src", "Enabled: no\nTypes: deb"), None),
        (
            "sources.list",
            "deb [arch=amd64 signed-by=/x] http://one.example/debian bookworm main\n",
            "http://one.example/debian",
        ),
        ("sources.list", "deb http://one.example/debian/ bookworm main # ours\n", "http://one.example/debian"),
        ("sources.list", "# deb http://one.example/debian bookworm main\n", None),
        ("sources.list", "deb-src http://one.example/debian bookworm main\n", None),
        ("sources.list", "deb cdrom:[Debian] bookworm main\n", None),
        ("sources.list", "deb https://docker.example/linux/debian bookworm stable\n", None),
        ("sources.list", "deb http://security.example/debian-security bookworm-security main\n", None),
        ("sources.list", "deb\ndeb [\n", None),
    ],
)
def test_archive_is_the_hosts_own(tmp_path: Path, name: str, text: str, expected: str | None) -> None:
    """The host's Debian source is used in both formats; other vendors' sources are not taken for it."""
    (tmp_path / "os-release").write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')
    path = tmp_path / "apt" / name
    path.parent.mkdir(parents=True)
    path.write_text(text)

    assert (expected or debian.PUBLIC_ARCHIVE) == debian.host_archive(tmp_path)


def test_host_without_sources_uses_the_public_archive(tmp_path: Path) -> None:
    """No file, no failure."""
    assert debian.PUBLIC_ARCHIVE == debian.host_archive(tmp_path)
