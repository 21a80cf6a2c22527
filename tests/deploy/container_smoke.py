"""`make container-smoke`: build the image, run it closed beside a regtest node, and look at it as an engine would.

Needs root on a Debian-family host. buildah, podman, runc and mmdebstrap come from the host or, without installing
anything, from Debian's packages of the host's own release: they are laid under /usr and /etc in a mount namespace of
their own, where they find their libraries and each other. The base is Debian's own Python instead of Docker's image,
because no registry is asked for anything. Writes build/container.json.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.support.deployment import ROOT
from watchtower.devnode import debian
from watchtower.devnode.launch import free_ports
from watchtower.devnode.provision import cache_root, locked
from watchtower.devnode.regtest import RegtestNode

SUITE = "bookworm"
PACKAGES = ("buildah", "podman", "runc", "mmdebstrap")
BASE, IMAGE = "localhost/python:debian", "localhost/state-channel-watchtower:smoke"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
CLOSED = ("--read-only", "--cap-drop=all", "--security-opt", "no-new-privileges", "--network", "host")

_OVERLAID = """
mount -t overlay overlay -o lowerdir=/usr:"$1"/usr /usr
mount -t overlay overlay -o lowerdir=/etc:"$1"/etc /etc
shift
exec "$@"
"""


class Tools:
    """The four programs, from the host or overlaid; storage in a directory that ends with the smoke test."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._tree = None if all(shutil.which(name) for name in PACKAGES) else _tree()
        storage = f'[storage]\ndriver = "vfs"\ngraphroot = "{work}/store"\nrunroot = "{work}/run"\n'
        (work / "storage.conf").write_text(storage)

    def command(self, *words: str) -> list[str]:
        """The argument list that runs one of the programs."""
        if self._tree is None:
            return list(words)
        inner = ["bash", "-euc", _OVERLAID, "bash", str(self._tree), *words]
        return ["unshare", "--mount", "--propagation", "private", *inner]

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; its output is told when it fails."""
        done = subprocess.run(
            self.command(*words), env=self.environment(), capture_output=True, text=True, check=False, cwd=ROOT
        )
        if check and done.returncode != 0:
            raise SystemExit(f"{words[0]} ended with code {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
        return done

    def environment(self) -> dict[str, str]:
        """Ours, with the storage of this run."""
        return {**os.environ, "CONTAINERS_STORAGE_CONF": str(self._work / "storage.conf")}

    def podman(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """podman with the runtime that works with either kind of control groups."""
        return self.run("podman", "--cgroup-manager", "cgroupfs", "--runtime", "runc", *words, check=check)


def _tree() -> Path:
    target = cache_root(os.environ) / "containers" / f"debian-{SUITE}-{debian.architecture()}"
    with locked(target.with_suffix(".lock")):
        if not (target / debian.MANIFEST).is_file():
            mirror = os.environ.get("STATE_CHANNEL_DEBIAN_MIRROR")
            debian.unpack(debian.Request(PACKAGES, suite=SUITE, mirror=mirror, wrapped=False), target)
    return target


class Figures:
    """What took how long, told as it happens."""

    def __init__(self) -> None:
        self.values: dict[str, float | str] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note the seconds of a step."""
        sys.stderr.write(f"{name} …\n")
        begun = time.monotonic()
        yield
        self.values[f"{name}_seconds"] = round(time.monotonic() - begun, 1)

    def write(self) -> None:
        """To build/container.json, and on the screen."""
        (ROOT / "build").mkdir(exist_ok=True)
        (ROOT / "build" / "container.json").write_text(json.dumps(self.values, indent=1) + "\n")
        sys.stdout.write(json.dumps(self.values, indent=1) + "\n")


def build(tools: Tools, work: Path, figures: Figures) -> None:
    """The base from Debian's packages, then the image with the project's Dockerfile."""
    with figures.timed("base"):
        base = cache_root(os.environ) / "containers" / f"base-{SUITE}.tar"
        if not base.is_file():
            options = ("--variant=minbase", "--include=python3,python3-venv,ca-certificates")
            tools.run("mmdebstrap", *options, SUITE, str(work / "new.tar"), debian.host_archive())
            base.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(work / "new.tar", base)
        shutil.copy(base, work / "base.tar")
        (work / "Base").write_text("FROM scratch\nADD base.tar /\n")
        tools.run("buildah", "bud", "--isolation", "chroot", "-f", str(work / "Base"), "-t", BASE, str(work))
    (work / "pip.conf").write_text(f"[global]\ncert = {AUTHORITIES}\n")
    volumes = [f"{AUTHORITIES}:{AUTHORITIES}:ro", f"{work}/pip.conf:/etc/pip.conf:ro"]
    with figures.timed("build"):
        words = ["--isolation", "chroot", "--format", "docker", "--build-arg", f"PYTHON_IMAGE={BASE}"]
        words += [word for volume in volumes for word in ("--volume", volume)]
        words += ["-f", "deploy/container/Dockerfile", "--ignorefile", "deploy/container/Dockerfile.dockerignore"]
        tools.run("buildah", "bud", *words, "-t", IMAGE, ".")
    (shown,) = json.loads(tools.podman("image", "inspect", IMAGE).stdout)
    assert ["CMD", "watchtower", "health"] == shown["Healthcheck"]["Test"]
    assert "10001:10001" == shown["User"]
    figures.values["image_mb"] = round(shown["Size"] / 1e6)


class Tower:
    """The container, started as compose would: closed, configured by its environment alone."""

    def __init__(self, tools: Tools, node: RegtestNode, work: Path) -> None:
        self._tools = tools
        api, admin = free_ports(2)
        user, _, password = node.cookie_path.read_text().partition(":")
        (work / "password").write_text(password)
        (work / "password").chmod(0o444)
        zmq = f"tcp://127.0.0.1:{node.zmq_port}"
        environment = {
            "STATE_CHANNEL_NETWORK": "regtest",
            "STATE_CHANNEL_NODE__RPC_URL": f"http://127.0.0.1:{node.rpc_port}",
            "STATE_CHANNEL_NODE__RPC_USER": user,
            "STATE_CHANNEL_NODE__RPC_PASSWORD_FILE": "/run/secrets/password",
            "STATE_CHANNEL_NODE__ZMQ_SEQUENCE": zmq,
            "STATE_CHANNEL_NODE__ZMQ_RAWTX": zmq,
            "STATE_CHANNEL_API__LISTEN": f"127.0.0.1:{api}",
            "STATE_CHANNEL_ADMIN__LISTEN": f"127.0.0.1:{admin}",
            "STATE_CHANNEL_BACKUP__DIRECTORY": "/backups/tower",
            "STATE_CHANNEL_LOG__FORMAT": "json",
        }
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        limits = [f"--ulimit=nofile={most}:{most}", "--ulimit=nproc=1024:1024"]
        volumes = ["tower:/data", "backups:/backups", f"{work}/password:/run/secrets/password:ro"]
        self._words = ["--no-healthcheck", *limits, *CLOSED, "--tmpfs", "/tmp"]
        self._words += [f"--volume={volume}" for volume in volumes]
        self._words += [f"--env={name}={value}" for name, value in environment.items()]
        self._process: subprocess.Popen[str] | None = None

    def init(self) -> str:
        """Make the tower in the empty volume; returns what is printed."""
        return self._tools.podman("run", "--rm", *self._words, IMAGE, "init").stdout

    def __enter__(self) -> Self:
        command = self._tools.command(
            *("podman", "--cgroup-manager", "cgroupfs", "--runtime", "runc"),
            *("run", "--name", "smoke", *self._words, IMAGE, "run"),
        )
        self._process = subprocess.Popen(command, env=self._tools.environment(), stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._tools.podman("rm", "--force", "--time", "5", "smoke", check=False)
        assert self._process is not None
        self._process.wait(30)

    def wait_for(self, phase: str) -> None:
        """Read the log until the tower is in a phase."""
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            entry: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
            if entry.get("phase") == phase:
                return
        raise SystemExit(f"the tower ended before it was {phase}")

    def asked(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container."""
        return self._tools.podman("exec", "smoke", *words, check=False)

    def stop(self) -> int:
        """End it by its stop signal; returns the exit code."""
        self._tools.podman("stop", "--time", "45", "smoke")
        assert self._process is not None
        return self._process.wait(60)


def play(tools: Tools, node: RegtestNode, work: Path, figures: Figures) -> None:
    """From an empty volume to watching, without a node, and to the end."""
    tower = Tower(tools, node, work)
    with figures.timed("init"):
        assert "tower_id" in tower.init()
    with tower:
        with figures.timed("to_watching"):
            tower.wait_for("watching")
        with figures.timed("health"):
            health = tower.asked("watchtower", "health")
        assert 0 == health.returncode, health.stderr
        status = tower.asked("cat", "/proc/1/status").stdout
        facts = dict(line.split(":\t", maxsplit=1) for line in status.splitlines() if ":\t" in line)
        assert ("0000000000000000", "1") == (facts["CapBnd"].strip(), facts["NoNewPrivs"].strip())
        assert "10001" == facts["Uid"].split()[0]
        assert "Read-only" in tower.asked("touch", "/written").stderr
        figures.values["memory_mb"] = round(int(facts["VmRSS"].split()[0]) / 1000)
        node.close()
        tower.wait_for("degraded")
        assert 0 == tower.asked("watchtower", "health").returncode  # a node that is away is no reason for a new start
        assert 3 == tower.asked("watchtower", "health", "--watching").returncode
        with figures.timed("stop"):
            assert 0 == tower.stop()


def main() -> None:
    """All of it."""
    if os.getuid() != 0:
        raise SystemExit("container-smoke needs root: it mounts, and starts containers")
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="wtbox-", ignore_cleanup_errors=True) as name:
        work = Path(name)
        tools = Tools(work)
        build(tools, work, figures)
        node = RegtestNode.start(work / "node")
        try:
            play(tools, node, work, figures)
        finally:
            node.close()
    figures.write()


if __name__ == "__main__":
    main()
