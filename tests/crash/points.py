"""The named points, the ways in which one fails, and the error that is honest at each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

from domain.events import Envelope
from watchtower.ports import NodeUnavailable, StoreFull, WatchtowerError

NODE_POINTS = ("block_fetch", "block_parse", "broadcast", "package", "audit_query")
"""Points around calls to the node and what is made of their answers."""

PASS_COMMITS = (
    "connect",
    "disconnect",
    "breach_commit",
    "prepare_commit",
    "bump_commit",
    "broadcast_result_commit",
    "confirm_commit",
    "resolve_commit",
    "audit_commit",
)
CLIENT_COMMITS = ("register_commit", "state_commit")
RECEIPT_POINTS = ("receipt_sign", "receipt_send")
"""Points behind the commit of an upload: whoever fails there has stored everything and told nobody."""
VIEW_POINTS = ("projection_apply", "projection_position", "migration_step")
STOP_POINTS = ("shutdown_drain",)

NAMES = (*NODE_POINTS, *PASS_COMMITS, *CLIENT_COMMITS, *RECEIPT_POINTS, *VIEW_POINTS, *STOP_POINTS)
"""Every name; each is passed as `name:before` and `name:after`."""


class Kind(StrEnum):
    """What happens at an armed point."""

    KILL = "kill"
    """The power goes off: no handler runs, all objects are gone."""
    MISTAKE = "mistake"
    """An exception that nobody expects: the process ends by itself and is started again."""
    ERROR = "error"
    """The error of the port that works there; the process goes on."""
    HAPPENED = "happened"
    """The commit behind the point is durable, but its caller is told that it failed."""


class PowerCut(BaseException):
    """The process ends here."""


class Mistake(Exception):
    """Something that the program does not expect."""


class Point:
    """A failpoint that fails once, at the n-th passing of the armed name; it also counts what passes."""

    def __init__(self) -> None:
        self.passed: dict[str, int] = {}
        self.lose_answer = False
        self._name, self._left, self._kind = "", 0, Kind.KILL

    @property
    def fired(self) -> bool:
        """The armed failure took place."""
        return not self._name

    def arm(self, name: str, kind: Kind, passing: int = 1) -> None:
        """Fail when `name` is passed for the `passing`-th time from now on."""
        self._name, self._kind, self._left = name, kind, passing
        self.passed.clear()

    def __call__(self, name: str) -> None:
        """Pass the point, or fail."""
        self.passed[name] = self.passed.get(name, 0) + 1
        if name != self._name:
            return
        self._left -= 1
        if self._left:
            return
        self._name = ""
        self._fail(name)

    def _fail(self, name: str) -> None:
        if self._kind is Kind.HAPPENED:
            self.lose_answer = True
            return
        if self._kind is Kind.KILL:
            raise PowerCut(name)
        if self._kind is Kind.MISTAKE:
            raise Mistake(name)
        raise honest_error(name)


def honest_error(name: str) -> WatchtowerError:
    """What the port at this point really raises."""
    base = name.split(":", maxsplit=1)[0]
    return NodeUnavailable(f"lost at {name}") if base in NODE_POINTS else StoreFull(f"no space at {name}")


def losing(append: Callable[..., int], point: Point) -> Callable[..., int]:
    """An `append` whose answer gets lost, once, after the point asked for it."""

    def lossy(job: Sequence[Envelope], *, chain: bool = False) -> int:
        last_id = append(job, chain=chain)
        if point.lose_answer:
            point.lose_answer = False
            raise StoreFull("the commit happened, but its answer was lost")
        return last_id

    return lossy
