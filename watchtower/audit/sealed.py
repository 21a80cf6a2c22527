"""Does the tower's own signature stand behind a log? Evidence that anybody could have written proves less."""

from __future__ import annotations

from domain.contract.keys import verify_schnorr
from domain.errors import LogCorrupt
from domain.events import LOG_STREAM, HeadSealed, decode_payload
from domain.log_chain import HASH_SIZE, next_head, sealed_head_hash
from watchtower.store.source import Commit, LogSource, Unreadable

PAGE = 5_000
"""Rows, and chain rows, read at once."""


def is_sealed(source: LogSource, tower_id: bytes, position: int) -> bool:
    """Whether a head that this tower (x-only key) sealed in the log binds the event at `position`.

    A seal that cannot be read binds nothing. Raises `StoreError` if the log cannot be read at all.
    """
    try:
        return _is_sealed(source, tower_id, position)
    except Unreadable:
        return False


def _is_sealed(source: LogSource, tower_id: bytes, position: int) -> bool:
    log_id, first, last = source.meta.log_id, position + 1, source.last_id()
    while first <= last:
        for row in source.rows(first, min(first + PAGE - 1, last)):
            if row[1] != LOG_STREAM:
                continue
            seal = _seal(row[3], row[4])
            if seal is None or seal.position < position:
                continue
            message = sealed_head_hash(log_id, seal.position, seal.head)
            if verify_schnorr(tower_id, message, seal.sig) and _binds(source, position, seal):
                return True
        first += PAGE
    return False


def _seal(topic: str, state: bytes) -> HeadSealed | None:
    try:
        payload = decode_payload(topic, state)
    except LogCorrupt:
        return None
    return payload if isinstance(payload, HeadSealed) else None


def _binds(source: LogSource, position: int, seal: HeadSealed) -> bool:
    """Whether the chain leads from the commit of the event, its leaves taken in, to the sealed head without a break."""
    commit = source.commit_at(position)
    if commit is None or not _is_bound(source, commit):
        return False
    while commit.last_id < seal.position:
        page = source.commits(commit.commit_no + 1, PAGE)
        if not page:
            return False
        for following in page:
            if not _follows(following, commit.head):
                return False
            commit = following
            if commit.last_id >= seal.position:
                break
    return (commit.last_id, commit.head) == (seal.position, seal.head)


def _is_bound(source: LogSource, commit: Commit) -> bool:
    """Whether the head of a commit stands for exactly its leaves at exactly its place.

    Without this anybody could change the leaves in a copy of the log and show them under a head that the tower sealed.
    """
    meta = source.meta
    before = [meta.begin(border, border.prev_head) for border in meta.borders if border.first_id == commit.first_id]
    before += [each.head for each in source.commits(commit.commit_no - 1, 1) if each.commit_no < commit.commit_no]
    return any(_follows(commit, head) for head in (*before, meta.start().head))


def _follows(commit: Commit, head: bytes) -> bool:
    is_counted = len(commit.leaves) == HASH_SIZE * commit.leaf_count
    return is_counted and next_head(head, commit.first_leaf, commit.first_id, commit.leaves) == commit.head
