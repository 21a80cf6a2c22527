"""Counts what became of each submitted state, refusals included; the log knows only the accepted ones."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from domain.errors import DomainError
from watchtower.channels.accept_state import Accepted
from watchtower.ports import WatchtowerError
from watchtower.telemetry.metrics import Metrics
from watchtower.wire.api import UpdateRequest

_log = structlog.get_logger(__name__)

AcceptState = Callable[[str, UpdateRequest], Accepted]

OUTCOMES = {
    slug.replace("_", "-"): slug
    for slug in (
        "sequence_gap",
        "equivocation",
        "invalid_signature",
        "invalid_secret",
        "invalid_state",
        "unknown_channel",
    )
}
"""Problem slug -> label of `state_updates_total`; every other refusal is `error`."""


def counted(accept: AcceptState, metrics: Metrics) -> AcceptState:
    """The same use case, with every answer and refusal counted."""

    def accept_and_count(name: str, request: UpdateRequest) -> Accepted:
        try:
            accepted = accept(name, request)
        except (DomainError, WatchtowerError) as error:
            outcome = OUTCOMES.get(error.slug, "error")
            metrics.count("state_updates_total", outcome)
            _log.warning("state_refused", channel=name, outcome=outcome, reason=str(error))
            raise
        metrics.count("state_updates_total", "duplicate" if accepted.duplicate else "accepted")
        return accepted

    return accept_and_count
