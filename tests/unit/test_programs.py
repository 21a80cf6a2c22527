"""Where the programs of the deploy checks come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import programs
from tests.support.programs import AREAS, PROGRAMS, ProgramNotFound, find_program
from watchtower.devnode import debian
from watchtower.devnode.provision import cache_root


def executable(path: Path, script: str = "") -> Path:
    """A shell script at the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def cached(env: dict[str, str], area: str) -> Path:
    """A finished tree of the area in the cache."""
    tree = cache_root(env) / area / f"debian-{debian.SUITE}-{debian.architecture()}"
    tree.mkdir(parents=True)
    (tree / debian.MANIFEST).write_text("{}")
    return tree


def test_path_comes_first(tmp_path: Path) -> None:
    """A program of the host is used before anything is downloaded."""
    own = executable(tmp_path / "bin" / "promtool")
    assert own == find_program("promtool", {"PATH": str(own.parent), "XDG_CACHE_HOME": str(tmp_path)})


def test_second_name_counts(tmp_path: Path) -> None:
    """Debian calls Alertmanager by another name than its makers do."""
    own = executable(tmp_path / "bin" / "prometheus-alertmanager", "echo alertmanager, version 0.26.0")
    assert own == find_program("alertmanager", {"PATH": str(own.parent), "XDG_CACHE_HOME": str(tmp_path)})


@pytest.mark.parametrize("said", ["amtool, version 0.25.0", "what?"])
def test_old_program_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """A program of the host that cannot read our files, or does not tell its version, is not used."""
    monkeypatch.setattr(debian, "architecture", lambda: "amd64")
    own = executable(tmp_path / "bin" / "amtool", f"echo '{said}'")
    env = {"PATH": str(own.parent), "XDG_CACHE_HOME": str(tmp_path), "STATE_CHANNEL_OFFLINE": "1"}
    with pytest.raises(ProgramNotFound):
        find_program("amtool", env)


def test_alertmanager_reads_the_templates_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The absolute path inside Debian's program becomes a relative one of the same length, once."""
    monkeypatch.setattr(debian, "architecture", lambda: "amd64")
    env = {"PATH": "", "XDG_CACHE_HOME": str(tmp_path)}
    tree = cached(env, "alertmanager")
    wrapper = executable(tree / "bin" / "prometheus-alertmanager", "here=/tree\nexec loader")
    inside = tree / "usr" / "bin" / "prometheus-alertmanager"
    inside.parent.mkdir(parents=True)
    inside.write_bytes(b"read /usr/share/prometheus/alertmanager/default.tmpl")
    assert [wrapper, wrapper] == [find_program("alertmanager", env), find_program("alertmanager", env)]
    assert b"read usr/share/prometheus/alertmanager//default.tmpl" == inside.read_bytes()
    assert '#!/bin/sh\nhere=/tree\ncd -- "$here"\nexec loader\n' == wrapper.read_text()


def test_cache_comes_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was unpacked before is used without a download, also when downloads are forbidden."""
    monkeypatch.setattr(debian, "architecture", lambda: "amd64")
    env = {"PATH": "", "XDG_CACHE_HOME": str(tmp_path), "STATE_CHANNEL_OFFLINE": "1"}
    wrapper = executable(cached(env, "kubernetes") / "bin" / "kubectl")
    assert wrapper == find_program("kubectl", env)


def test_offline_without_cache_says_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason, the names to install and the variable are in the text."""
    monkeypatch.setattr(debian, "architecture", lambda: "amd64")
    env = {"PATH": "", "XDG_CACHE_HOME": str(tmp_path), "STATE_CHANNEL_OFFLINE": "1"}
    with pytest.raises(
        ProgramNotFound, match=r"no usable amtool .*STATE_CHANNEL_OFFLINE forbids(.|\n)*amtool is on PATH"
    ):
        find_program("amtool", env)


def test_download_asks_for_the_packages_of_the_area(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages of one area are unpacked once, into a directory of its own, from the mirror that is named."""
    asked: list[tuple[debian.Request, Path]] = []

    def unpack(request: debian.Request, target: Path) -> None:
        asked.append((request, target))
        executable(target / "bin" / "promtool")
        (target / debian.MANIFEST).write_text("{}")

    monkeypatch.setattr(debian, "architecture", lambda: "amd64")
    monkeypatch.setattr(debian, "unpack", unpack)
    env = {"PATH": "", "XDG_CACHE_HOME": str(tmp_path), "STATE_CHANNEL_DEBIAN_MIRROR": "http://mirror"}
    found = [find_program("promtool", env), find_program("promtool", env)]
    tree = tmp_path / "state-channel-watchtower" / "prometheus" / f"debian-{debian.SUITE}-amd64"
    assert [tree / "bin" / "promtool"] * 2 == found
    assert [(debian.Request(("prometheus",), mirror="http://mirror"), tree)] == asked


def test_libraries_beside_the_loader_are_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd keeps its libraries in a directory that the packaged loader does not search."""
    monkeypatch.setattr(debian, "architecture", lambda: "amd64")
    env = {"PATH": "", "XDG_CACHE_HOME": str(tmp_path)}
    tree = cached(env, "systemd")
    executable(tree / "bin" / "systemd-analyze")
    library = executable(tree / "usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-1.so")
    find_program("systemd-analyze", env)
    assert library == (tree / "usr/lib/x86_64-linux-gnu/libsystemd-shared-1.so").resolve()


@pytest.mark.parametrize(("required", "outcome"), [("0", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_missing_program_skips_or_fails(
    monkeypatch: pytest.MonkeyPatch, required: str, outcome: type[BaseException]
) -> None:
    """Without the program its test is skipped; where everything is required, it fails."""

    def missing(name: str) -> Path:
        raise ProgramNotFound(name)

    monkeypatch.setattr(programs, "find_program", missing)
    monkeypatch.setenv("STATE_CHANNEL_REQUIRE_NODE", required)
    with pytest.raises(outcome):
        programs.program.__wrapped__("promtool")


def test_every_program_has_its_area() -> None:
    """No program names an area that does not exist, and no area is left over."""
    assert set(AREAS) == {each.area for each in PROGRAMS.values()}
