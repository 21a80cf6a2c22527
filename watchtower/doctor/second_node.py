"""The second node, if there is one: another pair of eyes is worth something only if it is another one and sees."""

from __future__ import annotations

from collections.abc import Iterator

from watchtower.doctor.case import Case
from watchtower.doctor.finding import Finding, ok, warn
from watchtower.node.replies import network_name
from watchtower.ports import NodeError

APART = 2
"""Blocks between the two nodes from which one of them is stuck."""


def look(case: Case) -> Iterator[Finding]:
    """Findings about `[second_node]`; never a failure, because the tower goes on without it."""
    url = case.settings.second_node.rpc_url
    if case.second is None:
        yield ok("second_node.reachable", "none is set; it is optional")
        return
    if url == case.settings.node.rpc_url:
        mend = "set second_node.rpc_url to a node that somebody else runs, or remove it"
        yield warn("second_node.reachable", "it is the same node as the first", mend)
        return
    try:
        chain = case.second.get("getblockchaininfo")
    except NodeError as error:
        yield warn("second_node.reachable", str(error), "start it, or mend second_node.rpc_url and its credentials")
        return
    found = network_name(chain["chain"])
    if found != case.settings.network:
        what = f"it follows {found}, the tower is set to {case.settings.network}"
        yield warn("second_node.network", what, "set second_node.rpc_url to a node of the right network")
        return
    yield ok("second_node.reachable", f"{url} answers")
    own = case.node.find("getblockchaininfo")
    if own is None:
        return
    ahead = chain["blocks"] - own["blocks"]
    if ahead >= APART:
        yield warn(
            "second_node.tip", f"it is {ahead} blocks ahead", "look at the peers of the first node: is it cut off?"
        )
    elif -ahead >= APART:
        yield warn("second_node.tip", f"it is {-ahead} blocks behind", "look at the second node: is it stuck?")
    else:
        yield ok("second_node.tip", "both nodes are at the same height, give or take one")
