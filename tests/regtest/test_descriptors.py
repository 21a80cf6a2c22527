"""Descriptor outputs against a real node: the same scripts, the same sanity, and money that moves."""

from __future__ import annotations

from typing import Any

import pytest

from domain.errors import InvalidState
from tests.regtest.contract_stage import derived_spk
from tests.support.miniscripts import INSANE, REFUSED_TEXTS, SANE, random_descriptor
from watchtower.descriptors import resolve
from watchtower.descriptors.text import branches_in_a_leaf, parse
from watchtower.devnode.regtest import RegtestNode
from watchtower.node.transport import RpcRefused

RANDOM = 400
"""Random descriptors of one run; about two thirds are sane."""

STRICTER_HERE = frozenset(
    {
        "checksum",
        "legacy",
        "nested",
        "bare",
        "raw",
        "combo",
        "rawtr",
        "private key",
        "extended private key",
        "wildcard",
        "several paths",
        "musig",
        "uncompressed key",
        "branch in a leaf",
        "branch in a wrapper",
        "relative lock that is none",
        "relative lock that is cut",
        "relative lock of no seconds",
        "relative lock with other bits",
        "key of nobody",
    }
)
"""Texts that a node reads, and a channel must not use. Only some nodes take branches in a leaf (Core, not Knots)."""


def verdict_of(node: RegtestNode, text: str) -> bytes | None:
    """The node's script; None if it refuses the descriptor."""
    try:
        return derived_spk(node, text)
    except RpcRefused:
        return None


def own_verdict(text: str) -> bytes | None:
    """Ours."""
    try:
        return resolve(text)
    except InvalidState:
        return None


@pytest.mark.parametrize("name", SANE)
def test_scripts_are_those_of_the_node(node: RegtestNode, name: str) -> None:
    """Two independent implementations derive the same script."""
    assert derived_spk(node, SANE[name]) == resolve(SANE[name])


def test_the_node_refuses_what_is_refused_here(node: RegtestNode) -> None:
    """Insane for us is insane for the node; nobody is refused for a fault of our engine."""
    refused = {name: text for name, (text, _) in (INSANE | REFUSED_TEXTS).items() if name not in STRICTER_HERE}

    accepted_by_node = {name for name, text in refused.items() if verdict_of(node, text) is not None}

    assert set() == accepted_by_node


def test_random_descriptors_get_the_same_verdict(node: RegtestNode) -> None:
    """Sane or not, and with which script: whatever node this is, it and we agree on every one."""
    texts = [random_descriptor(seed) for seed in range(RANDOM)]
    verdicts: list[dict[str, Any]] = [
        {"text": text, "node": verdict_of(node, text), "own": own_verdict(text)}
        for text in texts
        if len(text) <= 512 and not branches_in_a_leaf(parse(text))
    ]

    assert [] == [verdict for verdict in verdicts if verdict["node"] != verdict["own"]]
    assert len([verdict for verdict in verdicts if verdict["own"] is not None]) > RANDOM // 4
    assert len([verdict for verdict in verdicts if verdict["own"] is None]) > RANDOM // 10
