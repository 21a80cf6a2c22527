"""Descriptors as text: what can be refused before any engine looks, and what a script asks for in words.

Not a judge of sanity: an engine is (`watchtower.descriptors`). This module finds the reason that a person
understands, for the engine gives none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from domain.contract.conditions import MAX_DESCRIPTOR
from domain.errors import InvalidState

MAX_DEPTH = 64
"""Nested parentheses. 512 characters hold a few dozen useful levels; a limit keeps every reader shallow."""
TIME_LOCKS_FROM = 500_000_000
"""Absolute lock times from here are seconds, below block heights (BIP-65)."""
NEVER = "one of its scripts can never be satisfied; the money would be lost"
MIXED = "it mixes locks by height and by time; use one kind"
SHORTENED = (
    "a relative lock counts 1 … 65,535 blocks, or as many units of 512 seconds (4,194,305 … 4,259,839); "
    "nodes drop what is above, so this one would be shorter than it reads, or none at all"
)
_TIME_BIT = 1 << 22
_LOCK_BITS = 0xFFFF
_NOBODY = "50929b74c1a04954b78b4b6035e97a5e078a5a0f28ec96d547bfee9ace803ac0"
"""The point of BIP-341 whose key nobody has."""

_KEYS = frozenset({"pk", "pk_k", "pkh", "pk_h", "wpkh"})
_MULTI = frozenset({"multi", "multi_a", "sortedmulti", "sortedmulti_a"})
_HASHES = frozenset({"sha256", "hash256", "ripemd160", "hash160"})
_AND = frozenset({"and_v", "and_b", "and_n"})
_OR = frozenset({"or_b", "or_c", "or_d", "or_i"})
_BRANCHING = frozenset({"or_c", "or_d", "or_i", "andor"})
_BRANCHING_WRAPPERS = frozenset("djlu")
_KNOWN = _KEYS | _MULTI | _HASHES | _AND | _OR | {"andor", "thresh", "after", "older", "wsh", "tr", "{}"}
_PRIVATE = re.compile(r"[xt]prv|(?<![0-9A-Za-z])[5KL9c][1-9A-HJ-NP-Za-km-z]{50,51}(?![0-9A-Za-z])")
_HARDENED = re.compile(r"[xt]pub[1-9A-HJ-NP-Za-km-z]+(?:/[0-9]+)*/[0-9]+['hH]")
_TOKEN = re.compile(r"[(){},]|[^(){},]+")


class Fragment(msgspec.Struct, frozen=True):
    """A name with arguments; a bare word (key, number, hash) has none. `wrappers` are the letters before a colon."""

    name: str
    arguments: tuple[Fragment, ...] = ()
    wrappers: str = ""

    def walk(self) -> Iterator[Fragment]:
        """This fragment and all below."""
        yield self
        for argument in self.arguments:
            yield from argument.walk()


def refused(reason: str) -> InvalidState:
    """The refusal of a descriptor. The text itself is not quoted: it may hold a key that nobody should see."""
    return InvalidState(f"the descriptor is refused: {reason}")


def parse(text: str) -> Fragment:
    """Read a descriptor after everything that can be said about its text was said; raises `InvalidState`."""
    _check_characters(text)
    head = text.partition("(")[0]
    if head not in {"wpkh", "wsh", "tr"}:
        raise refused(
            "only wpkh(…), wsh(…) and tr(…) pay to a witness program that can be derived and checked here; "
            "legacy, nested, raw and address forms do not"
        )
    _check_keys(text)
    return _Reader(text).whole()


def _check_characters(text: str) -> None:
    if not text or len(text) > MAX_DESCRIPTOR:
        raise refused(f"it has {len(text)} characters, 1 … {MAX_DESCRIPTOR} are allowed")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise refused("it has spaces or characters that are not printable ASCII; remove them")
    if "#" in text:
        raise refused("it ends in a checksum; leave out # and what follows")


def _check_keys(text: str) -> None:
    if _PRIVATE.search(text):
        raise refused("it holds a private key, which must not be shown to anybody; give the public key")
    if "*" in text or "<" in text:
        raise refused("it describes many scripts (* or <…;…>); give the keys of one concrete script")
    if _HARDENED.search(text):
        raise refused("it asks for a hardened step below an extended public key, which nobody can derive")
    if "musig(" in text:
        raise refused("musig(…) is not understood here; give the aggregate key in x-only form")


class _Reader:
    """Recursive descent over the tokens of one descriptor."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = _TOKEN.findall(text)
        self._place = 0

    def whole(self) -> Fragment:
        fragment = self._fragment(0)
        if self._place != len(self._tokens):
            raise refused("there is text behind its last parenthesis")
        return fragment

    def _fragment(self, depth: int) -> Fragment:
        if depth > MAX_DEPTH:
            raise refused(f"its parentheses are nested deeper than {MAX_DEPTH}")
        word = self._next()
        if word == "{":
            return Fragment("{}", self._arguments("}", depth))
        if word in "(){},":
            raise refused(f"there is a {word!r} where a name, key or number belongs")
        wrappers, _, name = word.rpartition(":")
        if self._place < len(self._tokens) and self._tokens[self._place] == "(":
            self._place += 1
            return Fragment(name, self._arguments(")", depth), wrappers)
        return Fragment(name, (), wrappers)

    def _arguments(self, end: str, depth: int) -> tuple[Fragment, ...]:
        found = [self._fragment(depth + 1)]
        while (closing := self._next()) == ",":
            found.append(self._fragment(depth + 1))
        if closing != end:
            raise refused(f"a {end!r} is missing")
        return tuple(found)

    def _next(self) -> str:
        if self._place >= len(self._tokens):
            raise refused("it ends too early: a parenthesis is not closed")
        self._place += 1
        return self._tokens[self._place - 1]


def scripts(descriptor: Fragment) -> tuple[Fragment, ...]:
    """The miniscripts of a descriptor: one of `wsh`, one per leaf of `tr`, `wpkh` as a key check."""
    if descriptor.name == "tr":
        return tuple(leaf for tree in descriptor.arguments[1:] for leaf in _leaves(tree))
    return descriptor.arguments if descriptor.name == "wsh" else (descriptor,)


def _leaves(tree: Fragment) -> Iterator[Fragment]:
    if tree.name != "{}":
        yield tree
        return
    for branch in tree.arguments:
        yield from _leaves(branch)


def likely_fault(descriptor: Fragment) -> str:
    """Why an engine does not like it, as far as the text shows it; empty if it does not."""
    if any(part.arguments and part.name not in _KNOWN for part in descriptor.walk()):
        return ""
    for script in scripts(descriptor):
        keys = [key.name for part in script.walk() for key in _keys_of(part)]
        locks = {_lock_kind(part) for part in script.walk() if part.name in ("after", "older") and part.arguments}
        if not _can_be_true(script):
            return NEVER
        if not _needs_signature(script):
            return "one of its ways to spend asks for no signature: anybody could take the money"
        if len(set(keys)) < len(keys):
            return "a key occurs twice in one script; use fresh keys"
        if len(locks) > 1:
            return MIXED
    return ""


def can_be_spent(descriptor: Fragment) -> bool:
    """Whether each of its scripts can be satisfied at all; a leaf that cannot is a mistake, if a cheap one."""
    found = scripts(descriptor)
    return all(_can_be_true(script) for script in found) and bool(found or not _is_nobodys(descriptor))


def shortens_a_lock(descriptor: Fragment) -> bool:
    """Whether a relative lock is not what it reads: of its number only 16 bits and the kind count (BIP-68, BIP-112)."""
    numbers = [_number(part.arguments[0]) for part in descriptor.walk() if part.name == "older" and part.arguments]
    return any(number & ~_TIME_BIT != number & _LOCK_BITS or not number & _LOCK_BITS for number in numbers)


def _is_nobodys(descriptor: Fragment) -> bool:
    """Whether nobody can sign for the key path of a taproot descriptor."""
    return descriptor.name == "tr" and descriptor.arguments[0].name.lower() in (_NOBODY, "02" + _NOBODY)


def branches_in_a_leaf(descriptor: Fragment) -> bool:
    """Whether a taproot leaf contains OP_IF or OP_NOTIF, from a fragment or from a wrapper (BIP-379, translation)."""
    parts = (part for leaf in scripts(descriptor) for part in leaf.walk())
    return descriptor.name == "tr" and any(
        part.name in _BRANCHING or set(part.wrappers) & _BRANCHING_WRAPPERS for part in parts
    )


def _keys_of(fragment: Fragment) -> tuple[Fragment, ...]:
    if fragment.name in _KEYS:
        return fragment.arguments
    return fragment.arguments[1:] if fragment.name in _MULTI else ()


def _lock_kind(fragment: Fragment) -> str:
    number = _number(fragment.arguments[0])
    by_time = number >= TIME_LOCKS_FROM if fragment.name == "after" else bool(number & _TIME_BIT)
    return fragment.name + (" time" if by_time else " height")


def _number(fragment: Fragment) -> int:
    return int(fragment.name) if fragment.name.isdecimal() and len(fragment.name) <= 10 else 0


def _needs_signature(script: Fragment) -> bool:
    name, parts = script.name, script.arguments
    if name in _KEYS or name in _MULTI or name == "0":
        return True
    needing = [_needs_signature(part) for part in parts]
    if name in _AND:
        return any(needing)
    if name in _OR:
        return all(needing)
    if name == "andor" and len(parts) == 3:
        return (needing[0] or needing[1]) and needing[2]
    if name == "thresh" and parts:
        return needing[1:].count(False) < _number(parts[0])
    return False


def _can_be_true(script: Fragment) -> bool:
    name, parts = script.name, script.arguments
    if not parts:
        return name != "0"
    able = [_can_be_true(part) for part in parts]
    if name in _AND:
        return all(able)
    if name in _OR:
        return any(able)
    if name == "andor" and len(parts) == 3:
        return (able[0] and able[1]) or able[2]
    if name == "thresh":
        return able[1:].count(True) >= _number(parts[0])
    return True


def ways(descriptor: Fragment) -> tuple[str, ...]:
    """What each script asks for, in words; a taproot descriptor begins with its key path if somebody has the key."""
    told = tuple(_words(script) for script in scripts(descriptor))
    if descriptor.name != "tr":
        return told
    if _is_nobodys(descriptor):
        return told
    return (f"a signature of {_short(descriptor.arguments[0])} (key path)", *told)


def _words(script: Fragment) -> str:
    name, parts = script.name, script.arguments
    if name in _KEYS and parts:
        return f"a signature of {_short(parts[0])}"
    if name in _MULTI and parts:
        return f"{parts[0].name} of the signatures of " + ", ".join(map(_short, parts[1:]))
    if name in _HASHES and parts:
        return f"the preimage of {name} {_short(parts[0])}"
    if name in ("after", "older") and parts:
        return _lock_words(script)
    if name in _AND:
        return " and ".join(_inner(part) for part in parts)
    if name in _OR:
        return " or ".join(_inner(part) for part in parts)
    if name == "andor" and len(parts) == 3:
        return f"({_words(parts[0])} and {_words(parts[1])}) or {_inner(parts[2])}"
    if name == "thresh" and parts:
        return f"{parts[0].name} of: " + "; ".join(_inner(part) for part in parts[1:])
    return {"0": "never", "1": "always"}.get(name, name)


def _lock_words(script: Fragment) -> str:
    number, kind = script.arguments[0].name, _lock_kind(script)
    seconds = (_number(script.arguments[0]) & 0xFFFF) * 512
    return {
        "after height": f"from block height {number}",
        "after time": f"from Unix time {number}",
        "older height": f"{number} blocks after confirmation",
        "older time": f"{seconds} seconds after confirmation",
    }[kind]


def _inner(script: Fragment) -> str:
    text = _words(script)
    return f"({text})" if " or " in text or " of: " in text or " and " in text else text


def _short(key: Fragment) -> str:
    return key.name if len(key.name) <= 16 else f"{key.name[:8]}…{key.name[-4:]}"
