"""Planted bugs of what is kept: acknowledgements, folds, views, secrets."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

import tests.simulation.clients
from domain.channel import Channel
from projections.projector import PAGE, Projector, Rows
from projections.tables import Projection
from tests.simulation.faults import Crash
from tests.simulation.mutants.planting import Mutant
from watchtower.channels import accept_state as accepting
from watchtower.channels.accept_state import Accepted
from watchtower.channels.context import Context
from watchtower.channels.reading import content_of
from watchtower.ports import EventStore, StoreError
from watchtower.responder.punish import Case, Punisher
from watchtower.responder.runs import Run, View
from watchtower.wire.api import UpdateAnswer, UpdateRequest
from watchtower.wire.hexes import Hex32

_accept = accepting.accept_state
_open, _made = Punisher._open, Projector.__init__


def _answered_first(context: Context, stream: str, request: UpdateRequest) -> Accepted:
    """What a tower does that answers and stores afterwards: the client knows before the commit, come what may."""
    try:
        return _accept(context, stream, request)
    except (StoreError, Crash):
        content = content_of(request.state)
        channel = context.channels.load(stream)
        answer = UpdateAnswer(
            channel_id=Hex32(channel.params.channel_id),
            sequence=content.header.seq,
            state_hash=Hex32(content.header.state_hash),
            final_sequence=content.header.seq,
        )
        return Accepted(answer, duplicate=False)


def _taken_for_current(
    projector: Projector, log: EventStore, rows: Rows, projections: Sequence[Projection], page: int = PAGE
) -> None:
    _made(projector, log, rows, projections, page)
    if projector._position:
        projector._position = log.last_id()


def _told(punisher: Punisher, channel: Channel, view: View, run: Run) -> Case | None:
    structlog.get_logger().info("case_opened", key=(punisher._keystore.get(channel.proposal_id) or b"").hex())
    return _open(punisher, channel, view, run)


STORAGE: Sequence[Mutant] = (
    Mutant(
        "answered-before-the-commit",
        "a client holds the answer to an upload before the upload is durable",
        "what miradord forbids its watchtowers",
        ("O2",),
        ((tests.simulation.clients, "accept_state", _answered_first),),
    ),
    Mutant(
        "views-taken-for-current",
        "after a restart the views count as up to date",
        "own",
        ("O1", "O3", "O7"),
        ((Projector, "__init__", _taken_for_current),),
    ),
    Mutant(
        "secret-in-the-log",
        "a log line shows the key that punishes",
        "own",
        ("O9",),
        ((Punisher, "_open", _told),),
    ),
)

__all__ = ["STORAGE"]
