"""Outputs given by a descriptor: their script, and what it asks for (protocol 3.5, type 2).

The judge is rust-miniscript, in a process of its own: a crash of the library, or an input that keeps it busy,
is a refusal here and nothing more. Answers are remembered, for a state repeats the outputs of the one before.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from domain.contract.params import P2A_SPK, is_witness_program
from watchtower.descriptors.text import (
    NEVER,
    SHORTENED,
    branches_in_a_leaf,
    can_be_spent,
    likely_fault,
    parse,
    refused,
    shortens_a_lock,
    ways,
)
from watchtower.worker import Worker, WorkerFailed, WorkerUnavailable

ENGINE_SECONDS = 5.0
"""Far above the two milliseconds that the worst 512 characters took: a loaded machine must not refuse good states."""
MAX_SATISFACTION = 400_000 - 4 * 2_000
"""Weight units of a witness that fit a standard transaction (400,000) with 2,000 bytes for all the rest."""
REMEMBERED = 4096

_REASONS = {
    "parse": "it cannot be read as a descriptor with miniscript: look for an unknown fragment, a key that is not "
    "compressed or not on the curve, a number out of range, or parts that do not fit together",
    "sanity": "it is not sane miniscript (malleable, or above the limits of standard scripts); compile it from a "
    "policy with a current compiler",
    "ranged": "it describes many scripts; give the keys of one concrete script",
    "secret": "it holds a private key, which must not be shown to anybody; give the public key",
    "weight": "no way to satisfy it was found; the money would be lost",
    "script": "it has no address form; use wpkh(…), wsh(…) or tr(…)",
}


class Resolved(msgspec.Struct, frozen=True, array_like=True):
    """The engine's answer: kind, scriptPubKey, weight units of the heaviest satisfaction that it would build.

    `problem` is empty for a sane descriptor, else the first check that failed.
    """

    problem: str
    kind: str = ""
    spk: bytes = b""
    weight: int = 0


class Description(msgspec.Struct, frozen=True):
    """A sane descriptor. `spk` is its scriptPubKey, `weight` the heaviest satisfaction in weight units.

    `kind` is wpkh, wsh or tr; `ways` says in words what each of its scripts asks for.
    """

    kind: str
    spk: bytes
    weight: int
    ways: tuple[str, ...]


def resolve(descriptor: str) -> bytes:
    """ScriptPubKey of a descriptor output; `InvalidState` with the reason for one that must not be in a state.

    Refused are texts above 512 characters, with a checksum, private keys, wildcards or several paths, scripts that
    are no witness program, and whatever miniscript calls insane. `WorkerUnavailable` if the engine cannot be started.
    """
    return describe(descriptor).spk


@lru_cache(maxsize=REMEMBERED)
def describe(descriptor: str) -> Description:
    """The script and what it asks for; refuses what `resolve` refuses."""
    tree = parse(descriptor)
    answer = _ask(descriptor)
    if answer.problem in ("parse", "sanity"):
        raise refused(likely_fault(tree) or _REASONS[answer.problem])
    if answer.problem:
        raise refused(_REASONS[answer.problem])
    if not can_be_spent(tree):
        raise refused(NEVER)  # the engine lets a dead leaf of a taproot tree pass, a node does not
    if shortens_a_lock(tree):
        raise refused(SHORTENED)  # sane to the engine, but to a node another contract than to a reader
    if branches_in_a_leaf(tree):
        # Nodes that limit data in scripts (Knots) call such a leaf unspendable; a tree never needs one.
        raise refused("a taproot leaf has a branch (OP_IF), which some nodes do not let pass; give each branch a leaf")
    if not is_witness_program(answer.spk) or answer.spk == P2A_SPK:
        raise refused("its script is not a witness program of at most 42 bytes")
    if answer.weight > MAX_SATISFACTION:
        raise refused(f"satisfying it takes {answer.weight} weight units, above {MAX_SATISFACTION}: no node relays it")
    return Description(tree.name, answer.spk, answer.weight, ways(tree))


def _ask(descriptor: str) -> Resolved:
    try:
        raw = _engine().ask(descriptor.encode("ascii"))
    except WorkerUnavailable:
        raise
    except WorkerFailed as failure:
        raise refused("the engine broke on it or gave no answer in time; use a simpler one") from failure
    return msgspec.msgpack.decode(raw, type=Resolved)


@lru_cache(maxsize=1)
def _engine() -> Worker:
    """One for the whole process, started by the first descriptor that anybody brings."""
    return Worker("watchtower.descriptors.engine:answering", seconds=ENGINE_SECONDS)
