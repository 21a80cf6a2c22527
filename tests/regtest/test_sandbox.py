"""A real tower under what the systemd unit allows: it watches, answers clients and proves that it could punish."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import sandbox
from tests.support.service import ROOT, ServiceProcess
from watchtower.devnode.regtest import RegtestNode
from watchtower.new_tower import NewTower

pytestmark = pytest.mark.deploy

PROBE = """
import ctypes, mmap, os, socket

def tried(what):
    try:
        what()
    except OSError as error:
        return error.strerror
    return "allowed"

writable = mmap.PROT_READ | mmap.PROT_WRITE
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(tried(lambda: open("/etc/probe", "w")))
print(tried(lambda: open(os.environ["STATE"] + "/probe", "w")))
print(tried(lambda: mmap.mmap(-1, 4096, prot=writable | mmap.PROT_EXEC)))
print(tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)))
print(tried(lambda: socket.socket(socket.AF_INET6)))
print(tried(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)))
print(ctypes.CDLL(None).mount(b"/tmp", b"/tmp", None, 4096, None))
print(status["NoNewPrivs"].strip(), int(status["CapBnd"], 16), int(status["CapEff"], 16))
print(open("/proc/stat").readline().split()[0])
"""

GUARD = """
from coincurve._libsecp256k1 import ffi, lib
from domain.contract.secp256k1 import CTX
print(lib.secp256k1_ec_pubkey_parse(CTX, ffi.NULL, ffi.NULL, 0))
"""


@pytest.fixture(scope="module", autouse=True)
def _kernel(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where the kernel gives nobody like us such a sandbox: unlike a program, that cannot be downloaded."""
    command = [sys.executable, *sandbox.command(tmp_path_factory.mktemp("kernel")), "-c", "pass"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    if "SandboxFailed" in done.stderr:
        pytest.skip(f"no sandbox here: {done.stderr.splitlines()[-1]}")


@pytest.fixture
def confined(node: RegtestNode, tower: NewTower) -> Iterator[ServiceProcess]:
    """`watchtower run` in the sandbox, with the tower's directory as the only one that it may write to."""
    del node
    directory = tower.config_path.parent
    service = ServiceProcess(
        tower.config_path,
        command=[*sandbox.command(directory), "-m", "watchtower", "run", "--config", str(tower.config_path)],
    )
    yield service
    service.close()


def inside(state: Path, program: str) -> list[str]:
    """Lines that a program prints in the sandbox."""
    command = [sys.executable, *sandbox.command(state), "-c", program]
    environ = {"STATE": str(state)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert 0 == done.returncode, done.stderr
    return done.stdout.splitlines()


def test_the_sandbox_refuses_what_the_unit_forbids(tmp_path: Path) -> None:
    """Each part has its effect, so that what follows proves something; /proc/stat can be read for the metrics."""
    refused = ["Read-only file system", "allowed", "Permission denied", "Operation not permitted", "allowed"]
    assert [*refused, "Operation not permitted", "-1", "1 0 0", "cpu"] == inside(tmp_path, PROBE)


def test_the_library_of_the_keys_stands_an_illegal_argument(tmp_path: Path) -> None:
    """Its guard is an existing function of C: one made at run time would need executable memory."""
    assert ["0"] == inside(tmp_path, GUARD)


def test_a_tower_protects_under_the_sandbox_of_the_unit(node: RegtestNode, confined: ServiceProcess) -> None:
    """It follows blocks, measures its processor, and the synthetic breach goes through keys, builder and node."""
    confined.wait_watching()
    node.mine(1)
    confined.wait_for("canary_passed", seconds=60)
    metrics = confined.get("admin", "/metrics")[1].decode()
    assert confined.ready()["watching"]
    assert "process_cpu_seconds_total" in metrics
    assert 200 == confined.get("admin", "/")[0]
    assert 0 == confined.terminate()
