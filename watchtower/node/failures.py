"""What a failed exchange with the node means: one typed error, an outcome for the metrics, and a second try or not."""

from __future__ import annotations

import http.client
from typing import NamedTuple

from bitcoinrpc.authproxy import JSONRPCException

from watchtower.node.connection import REPLY_LIMIT, ReplyTooLarge
from watchtower.ports import NodeAuthError, NodeError, NodeUnavailable, NodeWarmingUp

WARMING_UP = -28
IN_INITIAL_DOWNLOAD = -10
QUEUE_TRIES = 3
"""Further tries while the node's work queue is full: it drains within milliseconds; a failed pass waits longer."""

_MADE_BY_LIBRARY = (-342, -343)
"""Codes of python-bitcoinrpc itself: no JSON, no result."""

BROKEN = (
    JSONRPCException,
    OSError,
    http.client.HTTPException,
    ReplyTooLarge,
    NodeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
)
"""What an exchange can raise. The last five come from replies of a wrong shape, inside python-bitcoinrpc or `json`."""


class RpcRefused(NodeError):
    """The node answered with a JSON-RPC error: `code` and `text` are its own words."""

    slug = "node-rpc-error"

    def __init__(self, method: str, code: int, text: str) -> None:
        super().__init__(f"{method}: the node answered {code}: {text}")
        self.method, self.code, self.text = method, code, text


class MethodForbidden(NodeAuthError):
    """The node knows the user and does not allow it this method (403, rpcwhitelist)."""


class Failure(NamedTuple):
    """The error to raise, the outcome to count, and how often the same call on a new connection may be tried."""

    error: NodeError
    outcome: str
    again: int = 0


def failure(method: str, error: Exception, status: int, where: str, seconds: float) -> Failure:
    """Judge what `work` raised; `status` is the HTTP status, 0 if there was no answer."""
    if status == http.client.UNAUTHORIZED:
        text = "the node refused the credentials (401); check rpc_user and rpc_password, or rpc_cookie_path"
        return Failure(NodeAuthError(f"{method}: {text}"), "auth_error", again=1)
    if status == http.client.FORBIDDEN:
        text = "the node does not allow this user the method (403); add it to rpcwhitelist"
        return Failure(MethodForbidden(f"{method}: {text}"), "auth_error")
    if isinstance(error, JSONRPCException) and error.code not in _MADE_BY_LIBRARY:
        refused = refusal(method, error.error)
        return Failure(refused, "rpc_error")
    if status == http.client.SERVICE_UNAVAILABLE:
        text = f"{method}: the node's work queue is full (503)"
        return Failure(NodeUnavailable(text), "transport_error", again=QUEUE_TRIES)
    if isinstance(error, NodeError):
        return Failure(error, "transport_error")
    if isinstance(error, TimeoutError):
        return Failure(NodeUnavailable(f"{method}: no answer from {where} within {seconds:.1f} s"), "timeout", again=1)
    if isinstance(error, (OSError, http.client.HTTPException)):
        text = f"{method}: no answer from {where}: {type(error).__name__} {error}".rstrip()
        return Failure(NodeUnavailable(text), "transport_error", again=1)
    if isinstance(error, ReplyTooLarge):
        return Failure(NodeError(f"{method}: the reply is larger than {REPLY_LIMIT} bytes"), "transport_error")
    text = f"{method}: the reply (HTTP {status}) cannot be read: {type(error).__name__}"
    return Failure(NodeError(text), "transport_error", again=1)


def refusal(method: str, error: object) -> NodeError:
    """The typed form of a JSON-RPC error object, whatever it contains."""
    code = error.get("code") if isinstance(error, dict) else None
    text = error.get("message") if isinstance(error, dict) else None
    if not isinstance(code, int) or not isinstance(text, str):
        return NodeError(f"{method}: the node answered with an error object that cannot be read")
    if code == WARMING_UP:
        return NodeWarmingUp(f"{method}: the node is starting: {text}")
    if code == IN_INITIAL_DOWNLOAD:
        return NodeUnavailable(f"{method}: the node is still downloading the chain: {text}")
    return RpcRefused(method, code, text)
