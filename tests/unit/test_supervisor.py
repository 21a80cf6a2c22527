"""sd_notify: the right words at the right socket, and silence without one."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from watchtower.host import supervisor
from watchtower.host.supervisor import Supervisor

SECONDS = 30
"""How long a datagram may take on a busy machine."""


@pytest.fixture
def door(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A manager's socket and its path."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        listening.settimeout(SECONDS)
        yield path, listening


def test_messages_reach_the_socket(door: tuple[str, socket.socket]) -> None:
    """Each call is one datagram of the documented form."""
    path, listening = door
    manager = Supervisor({"NOTIFY_SOCKET": path})
    manager.ready()
    manager.waiting(30)
    manager.status("watching at height 7")
    manager.alive()
    manager.stopping()
    got = [listening.recv(200).decode() for _ in range(5)]
    assert ["READY=1", "EXTEND_TIMEOUT_USEC=30000000", "STATUS=watching at height 7", "WATCHDOG=1", "STOPPING=1"] == got


def test_a_reload_says_when_it_began(door: tuple[str, socket.socket]) -> None:
    """The monotonic time in microseconds, by which the manager knows which of its requests is meant."""
    path, listening = door
    before = time.monotonic_ns() // 1000
    Supervisor({"NOTIFY_SOCKET": path}).reloading()
    word, _, at = listening.recv(200).decode().partition("\nMONOTONIC_USEC=")
    assert "RELOADING=1" == word
    assert before <= int(at) <= time.monotonic_ns() // 1000


@pytest.mark.slow
def test_a_long_opening_asks_for_more_time_until_it_is_over(door: tuple[str, socket.socket]) -> None:
    """At once and again and again; behind the block nothing more."""
    path, listening = door
    with Supervisor({"NOTIFY_SOCKET": path}).opening(seconds=1):
        asked = [listening.recv(200).decode() for _ in range(2)]
    listening.setblocking(False)
    with suppress(BlockingIOError):  # those of a block that was left late
        while True:
            asked.append(listening.recv(200).decode())
    listening.settimeout(1)
    with pytest.raises(TimeoutError):
        listening.recv(200)
    assert {"EXTEND_TIMEOUT_USEC=1000000"} == set(asked)


def test_an_abstract_address() -> None:
    """`@name` stands for an abstract socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = f"state-channel-test-notify-{os.getpid()}"  # abstract names are those of the whole host
        listening.bind(f"\0{name}")
        listening.settimeout(SECONDS)
        Supervisor({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert b"READY=1" == listening.recv(100)


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    """No variable, or a socket that is gone, is no error."""
    Supervisor({}).ready()
    Supervisor({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
    assert 0.0 == Supervisor({}).watchdog_seconds


@pytest.mark.parametrize(("pid", "seconds"), [("", 60.0), ("7", 60.0), ("8", 0.0)])
def test_the_watchdog_is_meant_for_one_process(pid: str, seconds: float) -> None:
    """WATCHDOG_PID names it; another process must not answer."""
    manager = Supervisor({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": pid}, pid=7)
    assert seconds == manager.watchdog_seconds


def test_fault_P16_no_descriptor_for_a_message_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process out of descriptors must not end for a datagram."""

    def none_free(*_args: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    tried: list[object] = []
    supervisor = Supervisor({"NOTIFY_SOCKET": str(tmp_path / "door")})
    monkeypatch.setattr("watchtower.host.supervisor.socket.socket", lambda *args: tried.append(args) or none_free())

    supervisor.alive()

    assert 1 == len(tried)


def test_a_manager_that_does_not_read_holds_nobody(
    door: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its queue is full: the message is lost, and the tower goes on."""
    monkeypatch.setattr(supervisor, "SEND_SECONDS", 0.01)
    path, _ = door
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as crowd, pytest.raises(BlockingIOError):
        crowd.setblocking(False)
        for _ in range(100_000):
            crowd.sendto(b"READY=1", path)
    speaking = threading.Thread(target=Supervisor({"NOTIFY_SOCKET": path}).alive, daemon=True)
    speaking.start()
    speaking.join(30)

    assert not speaking.is_alive()
