"""The node: can it be asked, is it the right one, new enough, synced, connected, and will it relay a penalty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from domain.chain import GENESIS_DISPLAY
from watchtower.doctor.case import Case
from watchtower.doctor.finding import Finding, fail, ok, warn
from watchtower.node.failures import MethodForbidden
from watchtower.node.replies import network_name
from watchtower.ports import NodeAuthError, NodeError, NodeWarmingUp

OLDEST_VERSION = 280_000
FEW_PEERS = 4
LAG = 1
"""Blocks behind its headers that are no finding: the node is just taking one."""

USUAL_RELAY_FEE = 0.00001
"""BTC per 1000 vB, one satoshi per vB: what commitments with a static fee reckon with."""


def look(case: Case) -> Iterator[Finding]:
    """Findings about the node of `[node]`."""
    trouble = _unreachable(case)
    if trouble is not None:
        yield trouble
        return
    node = case.settings.node
    yield ok("node.reachable", f"{node.rpc_url} answers {_credentials(case)}")
    chain, network = case.node.find("getblockchaininfo"), case.node.find("getnetworkinfo")
    if chain is not None:
        yield _network(case, chain)
        yield _synced(case, chain)
        yield _pruning(case, chain)
    if network is not None:
        yield _version(network)
        yield from _peers(case, network)
        yield from _relay(network)
    mempool = case.node.find("getmempoolinfo")
    if mempool is not None:
        yield from _policy(mempool)


def _unreachable(case: Case) -> Finding | None:
    """A node that cannot be asked at all. A method that is forbidden shows that it can."""
    url = case.settings.node.rpc_url
    try:
        case.node.get("getblockchaininfo")
    except MethodForbidden:
        return None
    except NodeAuthError:
        return fail("node.credentials", f"{url} refuses the credentials (401)", _right_credentials(case))
    except NodeWarmingUp as error:
        return fail("node.ready", str(error), "wait: the node is loading, this ends by itself")
    except NodeError as error:
        mend = "start bitcoind with server=1, or set node.rpc_url to where it listens"
        return fail("node.reachable", str(error), mend)
    return None


def _credentials(case: Case) -> str:
    node = case.settings.node
    return f"to the user {node.rpc_user}" if node.rpc_user else f"to the cookie {node.rpc_cookie_path}"


def _right_credentials(case: Case) -> str:
    if case.settings.node.rpc_user:
        return "make node.rpc_password fit the rpcauth line of bitcoin.conf, then restart bitcoind"
    return "set node.rpc_cookie_path to the cookie of this node, or node.rpc_user and node.rpc_password"


def _network(case: Case, chain: dict[str, Any]) -> Finding:
    wanted = case.settings.network
    found = network_name(chain["chain"])
    mend = "set network to that of the node, or node.rpc_url to another node; a tower's log belongs to one network"
    if found != wanted:
        return fail("node.network", f"the node follows {found}, the tower is set to {wanted}", mend)
    genesis = case.node.find("getblockhash", 0)
    if wanted in GENESIS_DISPLAY and genesis not in (None, GENESIS_DISPLAY[wanted]):
        return fail("node.network", f"the node says {found}, but its block 0 is {genesis}", mend)
    return ok("node.network", f"{found}, as set")


def _synced(case: Case, chain: dict[str, Any]) -> Finding:
    blocks, headers = chain["blocks"], chain["headers"]
    if chain["initialblockdownload"]:
        hint = "mine a block: regtest waits for a recent one" if case.is_regtest else "wait until it has all blocks"
        return fail("node.synced", f"the node downloads blocks: it has {blocks} of {headers}", hint)
    if headers - blocks > LAG:
        what = f"the node has {blocks} blocks and {headers} headers"
        return fail("node.synced", what, "wait; if it stays, look at its disk and its peers")
    cursor = case.needs.cursor
    if cursor is not None and cursor.height > blocks:
        what = f"the node has {blocks} blocks, the tower has seen block {cursor.height}"
        return fail("node.synced", what, "wait, or point node.rpc_url to a node that is not behind")
    return ok("node.synced", f"all {blocks} blocks that it knows of")


def _pruning(case: Case, chain: dict[str, Any]) -> Finding:
    """Blocks behind the cursor are needed to go on, those since the oldest open funding to read again."""
    if not chain.get("pruned"):
        return ok("node.pruning", "the node keeps all blocks")
    lowest, needs = chain.get("pruneheight", 0), case.needs
    if needs.cursor is not None and lowest > needs.cursor.height + 1:
        what = f"the node keeps blocks from {lowest}; the tower stands at {needs.cursor.height} and needs the next one"
        return fail("node.pruning", what, "give the node peers and time, set [second_node], or use a node with them")
    if needs.oldest_funding is not None and lowest > needs.oldest_funding:
        what = f"the node keeps blocks from {lowest}, the oldest open channel was funded at {needs.oldest_funding}"
        return warn("node.pruning", what, "raise prune= in bitcoin.conf: `watchtower chain rescan` reads from there")
    tip = chain["blocks"]
    return ok("node.pruning", f"pruned; {tip - lowest + 1} blocks are kept, enough for every open channel")


def _version(network: dict[str, Any]) -> Finding:
    number, name = network["version"], network.get("subversion", "")
    if number < OLDEST_VERSION:
        mend = "use Bitcoin Core 28 or later, or Bitcoin Knots of the same age: penalties are version 3 transactions"
        return fail("node.version", f"{name} ({number}) is too old", mend)
    return ok("node.version", name.strip("/") or str(number))


def _peers(case: Case, network: dict[str, Any]) -> Iterator[Finding]:
    if not network.get("networkactive", True):
        yield fail("node.peers", "the node's network is switched off", "run: bitcoin-cli setnetworkactive true")
        return
    outward, all_of_them = network.get("connections_out", 0), network.get("connections", 0)
    if case.is_regtest:
        yield ok("node.peers", f"{all_of_them} peers; on regtest none are needed")
    elif not all_of_them:
        mend = "give the node a way out: a node without peers looks healthy and sees nothing"
        yield fail("node.peers", "the node has no peers", mend)
    elif outward < FEW_PEERS:
        mend = "check the node's network: with few peers of its own choice it can be cut off"
        yield warn("node.peers", f"{outward} outward connections of {all_of_them}", mend)
    else:
        yield ok("node.peers", f"{all_of_them} peers, {outward} of them outward")


def _relay(network: dict[str, Any]) -> Iterator[Finding]:
    if not network.get("localrelay", True):
        mend = "remove blocksonly=1: breaches would be seen in blocks only, a block later"
        yield warn("node.relay", "the node takes no transactions from others", mend)
    warnings = network.get("warnings") or []
    for text in [warnings] if isinstance(warnings, str) else warnings:
        yield warn("node.warnings", f"the node warns: {text}", "see what the node's log says about it")


def _policy(mempool: dict[str, Any]) -> Iterator[Finding]:
    """Core has no `truc_policy`: it enforces the rules always."""
    found = mempool.get("truc_policy", "enforce")
    if found != "enforce":
        what = f"version 3 rules are on '{found}': a better penalty does not replace a cheater's child"
        yield warn("node.policy", what, "add corepolicy=1 to bitcoin.conf and restart bitcoind")
    else:
        yield ok("node.policy", "version 3 rules are enforced")
    if mempool.get("minrelaytxfee", 0) > USUAL_RELAY_FEE:
        what = f"the node relays from {float(mempool['minrelaytxfee'] * 100_000):g} sat/vB on"
        yield warn("node.relay_fee", what, "lower minrelaytxfee to 0.00001 or leave it out")
    if not mempool.get("loaded", True):
        yield warn("node.mempool", "the node still loads its mempool", "wait; this ends by itself")
