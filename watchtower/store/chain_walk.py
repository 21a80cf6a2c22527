"""Following the commit chain: does each commit follow from the one before it, and which events does it hold?

A changed value is told apart from its consequences: behind a commit whose head was changed the walk goes on with the
head that its leaves give, so that only that commit is named.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from domain.log_chain import HASH_SIZE, next_head
from watchtower.store.source import Commit, SourceMeta, is_sane


class Flaw(msgspec.Struct, frozen=True):
    """One thing that is wrong: the check, the event id it concerns, a sentence, stream and topic of a single event."""

    check: str
    id: int
    sentence: str
    stream: str = ""
    topic: str = ""


class Span(msgspec.Struct, frozen=True):
    """The events that a commit holds; `flaw` if the commit does not follow, `before` are the heads it may follow."""

    commit: Commit
    first_id: int
    first_leaf: int
    before: tuple[bytes, ...]
    flaw: Flaw | None

    @property
    def count(self) -> int:
        """Number of events."""
        return len(self.commit.leaves) // HASH_SIZE

    @property
    def last_id(self) -> int:
        """Id of the last event."""
        return self.first_id + self.count - 1

    def leaf_of(self, event_id: int) -> bytes:
        """The leaf that the commit has for one of its events."""
        place = event_id - self.first_id
        return self.commit.leaves[HASH_SIZE * place : HASH_SIZE * (place + 1)]

    def follows(self, leaves: bytes) -> bool:
        """True if these leaves give the head of the commit."""
        return _follows(self.commit.head, self.before, self.first_leaf, self.first_id, leaves)

    def changed_leaves(self, leaves: Sequence[bytes]) -> list[Flaw]:
        """The stored leaves that differ from `leaves`, those of its events."""
        number = self.commit.commit_no
        return [
            Flaw("chain_link", at, f"commit {number}: the leaf kept for event {at} was changed, the event was not")
            for at, right in enumerate(leaves, start=self.first_id)
            if right != self.leaf_of(at)
        ]


class ChainWalk:
    """Where a walk over the chain has come to: `number` of the last commit, id `end` of its last event, its `head`."""

    def __init__(self, meta: SourceMeta, start: Commit | None = None) -> None:
        """Begin behind `start`, a commit that is believed; without it at the place before the first one."""
        start = start or meta.start()
        self._meta, self._borders = meta, {border.first_id: border for border in meta.borders}
        self.number = start.commit_no
        self.end = start.last_id
        self.head = start.head
        self._next_leaf = start.first_leaf + start.leaf_count
        self._heads: tuple[bytes, ...] = (start.head,)
        self._is_lost = False

    @classmethod
    def behind(cls, before: Commit | None, meta: SourceMeta, number: int) -> ChainWalk:
        """Begin in the middle of a chain, behind the stored commit `before`; it may be damaged or not readable.

        `number` is that of the commit before the stretch, `meta` the name of the log.
        """
        if before is not None and is_sane(before):
            return cls(meta, before)
        walk = cls(meta)
        walk.lose(number)
        walk._is_lost = True
        return walk

    def step(self, commit: Commit) -> tuple[Span | None, list[Flaw]]:
        """Take the next chain row; the events it holds if that can be told, and what is wrong with the order of rows.

        A `flaw` of the span itself is not among the flaws: its events may show that only a leaf was changed.
        """
        if not is_sane(commit):
            flaw = Flaw("chain_link", self.end + 1, f"commit {commit.commit_no} holds values that nobody writes")
            self.number, self._heads = commit.commit_no, ()
            return None, [flaw]
        flaws = self._order(commit) + self._cross(commit)
        span = self._place(commit)
        if span.first_id > self.end + 1 and not self._is_lost:
            words = f"events {self.end + 1} to {span.first_id - 1} are covered by no commit"
            flaws.append(Flaw("chain_number", self.end + 1, words))
        self._advance(span)
        return span, flaws

    def lose(self, number: int) -> None:
        """A chain row could not be read: what follows cannot be compared with it."""
        self.number, self._heads = number, ()

    def _order(self, commit: Commit) -> list[Flaw]:
        expected = self.number + 1
        if commit.commit_no == expected:
            return []
        self._heads = ()
        if commit.commit_no < expected:
            return [Flaw("chain_number", self.end + 1, f"commit {commit.commit_no} stands out of order")]
        last = commit.commit_no - 1
        words = f"commit {last} is missing" if last == expected else f"commits {expected} to {last} are missing"
        return [Flaw("chain_number", self.end + 1, words)]

    def _cross(self, commit: Commit) -> list[Flaw]:
        """With a new segment the chain begins anew, with a head that binds the last one of the segment before."""
        own = commit.last_id - len(commit.leaves) // HASH_SIZE + 1
        border = self._borders.get(self.end + 1) or self._borders.get(own)
        if border is None:
            return []
        flaws = []
        if border.first_id > self.end + 1 and not self._is_lost:
            words = f"events {self.end + 1} to {border.first_id - 1} are missing: no segment that is here holds them"
            flaws.append(Flaw("chain_number", self.end + 1, words))
            self.end, self._next_leaf, self._heads = border.first_id - 1, border.first_leaf, ()
        self._heads = tuple(self._meta.begin(border, head) for head in self._heads or (border.prev_head,))
        return flaws

    def _place(self, commit: Commit) -> Span:
        count = len(commit.leaves) // HASH_SIZE
        own = (commit.last_id - count + 1, commit.first_leaf)
        due = own if self._is_lost else (self.end + 1, self._next_leaf)
        is_usable = commit.leaf_count == count and own[0] >= due[0]
        if not self._heads:
            first_id, first_leaf = own if is_usable else due
            return Span(commit, first_id, first_leaf, (), None)
        if _follows(commit.head, self._heads, due[1], due[0], commit.leaves):
            flaw = None if is_usable and own == due else self._flaw(commit, due[0], "its numbers were changed")
            return Span(commit, *due, self._heads, flaw)
        first_id, first_leaf = own if is_usable else due
        words = f"with events {first_id} to {first_id + count - 1} does not follow from the commit before it"
        return Span(commit, first_id, first_leaf, self._heads, self._flaw(commit, first_id, words))

    def _flaw(self, commit: Commit, first_id: int, words: str) -> Flaw:
        return Flaw("chain_link", first_id, f"commit {commit.commit_no}: {words}")

    def _advance(self, span: Span) -> None:
        commit = span.commit
        heads = [commit.head]
        if span.flaw is not None and self._heads:
            heads.append(next_head(self._heads[0], span.first_leaf, span.first_id, commit.leaves))
        self.number, self.end, self.head = commit.commit_no, span.last_id, commit.head
        self._next_leaf = span.first_leaf + span.count
        self._heads, self._is_lost = tuple(heads), False


def _follows(head: bytes, before: Sequence[bytes], first_leaf: int, first_id: int, leaves: bytes) -> bool:
    return any(next_head(previous, first_leaf, first_id, leaves) == head for previous in before)
