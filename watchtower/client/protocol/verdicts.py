"""The verdict of an application that runs inside the party, without a guard around it (`watchtower.applications`).

Its code is somebody else's. What it raises says nothing about the party's log, so it must not end the party: a state
without a verdict is refused, and the log of the program says why.
"""

from __future__ import annotations

import logging
import sys

from domain.application import Application, ApplicationState, refused
from domain.errors import DomainError

_log = logging.getLogger(__name__)


def require_verdict(application: Application, old: ApplicationState | None, new: ApplicationState) -> None:
    """Raise `ApplicationRefused` unless the application accepts `new` after `old` (None: `new` is state 0)."""
    reason = _verdict(application, old, new)
    if reason is not None:
        raise refused(application.app_id, new.sequence, reason)


def _verdict(application: Application, old: ApplicationState | None, new: ApplicationState) -> str | None:
    try:
        # What a foreign validator returns is looked at: its annotation promises nothing.
        answer: object = application.validate(old, new)
    except DomainError as refusal:
        return str(refusal)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the border to foreign code, which may have errors of its own making
        return _without_verdict(application, new, f"its validator failed ({type(error).__name__})")
    if answer is None or isinstance(answer, str):
        return answer
    return _without_verdict(application, new, "its validator answered neither None nor a text")


def _without_verdict(application: Application, new: ApplicationState, reason: str) -> str:
    """The reason, with what was raised in the log: only the author of the validator can mend it."""
    name, raised = application.app_id.hex()[:16], sys.exc_info()[0] is not None
    _log.error("application_failed app=%s state=%d reason=%s", name, new.sequence, reason, exc_info=raised)
    return reason
