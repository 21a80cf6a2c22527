"""The sandbox of the systemd unit without systemd.

`python -m tests.support.sandbox STATE_DIRECTORY LIBSECCOMP CALLS ARGUMENTS…`, the calls separated by commas.

What the kernel does for the unit is asked for here in the same way: a root that is read-only but for the state
directory, an empty bounding set, no new privileges, no memory that is writable and executable, and the unit's own list
of system calls and address families. Then the interpreter is started with ARGUMENTS. Not done: devices, name spaces of
users and processes, limits of IP addresses; those need the manager.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.programs import program

UNIT = Path(__file__).parents[2] / "deploy/systemd/state-channel-watchtower.service"

PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP, PR_SET_MDWE = 38, 24, 65
PR_MDWE_REFUSE_EXEC_GAIN = 1
"""Numbers of prctl(2)."""

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
"""Flags of unshare(2) and mount(2)."""

CAPABILITIES = 64
ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | errno.EPERM
"""Actions of libseccomp: SCMP_ACT_ALLOW, SCMP_ACT_ERRNO(EPERM)."""


EQUAL = 4
"""SCMP_CMP_EQ."""

FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}


class SandboxFailed(Exception):
    """The kernel refused a part of the sandbox."""


class _Compare(ctypes.Structure):
    """scmp_arg_cmp."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def directives(unit: Path = UNIT) -> dict[str, list[str]]:
    """Name -> values of a unit file, in their order."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^([A-Za-z]+)=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def libseccomp() -> str:
    """The host's library, else the one that came with Debian's systemd."""
    own = ctypes.util.find_library("seccomp")
    if own is not None:
        return own
    tree = program("systemd-analyze").parents[1]
    return str(next(tree.glob("usr/lib/*/libseccomp.so.2")))


def command(state: Path) -> list[str]:
    """Arguments of the interpreter that come before those of the program in the sandbox."""
    calls = allowed_calls(program("systemd-analyze"))
    return ["-m", "tests.support.sandbox", str(state), libseccomp(), ",".join(calls)]


def allowed_calls(analyze: Path) -> list[str]:
    """System calls of the unit's filter, as this systemd-analyze expands its sets."""
    text = subprocess.run([analyze, "syscall-filter"], capture_output=True, text=True, check=True, timeout=60).stdout
    sets: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("@"):
            members = sets.setdefault(line.strip(), [])
        elif line.startswith("    ") and not line.strip().startswith("#"):
            members.append(line.strip())
    calls: set[str] = set()
    for rule in directives()["SystemCallFilter"]:
        named = {call for name in rule.lstrip("~").split() for call in _expanded(name, sets)}
        calls = calls - named if rule.startswith("~") else calls | named
    return sorted(calls)


def _expanded(name: str, sets: dict[str, list[str]]) -> set[str]:
    if not name.startswith("@"):
        return {name}
    return {call for member in sets[name] for call in _expanded(member, sets)}


def _must(code: int, what: str) -> None:
    if code != 0:
        raise SandboxFailed(f"{what}: {os.strerror(ctypes.get_errno())}")


def _make_root_read_only(libc: ctypes.CDLL, state: str) -> None:
    user, group = os.getuid(), os.getgid()
    _must(libc.unshare(CLONE_NEWNS | (CLONE_NEWUSER if user else 0)), "name spaces")
    if user:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    _must(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "private mounts")
    for path in (state, "/"):
        _must(libc.mount(path.encode(), path.encode(), None, MS_BIND | MS_REC, None), f"binding {path}")
    # The bind of / lies over the one that this process stands on: the root is entered anew.
    os.chroot("/..")
    _must(libc.mount(None, state.encode(), None, MS_REMOUNT | MS_BIND, None), "the state directory")
    _must(libc.mount(None, b"/", None, MS_REMOUNT | MS_BIND | MS_RDONLY, None), "a root that is read-only")


def _filter_calls(library: str, calls: Sequence[str]) -> None:
    seccomp = ctypes.CDLL(library, use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(REFUSE)))
    for call in calls:
        number = seccomp.seccomp_syscall_resolve_name(call.encode())
        if number >= 0 and call != "socket":  # negative: not of this architecture
            _must(seccomp.seccomp_rule_add_array(context, ALLOW, number, 0, None), call)
    number = seccomp.seccomp_syscall_resolve_name(b"socket")
    for name in directives()["RestrictAddressFamilies"][0].split():
        equal = (_Compare * 1)(_Compare(0, EQUAL, FAMILIES[name], 0))
        _must(seccomp.seccomp_rule_add_array(context, ALLOW, number, 1, equal), name)
    _must(seccomp.seccomp_load(context), "the filter of system calls")


def enter(state: str, library: str, calls: Sequence[str]) -> None:
    """Restrict this process and everything that it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    _make_root_read_only(libc, state)
    for capability in range(CAPABILITIES):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # beyond the last one that the kernel knows: EINVAL
    _must(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    _must(libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0), "no executable memory that is writable")
    _filter_calls(library, calls)


if __name__ == "__main__":
    where = Path.cwd()
    enter(sys.argv[1], sys.argv[2], sys.argv[3].split(","))
    os.chdir(where)
    os.execv(sys.executable, [sys.executable, *sys.argv[4:]])
