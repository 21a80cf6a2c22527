"""What the tower's RPC user may do: every method of the whitelist is tried with arguments that can do nothing."""

from __future__ import annotations

from collections.abc import Iterator

from watchtower.doctor.case import Case
from watchtower.doctor.finding import Finding, fail, ok, warn
from watchtower.node.failures import MethodForbidden, RpcRefused
from watchtower.ports import ALLOWED_METHODS, NodeError

NO_HASH = "0" * 64
"""No block and no transaction has it: the node answers that it knows none, or null."""

HARMLESS: dict[str, tuple[object, ...]] = {
    "getbestblockhash": (),
    "getblockchaininfo": (),
    "getnetworkinfo": (),
    "getpeerinfo": (),
    "getzmqnotifications": (),
    "getblockhash": (0,),
    "getblockheader": (NO_HASH,),
    "getblock": (NO_HASH,),
    "getblockfrompeer": (NO_HASH, 0),
    "getrawmempool": (False, False, "one argument too many: the list may be long"),
    "getmempoolinfo": (),
    "getmempoolentry": (NO_HASH,),
    "gettxspendingprevout": ([],),
    "getrawtransaction": (NO_HASH,),
    "gettxout": (NO_HASH, 0),
    "testmempoolaccept": ([],),
    "sendrawtransaction": ("",),
    "submitpackage": ([],),
    "estimatesmartfee": (6,),
}
"""Arguments per method. The node looks at the right first, so an answer about the arguments proves the right."""

UNKNOWN_METHOD = -32601
NOT_NEEDED = "uptime"
"""A harmless method that is not on the list: a user that may call it may call more."""


def look(case: Case) -> Iterator[Finding]:
    """Findings about the rights of the node's user; nothing while the node cannot be asked."""
    if isinstance(_error(case, "getblockchaininfo"), NodeError) and not _is_forbidden(case, "getblockchaininfo"):
        return
    forbidden = [method for method in ALLOWED_METHODS if _is_forbidden(case, method)]
    missing = [method for method in ALLOWED_METHODS if _is_unknown(case, method)]
    if missing:
        what = f"the node does not know {', '.join(missing)}"
        yield fail("rights.methods", what, "use a node of version 28 or later that is built with ZMQ")
    if forbidden:
        mend = "add to rpcwhitelist of this user in bitcoin.conf and restart bitcoind: " + ",".join(forbidden)
        yield fail("rights.methods", f"the node refuses {', '.join(forbidden)} (403)", mend)
    if not missing and not forbidden:
        yield ok("rights.methods", f"all {len(ALLOWED_METHODS)} methods that the tower calls are allowed")
    yield _surplus(case)


def _surplus(case: Case) -> Finding:
    if _is_forbidden(case, NOT_NEEDED):
        return ok("rights.surplus", "no more than these: an rpcwhitelist holds")
    if case.is_regtest:
        return ok("rights.surplus", "the user may call everything; on regtest nothing is at stake")
    mend = "use the rpcauth and rpcwhitelist lines of `watchtower init`, with rpcwhitelistdefault=0"
    return warn("rights.surplus", "the user may call more than the tower needs, wallets included", mend)


def _is_forbidden(case: Case, method: str) -> bool:
    return isinstance(_error(case, method), MethodForbidden)


def _is_unknown(case: Case, method: str) -> bool:
    error = _error(case, method)
    return isinstance(error, RpcRefused) and error.code == UNKNOWN_METHOD


def _error(case: Case, method: str) -> NodeError | None:
    try:
        case.node.get(method, *HARMLESS.get(method, ()))
    except NodeError as error:
        return error
    return None
