"""Few messages for many notices: what a digest says, and that its id is the same when it is made again."""

from __future__ import annotations

from watchtower.notify.message import LISTED, Message, Sender, compose, decode, encode
from watchtower.notify.notice import Notice, Severity
from watchtower.notify.words import TEXT_MAX, plain_text

SENDER = Sender("ab" * 32, "mainnet")


def notice(number: int, kind: str = "breach_seen", severity: Severity = "page", **more: object) -> Notice:
    """One of many."""
    fields = {"title": f"Title {number}", "text": f"Text {number}.", "sats": 1_000, "blocks_left": number, **more}
    return Notice(id=f"{number:032x}", kind=kind, severity=severity, at=1_000 + number, **fields)  # type: ignore[arg-type]


TICKET, INFO = (
    Notice(id="t", kind="k", severity="ticket", at=1, title="", text=""),
    Notice(id="i", kind="k", severity="info", at=1, title="", text=""),
)


def the_digest(notices: list[Notice], dropped: int = 0) -> Message:
    """All in one."""
    (message,) = compose(SENDER, notices, dropped, 0)
    return message


def test_few_notices_are_messages_of_their_own() -> None:
    """In the order of the log, each under its own id."""
    messages = compose(SENDER, [notice(1), notice(2)], 0, 5)

    assert [f"{1:032x}", f"{2:032x}"] == [message.id for message in messages]
    assert [1, 1] == [message.count for message in messages]


def test_many_notices_are_one_message() -> None:
    """With numbers instead of a list: how many, how much, how soon."""
    message = the_digest([notice(number) for number in range(3, 1_003)])

    assert ("digest", "page", 1_000, LISTED) == (message.kind, message.severity, message.count, len(message.notices))
    assert "1,000 messages: Title 3" == message.title
    assert "1,000 x breach seen, 1,000,000 sat, nearest deadline in 3 blocks" == message.text


def test_a_digest_begins_with_what_is_most_urgent() -> None:
    """A page is not hidden behind tickets, and kinds that came once keep their words."""
    tickets = [notice(number, "penalty_sent", "ticket") for number in range(50)]
    message = the_digest([*tickets, notice(99, "funds_lost", "page", act=True)])
    first, second = message.text.split("\n")

    assert ("51 messages: Title 99", True) == (message.title, message.act)
    assert "Title 99. Text 99." == first
    assert second.startswith("50 x penalty sent, 50,000 sat")
    assert "funds_lost" == message.notices[0].kind


def test_a_digest_of_many_kinds_stays_short() -> None:
    """Six kinds, then a number."""
    message = the_digest([notice(number, f"kind_{number // 2}") for number in range(20)])

    assert (7, "8 of other kinds") == (len(message.text.split("\n")), message.text.split("\n")[-1])


def test_ends_are_counted_as_such() -> None:
    """A condition that came and went is no emergency in the title."""
    message = the_digest([notice(1, status="ends"), notice(2, status="ends"), notice(3, "node_lost", status="begins")])

    assert "3 messages: Title 3" == message.title
    assert "2 x breach seen (2 of them over)" in message.text


def test_that_something_is_over_wakes_nobody() -> None:
    """Alone it is an end; beside things to look at it is one of them."""
    over = [notice(1, status="ends"), notice(2, status="ends")]
    told = [(message.severity, message.status) for message in (the_digest(over), the_digest([*over, TICKET, INFO]))]

    assert [("page", "ends"), ("ticket", "event")] == told
    assert "page" == the_digest([*over, notice(3)]).severity


def test_what_was_dropped_is_said() -> None:
    """Even with a single notice left."""
    (message,) = compose(SENDER, [notice(1)], 12, 5)

    assert (12, 1) == (message.dropped, message.count)
    assert "12 older messages were dropped" in message.text


def test_the_same_notices_make_the_same_message() -> None:
    """Byte for byte, so that a receiver can tell that it has it."""
    notices = [notice(number) for number in range(9)]

    assert encode(the_digest(notices)) == encode(the_digest(notices))
    assert the_digest(notices).id != the_digest(notices[1:]).id
    assert the_digest(notices) == decode(encode(the_digest(notices)))


def test_nothing_waits_nothing_is_said() -> None:
    """No empty message."""
    assert [] == compose(SENDER, [], 0, 5)


def test_a_text_fits_a_phone() -> None:
    """However long it is made; and it says whether to act."""
    (message,) = compose(SENDER, [notice(1, text="x" * 9_000, act=True, runbook_url="https://r")], 0, 5)
    lines = plain_text(message).split("\n")

    assert TEXT_MAX == len(lines[0])
    assert ["You have to act.", "https://r", "mainnet tower abababababababab"] == lines[1:]
