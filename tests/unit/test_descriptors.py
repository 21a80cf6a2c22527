"""Outputs given by descriptor: what is resolved, what is refused and with which words."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.contract.params import is_witness_program
from domain.errors import InvalidState
from tests.support.examples import examples
from tests.support.miniscripts import (
    DIGEST,
    INSANE,
    KEYS,
    NOBODY,
    REFUSED_TEXTS,
    SANE,
    TPUB,
    WIF,
    A,
    B,
    random_descriptor,
    xonly,
)
from watchtower import descriptors
from watchtower.descriptors import Resolved, describe, resolve
from watchtower.descriptors.text import MIXED, likely_fault, parse

SIGNS = [",", ")", "{", "}", "1", "0", "s:", "v:", "sln:", "/0", "'", "[", "]", "2147483647", "[d34db33f/1']"]
NAMES = ["wsh(", "tr(", "wpkh(", "pk(", "and_v(", "or_i(", "older(", "thresh(", "multi(", "sha256("]
PIECES = st.sampled_from([*KEYS[:3], xonly(A), TPUB, DIGEST, *NAMES, *SIGNS])
WORST_SECONDS = 20.0
"""For 512 characters on a busy machine; a sane answer takes a millisecond or two. The engine has five."""


@pytest.mark.parametrize("name", SANE)
def test_sane_descriptors_have_a_witness_program(name: str) -> None:
    """The forms that channels may use; the same answer every time."""
    script = resolve(SANE[name])

    assert is_witness_program(script)
    assert script == resolve(SANE[name])


def test_known_scripts() -> None:
    """BIP-86, first receiving key: a vector that does not come from the library."""
    internal = "cc8a4bc64d897bddc5fbc2f670f7a8ba0b386779106cf1223c6fc5d7cd6fc115"
    expected = "5120a60869f0dbcf1dc659c9cecbaf8050135ea9e8cdc487053f1dc6880949dc684c"

    assert expected == resolve(f"tr({internal})").hex()


def test_a_description_says_what_each_way_asks_for() -> None:
    """Kind, weight and the conditions in words, for a human who is asked to agree."""
    text = f"tr({xonly(A)},{{and_v(v:pk({xonly(B)}),older(10)),and_v(v:sha256({DIGEST}),pk({xonly(KEYS[2])}))}})"

    described = describe(text)

    key_path, first, second = described.ways
    assert ("tr", 34) == (described.kind, len(described.spk))
    assert key_path.endswith("(key path)")
    assert first.endswith("and 10 blocks after confirmation")
    assert second.startswith("the preimage of sha256")
    assert 100 < described.weight < 300


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"wsh(andor(pk({A}),older(5),pk({B})))", "5 blocks after confirmation) or a signature"),
        (f"wsh(thresh(2,pk({A}),s:pk({B}),sln:after(800000)))", "2 of: a signature"),
        (f"wsh(or_d(pk({A}),and_v(v:pkh({B}),after(500000001))))", "from Unix time 500000001"),
        (f"wsh(and_v(v:pk({A}),older(4194305)))", "512 seconds after confirmation"),
        (f"wsh(multi(1,{A},{B}))", "1 of the signatures of"),
    ],
)
def test_conditions_in_words(text: str, words: str) -> None:
    """Thresholds, alternatives, and both kinds of locks."""
    assert words in " / ".join(describe(text).ways)


@pytest.mark.parametrize("lock", [1, 65_535, 4_194_305, 4_259_839])
def test_the_longest_and_shortest_relative_locks(lock: int) -> None:
    """Blocks and units of 512 seconds, each from one to what 16 bits hold."""
    assert is_witness_program(resolve(f"wsh(and_v(v:pk({A}),older({lock})))"))


def test_a_key_path_that_nobody_has_is_not_told_as_a_way() -> None:
    """The usual point without a key, beside a leaf that can be satisfied."""
    described = describe(f"tr({NOBODY},pk({xonly(A)}))")

    assert [True] == [way.startswith("a signature of") and "key path" not in way for way in described.ways]


@pytest.mark.parametrize("fault", REFUSED_TEXTS)
def test_texts_that_are_refused(fault: str) -> None:
    """Each with its reason; the text, which may hold a private key, is never quoted."""
    text, words = REFUSED_TEXTS[fault]

    with pytest.raises(InvalidState, match="the descriptor is refused") as caught:
        resolve(text)

    assert words in str(caught.value)
    assert WIF not in str(caught.value)
    assert A not in str(caught.value)


@pytest.mark.parametrize("fault", INSANE)
def test_insane_descriptors_are_refused_with_the_likely_fault(fault: str) -> None:
    """The engine only says no; the reason is found here."""
    text, words = INSANE[fault]

    with pytest.raises(InvalidState) as caught:
        resolve(text)

    assert words in str(caught.value)


def test_an_engine_that_breaks_refuses_and_stands_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hardened step makes the library end its process; with the check in front removed, only that process dies."""
    monkeypatch.setattr(descriptors, "parse", lambda text: parse(SANE["key"]))

    with pytest.raises(InvalidState, match="engine broke"):
        resolve(f"wpkh({TPUB}/0'/7)")

    assert is_witness_program(resolve(f"wsh(and_v(v:pk({A}),older(4321)))"))


def outcome(text: str) -> bytes | str:
    """The script, or the reason of the refusal."""
    try:
        return resolve(text)
    except InvalidState as refusal:
        return str(refusal)


@settings(max_examples=examples(400), deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join))
@example("wsh(" + "or_i(0," * 60 + f"pk({A})" + ")" * 61)
@example(f"tr({xonly(A)}," + "{" * 40 + f"pk({xonly(B)})" + "}" * 41)
@example("wsh(thresh(1" + ",0" * 200 + "))")
@example(f"wsh({'j' * 400}:pk({A}))")
@example("wsh(multi(20" + f",{A}" * 6 + "))")
def test_foreign_texts_are_resolved_or_refused_in_bounded_time(text: str) -> None:
    """Fragments in any order: a witness program, or `InvalidState`; never a crash, never long."""
    begun = time.monotonic()

    answer = outcome(text)

    assert isinstance(answer, str) or is_witness_program(answer)
    assert "engine broke" not in str(answer)
    assert time.monotonic() - begun < WORST_SECONDS


@settings(max_examples=examples(150), deadline=None)
@given(st.text(max_size=600))
def test_any_text_is_refused_without_the_engine_or_resolved(text: str) -> None:
    """Arbitrary Unicode never gets through and never raises anything else."""
    with pytest.raises(InvalidState):
        resolve(text)


@settings(max_examples=examples(200), deadline=None)
@given(st.integers(0, 10_000))
def test_the_hint_never_blames_a_sane_descriptor(seed: int) -> None:
    """What the engine calls sane has no fault that is looked for; both kinds of locks may stand in two branches."""
    text = random_descriptor(seed)
    try:
        resolve(text)
    except InvalidState:
        return
    assert likely_fault(parse(text)) in ("", MIXED)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Resolved("", "WSH", b"\x00\x20" + bytes(32), 400_000), "no node relays it"),
        (Resolved("", "WSH", b"\x51\x02\x4e\x73", 100), "not a witness program"),
        (Resolved("", "SH", b"\xa9\x14" + bytes(20) + b"\x87", 100), "not a witness program"),
        (Resolved("ranged"), "many scripts"),
        (Resolved("secret"), "private key"),
        (Resolved("weight", "WSH"), "no way to satisfy it"),
        (Resolved("script", "WSH"), "no address form"),
        (Resolved("sanity", "WSH"), "not sane miniscript"),
    ],
)
def test_whatever_the_engine_finds_is_refused(monkeypatch: pytest.MonkeyPatch, answer: Resolved, words: str) -> None:
    """Second line of defense: what the text did not show and the engine did, also beyond its own rules."""
    monkeypatch.setattr(descriptors, "_ask", lambda text: answer)

    with pytest.raises(InvalidState, match=words):
        resolve(f"wsh(and_v(v:pk({A}),older(5555)))")
