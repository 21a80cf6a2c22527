"""Who may do what: the operator's tokens and the parties that may register, in one file of the data directory.

The file holds hashes of tokens and public keys, nothing secret. The command line writes it while the service runs; the
service looks at its time stamp with every use, so a revoked token ends at once. A file that cannot be read lets nobody
in.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Literal, get_args

import msgspec

from watchtower.host.hygiene import give_to_owner
from watchtower.ports import WatchtowerError

Scope = Literal["metrics:read", "status:read", "channels:read", "channels:write", "admin:write"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

ALL_SCOPES: frozenset[Scope] = frozenset(SCOPES)
TOKEN_PREFIX = "wt_"  # noqa: S105 - the public prefix, not a token


class AccessFileBroken(WatchtowerError):
    """The file of tokens and parties cannot be read or written."""

    slug: ClassVar[str] = "access-file"


class UnknownEntry(WatchtowerError):
    """No such token or party is in the file."""

    slug: ClassVar[str] = "unknown-entry"


class TokenEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A token as the file keeps it: SHA-256 (hexadecimal) of its text; `created_at` in Unix seconds."""

    name: str
    sha256: str
    scopes: tuple[Scope, ...]
    created_at: int

    @property
    def id(self) -> str:
        """What `token revoke` takes: the first 12 digits of the hash."""
        return self.sha256[:12]


class PartyEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A party that may register a channel: its x-only auth key (hexadecimal) and the operator's note."""

    key: str
    note: str
    allowed_at: int


class AccessTable(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    tokens: tuple[TokenEntry, ...] = ()
    parties: tuple[PartyEntry, ...] = ()


class AccessFile:
    """Reads the file again when it changed; writes it anew as a whole, one writer at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._table = AccessTable()

    def table(self) -> AccessTable:
        """What the file says now; nothing if it does not exist. Raises `AccessFileBroken`."""
        try:
            stat = self._path.stat()
            mark = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if mark != self._seen:
                self._table = msgspec.json.decode(self._path.read_bytes(), type=AccessTable)
                self._seen = mark
        except FileNotFoundError:
            self._table, self._seen = AccessTable(), None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            mend = "give it to the tower's user (chown), repair it, or restore a copy"
            raise AccessFileBroken(f"{self._path} cannot be read ({error}); {mend}") from None
        return self._table

    def scopes_of(self, token: str) -> frozenset[Scope] | None:
        """What a token allows, or None if it is not in the file. Takes the same time for every token of a length."""
        return self.scopes_of_digest(sha256(token.encode()).digest())

    def scopes_of_digest(self, digest: bytes) -> frozenset[Scope] | None:
        """The same for the SHA-256 of a token: who keeps only that can still ask whether it was revoked."""
        found = None
        for entry in self.table().tokens:
            if hmac.compare_digest(entry.sha256, digest.hex()):
                found = frozenset(entry.scopes)
        return found

    def allows(self, key: bytes) -> bool:
        """True if this party (x-only key) may register channels."""
        return key.hex() in {entry.key for entry in self.table().parties}

    def create_token(self, name: str, scopes: tuple[Scope, ...], now: int) -> tuple[str, TokenEntry]:
        """A fresh token: its text, which is told once and kept nowhere, and its entry."""
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        entry = TokenEntry(name=name, sha256=sha256(token.encode()).hexdigest(), scopes=scopes, created_at=now)
        with self._changing() as table:
            self._write(msgspec.structs.replace(table, tokens=(*table.tokens, entry)))
        return token, entry

    def revoke_token(self, name: str) -> TokenEntry:
        """Remove the token with this id or name; `UnknownEntry` if none or several fit."""
        with self._changing() as table:
            fitting = [entry for entry in table.tokens if name in (entry.id, entry.name)]
            if len(fitting) != 1:
                raise UnknownEntry(
                    f"{len(fitting)} tokens are called {name!r}; `watchtower token list` shows their ids"
                )
            rest = tuple(entry for entry in table.tokens if entry is not fitting[0])
            self._write(msgspec.structs.replace(table, tokens=rest))
        return fitting[0]

    def allow(self, key: bytes, note: str, now: int) -> PartyEntry:
        """Let a party register; the same key again changes its note."""
        entry = PartyEntry(key=key.hex(), note=note, allowed_at=now)
        with self._changing() as table:
            rest = tuple(each for each in table.parties if each.key != entry.key)
            self._write(msgspec.structs.replace(table, parties=(*rest, entry)))
        return entry

    def remove(self, key: bytes) -> PartyEntry:
        """Take the permission back. Channels that are registered stay under watch. `UnknownEntry`."""
        with self._changing() as table:
            fitting = [entry for entry in table.parties if entry.key == key.hex()]
            if not fitting:
                raise UnknownEntry(f"no party {key.hex()} is in the list; `watchtower client list` shows all")
            rest = tuple(entry for entry in table.parties if entry is not fitting[0])
            self._write(msgspec.structs.replace(table, parties=rest))
        return fitting[0]

    @contextmanager
    def _changing(self) -> Iterator[AccessTable]:
        """The table under a lock between processes: two commands at once lose nothing."""
        try:
            descriptor = os.open(self._path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise AccessFileBroken(f"{self._path.parent}: {error.strerror}; use the tower's data directory") from None
        try:
            give_to_owner(descriptor, self._path.parent)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._seen = None
            yield self.table()
        finally:
            os.close(descriptor)

    def _write(self, table: AccessTable) -> None:
        fresh = self._path.with_suffix(".new")
        try:
            descriptor = os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(table), indent=2) + b"\n")
                file.flush()
                give_to_owner(file.fileno(), self._path.parent)
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as error:
            raise AccessFileBroken(f"{self._path}: {error.strerror}; nothing was changed") from None
