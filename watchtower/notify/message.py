"""What one target gets at once: one notice, or many as a digest. It is the JSON body of the webhook.

docs/notification.schema.json is made from `Message`; texts for phones and mails are made from its fields.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from watchtower.notify.notice import RANKS, Notice, Severity, Status, blocks, notice_id, sats

FORMAT = "watchtower-notification/1"
LISTED = 20
"""Notices of a digest that are in the message; the others are numbers."""

_SHOWN = 6
"""Kinds in the text of a digest: a phone shows some ten lines."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent. `id` stays the same when it is sent again: whoever has seen it may drop it.

    `count` notices are told, of which `notices` holds the most urgent ones; `dropped` more came and went while the
    target could not be reached. `act` says that a person has to do something. Times are Unix seconds.
    """

    format: str = FORMAT
    id: str
    tower: str
    network: str
    created_at: int
    severity: Severity
    status: Status
    kind: str
    title: str
    text: str
    act: bool
    runbook_url: str
    count: int
    dropped: int = 0
    notices: tuple[Notice, ...] = ()


class Sender(msgspec.Struct, frozen=True):
    """Whose messages these are: the tower's public id and its network."""

    tower: str
    network: str


def single(sender: Sender, notice: Notice) -> Message:
    """A message about one thing."""
    return Message(
        id=notice.id,
        tower=sender.tower,
        network=sender.network,
        created_at=notice.at,
        severity=notice.severity,
        status=notice.status,
        kind=notice.kind,
        title=notice.title,
        text=notice.text,
        act=notice.act,
        runbook_url=notice.runbook_url,
        count=1,
        notices=(notice,),
    )


def digest(sender: Sender, notices: Sequence[Notice], dropped: int = 0) -> Message:
    """One message about many things; `notices` are in the order of the log and not empty."""
    worst = max(notices, key=lambda notice: (notice.status != "ends", RANKS[notice.severity], notice.act))
    over = all(notice.status == "ends" for notice in notices)
    listed = sorted(notices, key=lambda notice: (-RANKS[notice.severity], not notice.act))[:LISTED]
    return Message(
        id=notice_id("digest", *(notice.id for notice in notices)),
        tower=sender.tower,
        network=sender.network,
        created_at=notices[-1].at,
        severity=max((notice.severity if over else _urgency(notice) for notice in notices), key=RANKS.__getitem__),
        status="ends" if over else "event",
        kind="digest",
        title=f"{len(notices):,} messages: {worst.title}",
        text=_digest_text(notices, dropped),
        act=any(notice.act for notice in notices),
        runbook_url=worst.runbook_url,
        count=len(notices),
        dropped=dropped,
        notices=tuple(listed),
    )


def compose(sender: Sender, notices: Sequence[Notice], dropped: int, singles: int) -> list[Message]:
    """Messages for what waits: one each while there are few enough, else one for all."""
    if not notices:
        return []
    if len(notices) <= singles and not dropped:
        return [single(sender, notice) for notice in notices]
    return [digest(sender, notices, dropped)]


def trial_message(sender: Sender, now: int) -> Message:
    """What `watchtower notify test` sends at Unix time `now`."""
    return Message(
        id=notice_id("test", sender.tower, now),
        tower=sender.tower,
        network=sender.network,
        created_at=now,
        severity="info",
        status="event",
        kind="test",
        title="Test of the notifications",
        text="This target works. Nothing to do.",
        act=False,
        runbook_url="",
        count=0,
    )


def encode(message: Message) -> bytes:
    """The JSON body, the same bytes each time."""
    return msgspec.json.encode(message)


def decode(body: bytes) -> Message:
    """Read `encode` back."""
    return msgspec.json.decode(body, type=Message)


def _urgency(notice: Notice) -> Severity:
    """That something is over wakes nobody, whatever is told beside it."""
    return "ticket" if notice.status == "ends" and notice.severity == "page" else notice.severity


def _digest_text(notices: Sequence[Notice], dropped: int) -> str:
    groups: dict[str, list[Notice]] = {}
    for notice in notices:
        groups.setdefault(notice.kind, []).append(notice)
    urgent = sorted(groups.values(), key=lambda group: -max(RANKS[notice.severity] for notice in group))
    lines = [_group_line(group) for group in urgent[:_SHOWN]]
    if len(urgent) > _SHOWN:
        lines.append(f"{sum(len(group) for group in urgent[_SHOWN:]):,} of other kinds")
    if dropped:
        lines.append(f"{dropped:,} older messages were dropped: see `watchtower channel history`.")
    return "\n".join(lines)


def _group_line(group: Sequence[Notice]) -> str:
    first = group[0]
    if len(group) == 1:
        return f"{first.title}. {first.text}"
    names = Counter(notice.status for notice in group)
    over = f" ({names['ends']:,} of them over)" if names["ends"] else ""
    line = f"{len(group):,} x {first.kind.replace('_', ' ')}{over}"
    if amount := sum(notice.sats or 0 for notice in group):
        line += f", {sats(amount)}"
    left = [notice.blocks_left for notice in group if notice.blocks_left is not None]
    if left:
        line += f", nearest deadline in {blocks(max(min(left), 0))}"
    return line
