"""The applications of an installation: validators that run behind a guard.

A validator is somebody else's code. It runs in a process of its own; if it raises, answers nonsense, takes too
long, dies or eats memory, the state is refused with that reason, nothing is stored, and the next question gets a
fresh process. A `GuardedApplication` is an `Application` itself, so a party takes it like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import ClassVar

import msgspec

from domain.application import Application, ApplicationRefused, ApplicationState, application_state, refused
from domain.contract.conditions import Condition
from domain.contract.header import StateHeader
from watchtower.ports import WatchtowerError
from watchtower.worker import (
    MEMORY,
    Answering,
    Worker,
    WorkerBusy,
    WorkerFailed,
    WorkerSlow,
    WorkerUnavailable,
    target_of,
)

SECONDS = 1.0
"""For one verdict. An update waits for it, and so does every other update of the same application."""
NO_APP_ID = bytes(32)
"""The name of a channel without application; no validator can have it."""


class ApplicationUnusable(WatchtowerError):
    """A configured application cannot be loaded, or is none: no `validate`, no `app_id` of 32 bytes."""

    slug: ClassVar[str] = "application-unusable"


class _Question(msgspec.Struct, frozen=True, array_like=True):
    """Two neighboring states; an `app_id` question has neither."""

    old: ApplicationState | None = None
    new: ApplicationState | None = None


_encode = msgspec.msgpack.Encoder().encode
_read_question = msgspec.msgpack.Decoder(_Question).decode
_read_reason: msgspec.msgpack.Decoder[str | None] = msgspec.msgpack.Decoder(str | None)


class GuardedApplication:
    """An application named `package.module:name` (an object, or a class without arguments) behind the guard.

    `seconds` limits one verdict, `memory` (bytes) its process. Raises `ApplicationUnusable` at once if it cannot be
    loaded. Close it when it is no longer needed.
    """

    def __init__(self, name: str, *, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self.name = name
        self._worker = Worker("watchtower.applications:answering", (name,), seconds=seconds, memory=memory)
        try:
            self._app_id = self._worker.ask(_encode(_Question()))
        except WorkerFailed as failure:
            self._worker.close()
            raise ApplicationUnusable(f"application {name} cannot be used: {failure}") from None

    @property
    def app_id(self) -> bytes:
        """The 32 bytes that name it."""
        return self._app_id

    def validate(self, old: ApplicationState | None, new: ApplicationState) -> str | None:
        """The verdict. Every failure of the validator is a reason too: an unclear state is not accepted.

        `WorkerBusy` if too many states wait for it: that says nothing about this one, which may come again.
        """
        try:
            return _read_reason.decode(self._worker.ask(_encode(_Question(old, new))))
        except WorkerBusy:
            raise
        except WorkerUnavailable:
            return "its validator does not start; the operator finds the reason with `watchtower run`"
        except WorkerSlow:
            return f"its validator gave no answer within {self._worker.seconds:g} s"
        except WorkerFailed as failure:
            return f"its validator failed ({failure})"
        except msgspec.MsgspecError:
            return "its validator answered neither None nor a text"

    def close(self) -> None:
        """End its process."""
        self._worker.close()


class Applications:
    """Which validator judges which channel. Without an entry `state_data` is opaque, as the protocol has it.

    `require_known` refuses channels of an application that is not here; channels without one (32 zero bytes) never.
    """

    def __init__(self, known: Iterable[Application] = (), *, require_known: bool = False) -> None:
        self._known = check_app_ids(known)
        self._require_known = require_known

    def check(
        self,
        header: StateHeader,
        conditions: tuple[Condition, ...],
        state_data: bytes,
        before: Callable[[], ApplicationState | None],
    ) -> None:
        """Raise `ApplicationRefused` unless the state's application accepts it; `before` gives its predecessor."""
        application = self._known.get(header.app_id)
        if application is None:
            self._check_unknown(header)
            return
        new = application_state(header, conditions, state_data)
        reason = application.validate(before(), new)
        if reason is not None:
            raise refused(header.app_id, header.seq, reason)

    def _check_unknown(self, header: StateHeader) -> None:
        if self._require_known and header.app_id != NO_APP_ID:
            raise ApplicationRefused(
                f"application {header.app_id.hex()} is not known here, and this installation accepts known ones only"
            )

    def close(self) -> None:
        """End the processes of guarded applications."""
        for application in self._known.values():
            if isinstance(application, GuardedApplication):
                application.close()


def load_applications(
    names: Iterable[str], *, require_known: bool = False, seconds: float = SECONDS, memory: int = MEMORY
) -> Applications:
    """Start every named application behind its guard; `ApplicationUnusable` names the one that cannot be used."""
    started: list[GuardedApplication] = []
    try:
        for name in names:
            started.append(GuardedApplication(name, seconds=seconds, memory=memory))  # noqa: PERF401 - closed below
        return Applications(started, require_known=require_known)
    except ApplicationUnusable:
        for application in started:
            with suppress(OSError):
                application.close()
        raise


def check_app_ids(applications: Iterable[Application]) -> dict[bytes, Application]:
    """The applications by their names; `ApplicationUnusable` for a name that is none, and for one that two have."""
    known: dict[bytes, Application] = {}
    for application in applications:
        app_id = application.app_id
        _check_id(app_id)
        if app_id in known:
            raise ApplicationUnusable(
                f"two applications have the app_id {app_id.hex()}; load one of them, or name another version otherwise"
            )
        known[app_id] = application
    return known


def _check_id(app_id: object) -> None:
    if not isinstance(app_id, bytes) or len(app_id) != 32 or app_id == NO_APP_ID:
        raise ApplicationUnusable("an app_id is 32 bytes, not all zero; use the SHA-256 of a name that is yours")


# ── inside the process ───────────────────────────────────────────────────────────────────────────────────


def answering(name: str) -> Answering:
    """Load the application and answer `_Question`s; raises what loading raises."""
    found = target_of(name)
    application: Application = found() if isinstance(found, type) else found  # type: ignore[assignment]
    _check_id(application.app_id)

    def answer(raw: bytes) -> bytes:
        question = _read_question(raw)
        if question.new is None:
            return application.app_id
        return _encode(application.validate(question.old, question.new))

    return answer
