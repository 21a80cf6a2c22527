"""A real PostgreSQL server that the tests start themselves, and the moves that fault tests need.

The programs come from the host (PATH, then `/usr/lib/postgresql`), else from Debian's signed archive, unpacked
without root. The server listens on a socket in a short temporary directory and on a free port of 127.0.0.1, syncs
every commit as in production, and never runs as root: for root it belongs to `nobody`.
Over the socket everybody may be anybody; over TCP the password of a user is `password_of(user)`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from watchtower.devnode import debian
from watchtower.devnode.launch import free_ports
from watchtower.devnode.provision import cache_root, locked

PACKAGE = "postgresql"
PROGRAMS = "usr/lib/postgresql/*/bin"
NEEDED = ("initdb", "postgres")
INSTALLED = Path("/usr/lib/postgresql")
START_SECONDS = 60.0
END_SECONDS = 60.0
READY = ("ready", "standby")
"""What a server writes into its pid file when it answers: a primary, a replica."""

LONGEST_SOCKET_PATH = 100
"""Characters; the system refuses a Unix socket at 108."""

SUPERUSER = "postgres"

SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "listen_addresses": "127.0.0.1",
    "max_connections": "80",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
}


class PostgresNotFound(Exception):
    """No usable PostgreSQL server; the text says why."""


def find_programs(environment: Mapping[str, str] | None = None, installed_in: Path = INSTALLED) -> Path:
    """Directory with initdb and postgres; downloaded once if the host has none. Raises `PostgresNotFound`."""
    env = os.environ if environment is None else environment
    on_path = shutil.which("initdb", path=env.get("PATH"))
    installed = sorted(installed_in.glob("*/bin"), key=lambda path: _number(path.parent.name))
    for directory in ([Path(on_path).resolve().parent] if on_path else []) + installed[::-1]:
        if all(os.access(directory / program, os.X_OK) for program in NEEDED):
            return directory
    if env.get("STATE_CHANNEL_OFFLINE", "") not in ("", "0"):
        raise PostgresNotFound("no PostgreSQL server on this host, and STATE_CHANNEL_OFFLINE forbids the download")
    return _downloaded(env)


def _number(name: str) -> int:
    return int(name) if name.isdecimal() else 0


def _downloaded(env: Mapping[str, str]) -> Path:
    try:
        target = cache_root(env) / "postgres" / f"debian-{debian.SUITE}-{debian.architecture()}"
        request = debian.Request((PACKAGE,), mirror=env.get("STATE_CHANNEL_DEBIAN_MIRROR"), in_place=PROGRAMS)
        with locked(target.with_suffix(".lock")):
            if not (target / debian.MANIFEST).is_file():
                debian.unpack(request, target)
        return max(target.glob(PROGRAMS), key=lambda path: _number(path.parent.name))
    except (debian.ArchiveError, OSError, ValueError) as error:
        raise PostgresNotFound(f"no PostgreSQL server on this host, and the download failed: {error}") from error


class Owner:
    """The user under which the server runs: this one, or for root another."""

    def __init__(self) -> None:
        entry = pwd.getpwuid(os.getuid()) if os.getuid() else pwd.getpwnam("nobody")
        self.uid, self.gid = entry.pw_uid, entry.pw_gid
        self.other = os.getuid() == 0

    def options(self) -> dict[str, object]:
        """Arguments of `subprocess.Popen` that give root up; none for anybody else."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.other else {}

    def takes(self, path: Path) -> None:
        """Make a directory theirs."""
        if self.other:
            os.chown(path, self.uid, self.gid)

    def reachable(self, programs: Path, base: Path) -> Path:
        """The programs where this user can start them: a cache below root's home is copied."""
        if not self.other or all(path.stat().st_mode & 0o005 == 0o005 for path in [programs, *programs.parents]):
            return programs
        tree = programs.parents[4]  # .../usr/lib/postgresql/N/bin
        copy = base / "programs"
        if not copy.exists():
            shutil.copytree(tree, copy, symlinks=True)
            copy.chmod(0o755)
        return copy / programs.relative_to(tree)


class PostgresServer:
    """One cluster. Made by `start`; `close` ends it and removes its files."""

    def __init__(self, programs: Path, settings: Mapping[str, str]) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="wtpg-"))
        self.base.chmod(0o755)
        self._owner = Owner()
        self._owner.takes(self.base)
        self.programs = self._owner.reachable(programs, self.base)
        self.directory, self.log_path = self.base / "data", self.base / "server.log"
        (self.port,) = free_ports(1)
        assert len(str(self.base / f".s.PGSQL.{self.port}")) < LONGEST_SOCKET_PATH
        self.settings = {**SETTINGS, **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)

    @classmethod
    def start(cls, programs: Path | None = None, **settings: str) -> Self:
        """A running server with a new cluster; `settings` are those of postgresql.conf."""
        server = cls(programs or find_programs(), settings)
        try:
            server._init()
            server.launch()
        except BaseException:
            server.close()
            raise
        return server

    def start_replica(self) -> PostgresServer:
        """A running streaming replica of this server, made by a base backup; close it yourself."""
        replica = PostgresServer(self.programs, self.settings)
        try:
            source = ["-h", str(self.base), "-p", str(self.port), "-U", SUPERUSER]
            replica._run("pg_basebackup", ["-D", str(replica.directory), "-R", "-X", "stream", "-c", "fast", *source])
            replica.launch()
        except BaseException:
            replica.close()
            raise
        return replica

    def promote(self) -> None:
        """Make a replica a primary."""
        with self.connect() as connection:
            connection.execute("SELECT pg_promote(true, 30)")

    def _init(self) -> None:
        options = [
            "-D",
            str(self.directory),
            "-U",
            SUPERUSER,
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        ]
        self._run("initdb", [*options, "--auth-local=trust", "--auth-host=scram-sha-256"])

    def _run(self, program: str, arguments: Sequence[str]) -> None:
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            cwd=self.base,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            **self._owner.options(),  # type: ignore[call-overload]
        )
        if done.returncode != 0:
            raise PostgresNotFound(f"{program} ended with code {done.returncode}: {(done.stdout + done.stderr)[-800:]}")

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC", "HOME": str(self.base)}

    def launch(self) -> None:
        """Start the server on its directory and wait until it answers."""
        assert self._process is None
        arguments = ["-D", str(self.directory), "-p", str(self.port), "-k", str(self.base)]
        for name, value in self.settings.items():
            arguments += ["-c", f"{name}={value}"]
        log = os.open(self.log_path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        try:
            self._process = subprocess.Popen(
                [str(self.programs / "postgres"), *arguments],
                cwd=self.base,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._owner.options(),  # type: ignore[call-overload]
            )
        finally:
            os.close(log)
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        """The server writes "ready" as the last word of the last line of its pid file."""
        assert self._process is not None
        pid_file = self.directory / "postmaster.pid"
        for _ in range(int(START_SECONDS / 0.02)):
            with contextlib.suppress(OSError):
                lines = pid_file.read_text().split("\n")
                if lines[0] == str(self._process.pid) and len(lines) > 7 and lines[7].strip() in READY:
                    return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)
                break
        tail = self.log_path.read_text()[-1500:]
        raise PostgresNotFound(f"the server does not become ready; its log ends with:\n{tail}")

    def stop(self, *, immediate: bool = False) -> None:
        """End the server in order ("fast": connections are cut), or `immediate`ly, as at a crash of a backend."""
        self._end(signal.SIGQUIT if immediate else signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to the server and all its processes, as when the machine loses power with its disk synced."""
        assert self._process is not None
        children = self._stopped()
        # A descriptor tells the end of a process that is not our child. While one lives, no server starts on the data.
        ends = [end for child in children if (end := _opened(child)) is not None]
        for pid in children:
            _signal(pid, signal.SIGKILL)
        self._end(signal.SIGKILL)
        for end in ends:
            _await_end(end)
        (self.directory / "postmaster.pid").unlink(missing_ok=True)

    def restart(self, *, immediate: bool = False) -> None:
        """Stop and launch again."""
        self.stop(immediate=immediate)
        self.launch()

    def pause(self) -> None:
        """Freeze the server and all its processes: it answers nobody, connections stay open."""
        for pid in self._stopped():
            _signal(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let frozen processes go on."""
        assert self._process is not None
        for pid in [*self._children(), self._process.pid]:
            _signal(pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        _signal(self._process.pid, how)
        self._process.wait(END_SECONDS)
        self._process = None

    def _stopped(self) -> list[int]:
        """The children of the first process, once that one is stopped: from then on there are no new ones."""
        assert self._process is not None
        _signal(self._process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        return self._children()

    def _children(self) -> list[int]:
        assert self._process is not None
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(word) for word in path.read_text().split()]

    def url(self, database: str = "postgres", user: str = SUPERUSER) -> str:
        """Address over the socket; no password is asked."""
        return f"postgresql://{user}@/{database}?host={quote(str(self.base), safe='')}&port={self.port}"

    def tcp_url(self, database: str, user: str, password: str | None = None) -> str:
        """Address over TCP, where the password counts."""
        return f"postgresql://{user}:{password or password_of(user)}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres", user: str = SUPERUSER) -> psycopg.Connection:
        """A connection that commits every statement."""
        return psycopg.connect(self.url(database, user), autocommit=True)

    def create_database(self, prefix: str = "t") -> str:
        """Name of a new, empty database in UTF-8."""
        name = f"{prefix}{os.getpid()}_{next(self._names)}"
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name

    def empty_database(self, name: str) -> None:
        """Cut all connections to a database and remove our schema: far quicker than another database."""
        with self.connect(name) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.execute("SET client_min_messages = warning")
            connection.execute("DROP SCHEMA IF EXISTS watchtower CASCADE")

    def drop_database(self, name: str) -> None:
        """Remove a database with everybody in it."""
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def create_user(self, name: str, *roles: str) -> None:
        """A user who may log in, member of `roles`; an existing one only gets the roles."""
        with self.connect() as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone():
                statement = sql.SQL("CREATE USER {} PASSWORD {}")
                connection.execute(statement.format(sql.Identifier(name), sql.Literal(password_of(name))))
            for role in roles:
                connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(name)))

    def close(self) -> None:
        """End the server, whatever state it is in, and remove its files."""
        if self._process is not None:
            self.resume()
            self.stop(immediate=True)
        shutil.rmtree(self.base, ignore_errors=True)


def _signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended: sessions come and go."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _opened(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _await_end(end: int) -> None:
    ready, _, _ = select.select([end], [], [], END_SECONDS)
    os.close(end)
    assert ready, "a process of the server survived SIGKILL"


def password_of(user: str) -> str:
    """The password of a test user."""
    return f"password-of-{user}"


def silent_port() -> int:
    """A port of 127.0.0.1 where nobody listens, also not later: it stays reserved while the tests run."""
    return free_ports(1)[0]
