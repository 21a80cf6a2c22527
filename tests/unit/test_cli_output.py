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
