"""The visit: all groups one after the other, while notifications are listened for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from domain.errors import DomainError
from watchtower.doctor import (
    backups,
    clock,
    configuration,
    disk,
    keys,
    listeners,
    node,
    notifications,
    rights,
    second_node,
    server,
    store,
    zmq,
)
from watchtower.doctor.case import Case
from watchtower.doctor.finding import Finding, fail
from watchtower.node.hearing import Heard
from watchtower.ports import NodeError, WatchtowerError

Look = Callable[[Case], Iterator[Finding]]

SETTINGS: tuple[tuple[str, Look], ...] = (
    ("configuration", configuration.look),
    ("keys", keys.look),
    ("listeners", listeners.look),
)
"""What `watchtower config check` looks at: no node, no server, no waiting."""

OTHERS: tuple[tuple[str, Look], ...] = (
    ("node", node.look),
    ("rights", rights.look),
    ("clock", clock.look),
    ("second_node", second_node.look),
    ("disk", disk.look),
    ("store", store.look),
    ("server", server.look),
    ("backups", backups.look),
    ("notifications", notifications.look),
)
GROUPS = (*(name for name, _ in (*SETTINGS, *OTHERS)), "zmq")


def examine_settings(case: Case) -> Iterator[Finding]:
    """Findings of the groups that need nobody else."""
    for name, look in SETTINGS:
        yield from guarded(name, look(case))


def examine(case: Case) -> Iterator[Finding]:
    """All findings, each as soon as it is known; those about notifications come last, because they take time."""
    before = _mempool(case)
    with ThreadPoolExecutor(1, "doctor") as pool:
        heard: Future[Heard] = pool.submit(case.listen, case.endpoints, case.seconds)
        yield from examine_settings(case)
        for name, look in OTHERS:
            yield from guarded(name, look(case))
        if case.node.find("getblockchaininfo") is None and before is None:
            return
        yield from guarded("zmq", zmq.look(case, heard, before))


def guarded(group: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """A group that stumbles says so, and the next one goes on."""
    try:
        yield from findings
    except (WatchtowerError, DomainError, OSError) as error:
        yield fail(f"{group}.examined", str(error), "mend this first, then ask the doctor again")
    except Exception as error:  # noqa: BLE001 - the border of a group: an odd answer must not hide the other findings
        what = f"this group could not be looked at ({type(error).__name__}: {error})"
        yield fail(f"{group}.examined", what, "report it; the other findings are not touched by it")


def _mempool(case: Case) -> int | None:
    try:
        return zmq.sequence_of_mempool(case)
    except NodeError:
        return None
