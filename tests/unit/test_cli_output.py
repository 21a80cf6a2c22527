"""How commands speak: tables, aligned text, documents, and words of others that must not do anything."""

from __future__ import annotations

import io
import json
import sys

import pytest

from watchtower.cli.output import Context, emit_document, emit_line, printable

HOSTILE = "[/bold] \x1b[2J\x07 fine\n"
DOCUMENT = {"reason": HOSTILE, "empty": None, "flag": True, "pair": [1, 2], "inner": {"deep": {"name": 5}}, "none": []}


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def test_control_characters_are_not_printed() -> None:
    """Letters of any language are."""
    assert "[/bold] �[2J� fine�" == printable(HOSTILE)
    assert "größer 東" == printable("größer 東")


def test_a_table_on_a_terminal_shows_foreign_words_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """No markup is read, no sequence gets through; numbers have separators."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)

    Context(None, no_color=True).table("things", ("name", "amount"), [(HOSTILE, 1_000_000)])

    shown = terminal.getvalue()
    assert [True, True, False] == [word in shown for word in ("[/bold] �[2J� fine�", "1,000,000", "\x07")]


def test_a_document_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Inner fields have their path, what is empty is left out, a flag is a word."""
    emit_document(Context(None), "thing", DOCUMENT, as_json=False)

    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [["flag", "yes"], ["pair", "1, 2"], ["inner.deep.name", "5"]] == rows[2:]


def test_things_in_a_document_have_a_table_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers stand to the right, words to the left."""
    things = [{"name": "a", "amount": 5}, {"name": "long", "amount": 100}]
    emit_document(Context(None), "all", {"things": things}, as_json=False)

    assert ("name  amount\na          5\nlong     100\n", "") == capsys.readouterr()


def test_things_inside_a_document_have_one_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where a struct had a tuple: its costs of closing are no text in one cell."""
    emit_document(Context(None), "channel", {"costs": {"ways": ({"way": "penalty", "nets": (1, 2)},)}}, as_json=False)

    assert ("way      nets\npenalty  1, 2\n", "") == capsys.readouterr()


def test_documents_are_complete(capsys: pytest.CaptureFixture[str]) -> None:
    """One with its empty fields, or one per line."""
    emit_document(Context(None), "thing", DOCUMENT, as_json=True)
    whole = capsys.readouterr().out
    emit_line(DOCUMENT)
    line = capsys.readouterr().out

    assert [DOCUMENT, DOCUMENT] == [json.loads(whole), json.loads(line)]
    assert 1 == line.count("\n")


def test_an_empty_table_is_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is on stdout."""
    Context(None).table("channels", ("a",), [])
    told = capsys.readouterr()
    assert ("", "no channels\n") == (told.out, told.err)


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (60, "│ 3f9a    │ 100,000,000 │ 40,000,000 │"),
        (30, "channel   capacity      here\n3f9a     100000000  40000000\n"),
        (20, "channel   3f9a\ncapacity  100,000,000\nhere      40,000,000\n\nchannel   77\n"),
    ],
)
def test_no_number_is_broken_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, width: int, shown: str) -> None:
    """A frame if there is room, else aligned text, else one field per line."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))

    rows = [("3f9a", 100_000_000, 40_000_000), ("77", 5_000_000, 1_000_000)]
    Context(None, no_color=True).table("channels", ("channel", "capacity", "here"), rows)

    assert shown in terminal.getvalue()


def test_long_words_are_folded_within_the_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """One column of words may be: ids and descriptors are wider than any terminal."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "60")

    Context(None, no_color=True).table("channel", ("field", "value"), [("channel_id", "ab" * 32), ("capacity", 1_000)])

    assert ["abab" in line for line in terminal.getvalue().splitlines() if "│" in line][:2] == [True, True]
    assert max(map(len, terminal.getvalue().splitlines())) <= 60 + len("\x1b[1m\x1b[0m") * 8
